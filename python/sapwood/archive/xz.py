"""xz: what `lzma.LZMAFile` reads, in bounded memory.

Promise: a header that asks for more than `MOST` bytes is an error with a remedy, whatever the stream has.
"""

from __future__ import annotations

import lzma
from typing import Protocol

from sapwood.errors import CorruptError, InvalidInputError, SapwoodError

__all__ = ["MAGIC", "XzReader", "explained"]

MAGIC = b"\xfd7zXZ\0"
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


def explained(error: Exception, name: str) -> SapwoodError:
    """Return what a decompressor's error means for the tar `name`: `archive-window-too-large` or `archive-corrupt`."""
    if "Memory usage limit" in str(error):
        return InvalidInputError(
            f"{name}: to decompress it takes more than {MOST >> 20} MiB of memory",
            kind="archive-window-too-large",
            hint="decompress it yourself, and give that: xz -dc TAR.xz > TAR",
        )
    return CorruptError(f"{name} is damaged: {error}", kind="archive-corrupt", hint="get the tar again")
