"""Edits as people make them, alike on every machine: a line more in some files, drawn by a seed.

Promise: when the context ends every file is as it was.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path


class Edits:
    """Files that are edited together, again and again; made by `edits`."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._before = [path.read_bytes() for path in paths]
        self._numbers = count()

    def again(self) -> None:
        """Let each end in a line that it never had."""
        number = next(self._numbers)
        for path, before in zip(self.paths, self._before, strict=True):
            path.write_bytes(before + b"// edit %d\n" % number)

    def undo(self) -> None:
        """Give each what it had."""
        for path, before in zip(self.paths, self._before, strict=True):
            path.write_bytes(before)


@contextmanager
def edits(paths: Sequence[Path]) -> Iterator[Edits]:
    """Give the edits of these files for the life of the context."""
    made = Edits(paths)
    try:
        yield made
    finally:
        made.undo()


def drawn(tree: Path, number: int, seed: int) -> list[Path]:
    """Return as many files below `tree`, drawn by `seed`."""
    return random.Random(seed).sample(files(tree), number)


def files(tree: Path) -> list[Path]:
    """Return the files below `tree`, sorted."""
    below = (Path(folder, name) for folder, _, names in os.walk(tree) for name in names)
    return sorted(path for path in below if not path.is_symlink())


def compressed(paths: Sequence[Path]) -> int:
    """Return the bytes of these files, each by itself compressed by `zstd -1`."""
    return len(subprocess.run(["zstd", "-q", "-1", "-c", *paths], check=True, stdout=subprocess.PIPE).stdout)
