"""Where one file goes that is written from front to back: a path, stdout, or an object in a bucket.

Promise: it has its name when all of it is there, and not before; what fails leaves nothing, what is killed at most a
file beside it, `.NAME.….sapwood-partial`, or parts of an upload, which the bucket's rules clear away. What is
interrupted leaves what was there, or all of the new, if Ctrl-C came when that was done but not yet said; never anything
else. A file that is replaced hands on its permissions. Until the end a file has no name, if the file system knows such
files, so that who packs its directory meanwhile finds neither it nor another time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sapwood.destination import writing
from sapwood.errors import InvalidInputError, NotFoundError, SapwoodError
from sapwood.nameless import give_name, open_nameless

if TYPE_CHECKING:
    from sapwood.store.bucket import BucketObjects

__all__ = ["Sink", "open_sink"]

# The memory of parts under way is that of a few; an upload has 10,000 at most, which the server would say at the end.
_PART = 16 << 20
_PARTS_AT_ONCE = 2
_MOST = 10_000 * _PART
_BUCKETS = ("s3://", "gs://", "az://")


@dataclass(frozen=True)
class Sink:
    """An open descriptor, its name, a directory for what must be kept meanwhile, the real path of what is replaced."""

    fd: int
    name: str
    temporary: str
    replaced: str | None = None


@contextmanager
def open_sink(where: str) -> Iterator[Sink]:
    """Give what is written in the block to `where` when it ends well: a path, a bucket's URL, or `-`, stdout.

    Raises:
        InvalidInputError: `bad-destination`: a URL that one cannot write to, or no name; `is-a-directory`;
            `object-too-large` for an upload, as soon as so much was written.
        NotFoundError: `path-missing`: where it would be.
        BrokenPipeError: nobody reads stdout any more.
        UnavailableError, DeniedError: the disk, or the server.
    """
    if where == "-":
        with _stdout() as sink:
            yield sink
    elif where.startswith(_BUCKETS):
        with _object(where) as sink:
            yield sink
    elif not where or "://" in where:
        raise _bad(where or "''", "one can write to s3://, gs://, az://, to a path, or to - (stdout)")
    else:
        with _file(where) as sink:
            yield sink


@contextmanager
def _stdout() -> Iterator[Sink]:
    try:
        yield Sink(1, "stdout", tempfile.gettempdir())
    except SapwoodError:
        poll = select.poll()
        poll.register(1, 0)
        if any(events & select.POLLERR for _, events in poll.poll(0)):
            raise BrokenPipeError from None
        raise


@contextmanager
def _file(where: str) -> Iterator[Sink]:
    path = os.path.realpath(where)
    try:
        before = os.stat(path).st_mode
    except FileNotFoundError:
        before = None
    mode = stat.S_IFREG | 0o666 if before is None else before
    if stat.S_ISDIR(mode) or where.endswith("/"):
        raise InvalidInputError(f"{where} is a directory", kind="is-a-directory", hint="name a file in it")
    if not stat.S_ISREG(mode):  # a FIFO or a device is written to, not replaced
        with writing(where):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield Sink(fd, where, tempfile.gettempdir())
        finally:
            os.close(fd)
        return
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        raise NotFoundError(f"{folder} is missing", kind="path-missing", hint=f"mkdir -p {folder}")
    partial = os.path.join(folder, f".{name[:180]}.{secrets.token_hex(8)}.sapwood-partial")
    with writing(where):
        nameless = open_nameless(folder, os.O_RDWR, mode & 0o777)
        named = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(partial, named, mode & 0o777) if nameless is None else nameless
    try:
        with writing(where):
            if before is not None and stat.S_IMODE(os.fstat(fd).st_mode) != before & 0o777:
                os.fchmod(fd, before & 0o777)
        yield Sink(fd, where, folder, None if before is None else path)
        with writing(where):
            os.fsync(fd)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if nameless is not None:
                    give_name(fd, partial)
                os.rename(partial, path)
                os.fsync(handle)
            finally:
                os.close(handle)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    finally:
        os.close(fd)


@contextmanager
def _object(where: str) -> Iterator[Sink]:
    objects, key = _bucket(where)
    reading, fd = os.pipe()
    upload = _Upload(objects, key, reading)
    upload.start()
    try:
        yield Sink(fd, where, tempfile.gettempdir())
    except BaseException:
        upload.give_up()
        os.close(fd)
        upload.wait()
        # If the server failed, the writer only met a closed pipe.
        if upload.error is not None:
            raise upload.error from None
        raise
    os.close(fd)
    upload.wait()
    if upload.error is not None:
        raise upload.error


class _GivenUp(Exception):
    pass


class _Upload(threading.Thread):
    """Sends what comes out of a pipe as one object, in parts; nothing is there before the last."""

    def __init__(self, objects: BucketObjects, key: str, reading: int) -> None:
        super().__init__(daemon=True, name="sapwood-upload")
        self._objects, self._key, self._reading = objects, key, reading
        self._given_up = threading.Event()
        self._called = f"{objects.url}/{key}"
        self._too_large: InvalidInputError | None = None
        self.error: BaseException | None = None

    def give_up(self) -> None:
        self._given_up.set()

    def wait(self) -> None:
        while self.is_alive():
            self.join(0.1)

    def _pieces(self) -> Iterator[bytes]:
        size = 0
        while piece := os.read(self._reading, 1 << 20):
            size += len(piece)
            if size > _MOST:
                self._too_large = InvalidInputError(
                    f"{self._called}: it has more than {_MOST >> 30} GiB, the most that is uploaded",
                    kind="object-too-large",
                    hint="write it to a file, and upload that in larger parts",
                )
                raise self._too_large
            yield piece
        # The end of the pipe is that of the archive only if the writer says so.
        if self._given_up.is_set():
            raise _GivenUp

    def run(self) -> None:
        import obstore

        try:
            with self._objects.asking("put", self._key):
                obstore.put(
                    _patient(self._objects),
                    self._key,
                    self._pieces(),
                    use_multipart=True,
                    chunk_size=_PART,
                    max_concurrency=_PARTS_AT_ONCE,
                )
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            if not self._given_up.is_set():
                self.error = self._too_large or error
        finally:
            os.close(self._reading)


def _patient(objects: BucketObjects) -> Any:
    """Return a client that itself sends a part again: nobody else has what went through the pipe."""
    from sapwood.store.attempts import ATTEMPTS, BEGIN_S, write_limit_s

    client: Any = objects.client(write_limit_s(_PART, None))
    return type(client)(
        prefix=client.prefix,
        config=client.config,
        client_options=client.client_options,
        retry_config={"max_retries": ATTEMPTS, "retry_timeout": timedelta(seconds=BEGIN_S)},
    )


def _bucket(where: str) -> tuple[BucketObjects, str]:
    from sapwood.store.bucket import BucketObjects
    from sapwood.store.objects import open_objects

    folder, _, key = where.rpartition("/")
    if not key or not urlsplit(folder).netloc:
        raise _bad(where, "name an object: s3://BUCKET/NAME.tar.gz")
    objects = open_objects(folder)[0]
    if not isinstance(objects, BucketObjects):
        raise _bad(where, "it names no bucket")
    return objects, key


def _bad(where: str, hint: str) -> InvalidInputError:
    return InvalidInputError(f"{where}: one cannot write an archive there", kind="bad-destination", hint=hint)
