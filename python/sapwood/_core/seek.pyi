"""Seek indexes: made of archives that have no TOC, and read."""

import os
from collections.abc import Callable
from typing import Any, final

from .filemap import FileMap

__all__ = ["Found", "SeekIndex", "build"]

@final
class Found:
    """Where in an index its text lies."""

    @staticmethod
    def read(tail: bytes, size: int) -> Found:
        """Return it of an index of `size` bytes, of which `tail` are the last: 80 or more.

        Raises:
            CorruptError: `damaged`: it is none, or was cut.
            FormatError: `format-newer`.
        """
    @property
    def text(self) -> tuple[int, int]:
        """Offset and length."""
    @property
    def digest(self) -> str:
        """Of the text, which `SeekIndex.open` proves."""

@final
class SeekIndex:
    """An index: the file map of an archive, and how its frames are entered."""

    @staticmethod
    def open(found: Found, stored: bytes, *, is_layer: bool = False) -> SeekIndex:
        """Read it from its text as it lies there.

        That of a layer may have hard links to what layers below it have; only `layers.merge` makes a tree of it.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
            FormatError: `format-newer`.
        """
    @property
    def file_map(self) -> FileMap:
        """All of it; its one pack is the archive."""
    @property
    def digest(self) -> str:
        """Of its text."""
    def is_of(self, size: int, first: bytes, last: bytes) -> bool:
        """Say whether it is that of an archive of `size` bytes, of which these, 64 KiB or all, are first and last."""
    def lead(self, offset: int) -> tuple[bytes, int, int]:
        """Return how the lead of the frame at `offset` begins, and offset and length of its rest in the index.

        Raises:
            NotFoundError: `missing`: no frame begins there.
        """

def build(
    input: int,
    name: str | os.PathLike[str],
    output: int,
    path: str | os.PathLike[str],
    *,
    temporary: str | os.PathLike[str],
    is_layer: bool = False,
    ends: tuple[int, bytes, bytes] | None = None,
    progress: Callable[[int, int, int, int], object] | None = None,
) -> dict[str, Any]:
    """Write the index of the archive in the open file `input`, called `name`, to the open file `output`, called `path`.

    `input` may be a pipe, if its size, and its first and last 64 KiB, or all, are told as `ends`. What is
    known of many entries is kept in the directory `temporary` meanwhile. A layer may have hard links to
    what is not in it.
    Return `tree`, `map`, `entries`, `bytes`, `checkpoints` and `size` as `sapwood.archive.seek.Indexed` has them.

    Raises:
        CorruptError: `damaged`: it is no tar, or cannot be unpacked; an entry is named.
        InvalidInputError: `archive-not-seekable`.
        UnavailableError: `io`, `disk-full`.
    """
