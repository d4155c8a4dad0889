"""Reading a working file that a tree tells of.

Promise: the end is reached only if the bytes were those of the digest; nothing is read through a symlink.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from sapwood.errors import DeniedError, NotFoundError, UnavailableError
from sapwood.tree.tree import shown

__all__ = ["read_file"]

_PIECE = 1 << 20


def read_file(path: bytes, digest: str | None) -> Iterator[bytes]:
    """Yield the content of the regular file at `path` in pieces of at most 1 MiB.

    A file of one piece is proved before it is given; of a larger one nobody is told that it was right before its end.

    Raises:
        NotFoundError: `path-missing`.
        DeniedError: `path-denied`.
        UnavailableError: `file-changing`: it is no longer what `digest` says; `io`.
    """
    import hashlib

    with _opened(path) as file:
        hasher = hashlib.sha256()
        held: list[bytes] = []
        while piece := file.read(_PIECE):
            hasher.update(piece)
            held.append(piece)
            if len(held) > 1:
                yield held.pop(0)
        if f"sha256:{hasher.hexdigest()}" != digest:
            raise _changed(path)
        yield from held


@contextmanager
def _opened(path: bytes) -> Iterator[BinaryIO]:
    """Open a regular file: neither through a symlink nor waiting for the writer of a FIFO that took its place."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFoundError(f"{shown(path)} is gone", kind="path-missing", path=path) from error
    except PermissionError as error:
        raise DeniedError(f"no permission to read {shown(path)}", kind="path-denied", path=path) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise _changed(path) from error
        raise UnavailableError(f"cannot read {shown(path)}: {error.strerror}", kind="io", path=path) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _changed(path)
    with os.fdopen(handle, "rb") as file:
        yield file


def _changed(path: bytes) -> UnavailableError:
    return UnavailableError(
        f"{shown(path)} changed while it was read", kind="file-changing", hint="try again", path=path
    )
