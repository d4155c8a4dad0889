"""Very many small files of random bytes, alike on every machine, no two the same: each a chunk that stays as large."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.corpus import say


def small_files(tree: Path, directories: int, files: int, size: int) -> list[Path]:
    """Make so many directories with so many files of `size` bytes each; return the directories in their order."""
    say(f"making {directories * files:,} files in {tree}")
    tree.mkdir(parents=True)
    made = [tree / f"d{number:05}" for number in range(directories)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(_fill, files=files, size=size), made, chunksize=16))
    return made


def _fill(directory: Path, files: int, size: int) -> None:
    directory.mkdir()
    for number in range(files):
        made = os.open(directory / f"file-{number:04}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
        os.write(made, hashlib.shake_128(f"{directory.name}/{number}".encode()).digest(size))
        os.close(made)
