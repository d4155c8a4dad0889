"""A blob that is read from front to back, by one request: what was asked for is on its way while the last is worked on.

Promise: no more is ahead of who reads than `_AHEAD` pieces; who reads no further lets go of the connection. Not here:
what brings the bytes, and takes them up where they broke off (`registry`).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from sapwood.store.requests import Requests

__all__ = ["Bringing", "Streamable", "Streamed"]

Bringing = Callable[[Callable[[bytes], object]], None]
"""Gives all bytes of something, in order, to who takes them."""

# Of 256 KiB each, as they come.
_AHEAD = 32
_PATIENCE_S = 0.5


class _Unwanted(Exception):
    """Nobody reads on."""


class Streamed:
    """Bytes in their order, once; as `store.beside.Ranges` of which each begins where the last one ended."""

    def __init__(self, url: str, size: int, requests: Requests, tail: bytes, bring: Bringing) -> None:
        self.url = self.place = url
        self.size, self.requests, self.tail = size, requests, tail
        self.version = ""
        self._bring = bring
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._thread: threading.Thread | None = None
        self._ended = False
        self._left = b""
        self._at = 0

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of the one range that comes next. Errors are those of what brings them."""
        [(offset, length)] = ranges
        assert offset == self._at
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="sapwood-stream")
            self._thread.start()
        pieces, missing = [], length
        while missing:
            piece = self._left or self._pieces.get()
            if isinstance(piece, BaseException):
                raise piece
            pieces.append(piece[:missing])
            self._left = piece[missing:]
            missing -= len(pieces[-1])
        self._at += length
        return [b"".join(pieces)]

    def end(self) -> None:
        """Want no more: what is on its way is let go."""
        self._ended = True

    def _work(self) -> None:
        with contextlib.suppress(_Unwanted):
            try:
                self._bring(self._put)
            except _Unwanted:
                raise
            except BaseException as error:  # noqa: BLE001 - raised again by who reads
                self._put(error)

    def _put(self, what: bytes | BaseException) -> None:
        while not self._ended:
            with contextlib.suppress(queue.Full):
                return self._pieces.put(what, timeout=_PATIENCE_S)
        raise _Unwanted

    def check(self) -> None:
        """Do nothing: what is brought is proved by its digest."""

    def reconnect(self) -> None:
        """Do nothing: what brings it makes its own connections."""


@runtime_checkable
class Streamable(Protocol):
    """What can be read by one request, from front to back."""

    def streamed(self) -> Streamed:
        """Return the same bytes to be read once, in their order."""
        ...
