"""A large file, alike on every machine: by turns a run of text and a run of random bytes, none of them twice."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.corpus import say


def large_file(path: Path, texts: Sequence[Path], size: int, run: int) -> None:
    """Make the file of `size` bytes in runs of `run` bytes, text of `texts` first.

    When all text has been used it comes again with each byte moved up by one: as compressible, but nothing known.
    """
    say(f"making {size:,} bytes in {path}")
    with path.open("xb") as file:
        file.truncate(size)
    with ProcessPoolExecutor(2) as pool:
        writing = [pool.submit(_random_run, path, at, min(run, size - at)) for at in range(run, size, 2 * run)]
        text = _text(texts)
        left = b""
        with path.open("r+b") as file:
            for at in range(0, size, 2 * run):
                pieces, length = [left], len(left)
                while length < run:
                    pieces.append(next(text))
                    length += len(pieces[-1])
                whole = b"".join(pieces)
                left = whole[run:]
                file.seek(at)
                file.write(whole[: min(run, size - at)])
        for written in writing:
            written.result()


def change(path: Path, at: int, length: int) -> None:
    """Write bytes over those at `at` that were nowhere before."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random("changed").randbytes(length))


def _random_run(path: Path, at: int, run: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(at).randbytes(run))


def _text(texts: Sequence[Path]) -> Iterator[bytes]:
    """Yield the texts without end."""
    moved = 0
    while True:
        table = bytes((byte + moved) % 256 for byte in range(256))
        for path in texts:
            yield path.read_bytes().translate(table)
        moved += 1
