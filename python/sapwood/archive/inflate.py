"""xz and bzip2: what the core does not decompress, in bounded memory.

Promise: a header of xz that asks for more than `MOST` bytes is an error with a remedy, whatever the stream has.
"""

from __future__ import annotations

import bz2
import io
import lzma
from typing import IO, Any, Protocol

from sapwood.errors import CorruptError, InvalidInputError, SapwoodError

__all__ = ["LEAD", "PIECE", "XzReader", "explained", "inflates", "inflating"]

_XZ = b"\xfd7zXZ\0"
_BZ2 = b"BZh"
LEAD = len(_XZ)
"""By so many of its first bytes a stream is known."""
PIECE = 1 << 20
"""What is read and written at a time."""
# What xz -9 writes takes half of it.
MOST = 128 << 20


class _Source(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


class XzReader:
    """Streams of xz end to end, with zeros between and behind them."""

    def __init__(self, file: _Source) -> None:
        self._file = file
        self._data = b""
        self._decoder: lzma.LZMADecompressor | None = None

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises:
            lzma.LZMAError, EOFError: it is damaged, or asks for too much; see `explained`.
        """
        while True:
            if self._decoder is None:
                while not self._data.strip(b"\0"):
                    self._data = self._file.read(size) or b""
                    if not self._data:
                        return b""
                self._data = self._data.lstrip(b"\0")
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST)
            if self._decoder.needs_input and not self._data:
                self._data = self._file.read(size) or b""
                if not self._data:
                    raise EOFError("it ends within a stream")
            piece = self._decoder.decompress(self._data, size)
            self._data = b""
            if self._decoder.eof:
                self._data, self._decoder = self._decoder.unused_data, None
            if piece:
                return piece

    def close(self) -> None:
        """Give back the memory."""
        self._decoder = None


def inflates(first: bytes) -> bool:
    """Say whether a stream that begins so is none for the core."""
    return first.startswith((_XZ, _BZ2))


def inflating(stored: IO[bytes] | io.BufferedReader[Any], first: bytes) -> XzReader | bz2.BZ2File | None:
    """Return what reads the plain bytes of `stored`, which begins with `first`; None if that is for the core."""
    if first.startswith(_XZ):
        return XzReader(stored)
    return bz2.BZ2File(stored) if first.startswith(_BZ2) else None


def explained(error: Exception, name: str) -> SapwoodError | None:
    """Return what a decompressor's error means for the tar `name`: `archive-window-too-large` or `archive-corrupt`.

    None if it is none of a decompressor.
    """
    # bz2 tells damage without a number.
    if not isinstance(error, lzma.LZMAError | EOFError) and (not isinstance(error, OSError) or error.errno is not None):
        return None
    if "Memory usage limit" in str(error):
        return InvalidInputError(
            f"{name}: to decompress it takes more than {MOST >> 20} MiB of memory",
            kind="archive-window-too-large",
            hint="decompress it yourself, and give that: xz -dc TAR.xz > TAR",
        )
    return CorruptError(f"{name} is damaged: {error}", kind="archive-corrupt", hint="get the tar again")
