"""A tar to be read once, from front to back: a file, stdin, or an object on a server, plain or compressed.

Promise: nothing of it is kept but what is on its way; what cannot be read or decompressed is an error of `check`, never
the end of the tar. Not here: gzip and zstd, which the core decompresses, and what a tar is.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from sapwood.archive.inflate import LEAD, PIECE, explained, inflates, inflating
from sapwood.archive.opening import open_file, require_bytes
from sapwood.errors import InvalidInputError, SapwoodError, UnavailableError
from sapwood.store.archive import open_ranges
from sapwood.store.beside import Ranges

__all__ = ["TarSource", "as_it_lies", "made", "open_source"]

# Of a server, a request.
_RANGE = 8 << 20


@dataclass
class TarSource:
    """An open descriptor that gives the tar, what it is called, and the bytes it takes where it lies, if known."""

    fd: int
    name: str
    stored: int | None
    _failed: list[BaseException] = field(default_factory=list, repr=False)

    def check(self) -> None:
        """Raise what ended the stream too early, if anything has.

        Raises:
            InvalidInputError: `archive-window-too-large`.
            CorruptError: `archive-corrupt`: what xz or bzip2 made cannot be decompressed.
            UnavailableError, DeniedError, NotFoundError, ConflictError: it cannot be read any further.
        """
        if self._failed:
            raise self._failed[0]


@contextmanager
def open_source(what: str | os.PathLike[str]) -> Iterator[TarSource]:
    """Open the tar at a path or URL, or `-`, stdin.

    Raises:
        NotFoundError: `path-missing`, `object-missing`.
        InvalidInputError: `not-a-file`; `invalid`: it is empty; `bad-store-url`, `store-kind-unknown`.
        UnavailableError, DeniedError: it cannot be read.
    """
    text = os.fspath(what)
    if "://" in text:
        ranges = open_ranges(text)
        with _fed(_of_server(ranges), text, ranges.size) as source:
            yield source
        return
    name = "stdin" if text == "-" else text
    fd = os.dup(0) if text == "-" else open_file(text)
    seen = os.fstat(fd)
    stored = seen.st_size if stat.S_ISREG(seen.st_mode) else None
    try:
        require_bytes(fd, name)
    except InvalidInputError:
        os.close(fd)
        raise
    if stored is not None and not inflates(_first(fd)):
        try:
            yield TarSource(fd, name, stored)
        finally:
            os.close(fd)
    else:
        # The thread that reads closes it, when it does not wait for it any more.
        file = os.fdopen(fd, "rb", buffering=0)
        with _fed(file.read, name, stored, file.close) as source:
            yield source


@contextmanager
def as_it_lies(ranges: Ranges) -> Iterator[TarSource]:
    """Give all bytes of an object on a server, nothing decompressed."""
    with _fed(_of_server(ranges), ranges.url, ranges.size, inflated=False) as source:
        yield source


@contextmanager
def made(name: str, write: Callable[[IO[bytes]], None]) -> Iterator[TarSource]:
    """Give what `write` writes, which another thread lets it do as it is read."""
    out, into = os.pipe2(os.O_CLOEXEC)
    source = TarSource(out, name, None)

    def work() -> None:
        with contextlib.suppress(OSError), open(into, "wb", buffering=0) as pipe:
            try:
                write(pipe)
            except BrokenPipeError:  # nobody wants it any more
                pass
            except BaseException as error:  # noqa: BLE001 - raised again by whoever reads
                source._failed.append(error)

    thread = threading.Thread(target=work, daemon=True, name="sapwood-tar")
    thread.start()
    try:
        yield source
    finally:
        os.close(out)
        # It reads what its caller is about to remove.
        thread.join()


def _first(fd: int) -> bytes:
    return os.pread(fd, LEAD, os.lseek(fd, 0, os.SEEK_CUR))


def _of_server(ranges: Ranges) -> _Read:
    """Return what reads on in an object with each call."""
    at = 0

    def read(_: int) -> bytes:
        nonlocal at
        length = min(_RANGE, ranges.size - at)
        if length == 0:
            ranges.check()
            return b""
        [data] = ranges.read([(at, length)])
        at += length
        return data

    return read


_Read = Callable[[int], bytes]


class _Raw(io.RawIOBase):
    """What `read` gives, never less at a time than tells how it is compressed."""

    def __init__(self, read: _Read) -> None:
        self._read = read
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._left or self._read(len(buffer))
        while 0 < len(data) < LEAD and (more := self._read(len(buffer))):
            data += more
        now, self._left = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(now)] = now
        return len(now)


@contextmanager
def _fed(
    read: _Read,
    name: str,
    stored: int | None,
    close: Callable[[], None] = lambda: None,
    *,
    inflated: bool = True,
) -> Iterator[TarSource]:
    """Give a pipe into which a thread writes what `read` gives, if `inflated`, decompressed where the core cannot."""
    out, into = os.pipe2(os.O_CLOEXEC)
    source = TarSource(out, name, stored)
    # A daemon: after an error nobody waits for bytes that may never come.
    thread = threading.Thread(target=_feed, args=(read, into, source, close, inflated), daemon=True, name="sapwood-tar")
    thread.start()
    try:
        yield source
    finally:
        os.close(out)


def _feed(read: _Read, into: int, source: TarSource, close: Callable[[], None], inflated: bool) -> None:
    try:
        # Closed after the error is known: whoever reads to the end then finds it.
        with open(into, "wb", buffering=0) as pipe:
            try:
                stored = io.BufferedReader(_Raw(read), PIECE)
                plain = (inflated and inflating(stored, stored.peek(LEAD))) or stored
                while piece := plain.read(PIECE):
                    left = memoryview(piece)
                    while left:
                        left = left[pipe.write(left) :]
            except BrokenPipeError:  # nobody wants it any more
                pass
            except BaseException as error:  # noqa: BLE001 - raised again by whoever reads
                source._failed.append(_explained(error, source.name))
    except OSError:  # as above, when it is closed
        pass
    finally:
        close()


def _explained(error: BaseException, name: str) -> BaseException:
    if isinstance(error, SapwoodError) or not isinstance(error, Exception):
        return error
    told = explained(error, name)
    if told is None:
        if not isinstance(error, OSError):
            return error
        told = UnavailableError(f"cannot read {name}: {error.strerror}", kind="io")
    told.__cause__ = error
    return told
