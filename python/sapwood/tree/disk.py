"""Files and directories on disk, reached without following a symlink below the root, however deep they lie.

Promise: content that is given is that of the digest or of the `lstat` it is asked for by; anything else is an error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sapwood.errors import DeniedError, NotFoundError, SapwoodError, UnavailableError
from sapwood.tree.source import shown

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["changed", "opened_directory", "opened_file", "read_proved", "seen_of"]

_PIECE = 1 << 20
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def seen_of(found: os.stat_result) -> tuple[int, ...]:
    """Return what tells that a file was touched."""
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def opened_directory(root: bytes, path: bytes) -> Iterator[int]:
    """Open the directory at `path` below `root`; errors as `opened_file`."""
    whole = os.path.join(root, path)
    with _named(whole):
        # The root itself may be named through a symlink.
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in filter(None, path.split(b"/")):
            with _named(whole):
                below = os.open(name, _STEP, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


@contextmanager
def opened_file(root: bytes, path: bytes) -> Iterator[BinaryIO]:
    """Open a regular file: neither through a symlink nor waiting for the writer of a FIFO that took its place.

    Raises:
        NotFoundError: `path-missing`.
        DeniedError: `path-denied`.
        UnavailableError: `file-changing`: it is no regular file, or what was a directory is none; `io`.
    """
    folder, _, name = path.rpartition(b"/")
    whole = os.path.join(root, path)
    with opened_directory(root, folder) as above, _named(whole):
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise changed(whole)
    with os.fdopen(handle, "rb", buffering=0) as file:
        yield file


def read_proved(
    root: bytes, path: bytes, *, digest: str | None = None, seen: tuple[int, ...] | None = None
) -> Iterator[bytes]:
    """Yield the content of a file that has `digest`, and was not touched since `lstat` saw it; either may be unknown.

    A small file is proved before its first byte is given; of a large one the last piece is held back until then.
    Errors as `opened_file`.
    """
    import hashlib

    whole = os.path.join(root, path)
    with opened_file(root, path) as file:
        before = seen_of(os.fstat(file.fileno()))
        if seen is not None and before != seen:
            raise changed(whole)
        taken = hashlib.sha256()
        held: bytes | None = None
        with _named(whole):
            while piece := file.read(_PIECE):
                taken.update(piece)
                if held is not None:
                    yield held
                held = piece
        found = f"sha256:{taken.hexdigest()}"
        if digest is not None and found != digest:
            raise changed(whole, found=found)
        if seen is not None and seen_of(os.fstat(file.fileno())) != seen:
            raise changed(whole)
        if held is not None:
            yield held


@contextmanager
def _named(path: bytes) -> Iterator[None]:
    """Say of what the system refuses which path it is."""
    try:
        yield
    except SapwoodError:
        raise
    except FileNotFoundError as error:
        raise NotFoundError(f"{shown(path)} is gone", kind="path-missing", path=path) from error
    except PermissionError as error:
        raise DeniedError(f"no permission to read {shown(path)}", kind="path-denied", path=path) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise changed(path) from error
        raise UnavailableError(f"cannot read {shown(path)}: {error.strerror}", kind="io", path=path) from error


def changed(path: bytes, *, found: str | None = None) -> UnavailableError:
    """Return the error for a file that is no longer what was seen of it; `found` is the digest it has now."""
    return UnavailableError(
        f"{shown(path)} changed while it was read", kind="file-changing", hint="try again", path=path, found=found
    )
