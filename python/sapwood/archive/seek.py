"""Seek indexes: what it takes to read single files of an archive that has no TOC. Bytes: docs/archive.md, "Seek index".

Promise: what is written says of which archive it is, and has a digest of all that will be read from it. Not here: where
it lies and what becomes of it when something fails (`sink`).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from sapwood._core.seek import Found, SeekIndex, build
from sapwood.errors import CorruptError
from sapwood.progress import OnProgress, counter

__all__ = ["ENDING", "Found", "Indexed", "SeekIndex", "write_index"]

# Behind the archive's name, that of its index.
ENDING = ".sapwood"


@dataclass(frozen=True)
class Indexed:
    """An index that was written. Sizes in bytes."""

    tree: str
    map: str
    """Digest of the index's text, by which the archive is known."""
    entries: int
    bytes: int
    """Of all files."""
    checkpoints: int
    size: int
    """Of the index."""
    seconds: float


def write_index(
    archive: int,
    name: str | os.PathLike[str],
    output: int,
    path: str | os.PathLike[str],
    *,
    temporary: str | os.PathLike[str],
    is_layer: bool = False,
    ends: tuple[int, bytes, bytes] | None = None,
    progress: OnProgress | None = None,
) -> Indexed:
    """Write the index of the archive that is open as `archive`, called `name`, to the descriptor `output`.

    A pipe is as good, if its size, and its first and last 64 KiB, or all, are told as `ends`. What is
    known of many entries is kept in the directory `temporary` meanwhile. A layer of an image may have hard links to
    what the layers below it have.

    Raises:
        CorruptError: `archive-corrupt`: it is no tar, or cannot be unpacked; an entry is named.
        InvalidInputError: `archive-not-seekable`: it cannot be entered anywhere near most of its files.
        UnavailableError: `io`, `disk-full`.
    """
    started = time.monotonic()
    try:
        built = build(
            archive,
            name,
            output,
            path,
            temporary=temporary,
            is_layer=is_layer,
            ends=ends,
            progress=counter(progress),
        )
    except CorruptError as error:
        raise CorruptError(str(error), kind="archive-corrupt", hint="get the archive again") from error
    return Indexed(**built, seconds=time.monotonic() - started)
