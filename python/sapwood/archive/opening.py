"""A tar, or an archive, at a path of this machine: opened to be read.

Promise: what cannot be one is refused by a line that says why, and what to do.
"""

from __future__ import annotations

import os
import stat

from sapwood.errors import DeniedError, InvalidInputError, NotFoundError, UnavailableError

__all__ = ["open_file", "require_bytes"]


def open_file(path: str | os.PathLike[str], flags: int = 0) -> int:
    """Open what is no directory, be it a pipe, and return its descriptor; `flags` as of `os.open`.

    Raises:
        NotFoundError: `path-missing`.
        InvalidInputError: `not-a-file`.
        DeniedError: `path-denied`.
        UnavailableError: `io`.
    """
    name = os.fspath(path)
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC | flags)
    except FileNotFoundError:
        raise NotFoundError(f"{name} is missing", kind="path-missing") from None
    except PermissionError as error:
        raise DeniedError(f"cannot read {name}: {error.strerror}", kind="path-denied") from error
    except OSError as error:
        raise UnavailableError(f"cannot read {name}: {error.strerror}", kind="io") from error
    if stat.S_ISDIR(os.fstat(file).st_mode):
        os.close(file)
        raise InvalidInputError(
            f"{name} is a directory, not a tar", kind="not-a-file", hint=f"sapwood pack {name} OUT.tar.gz"
        )
    return file


def require_bytes(file: int, name: str) -> None:
    """Refuse a regular file that is empty: what should have been written to it was not.

    Raises:
        InvalidInputError: `invalid`.
    """
    state = os.fstat(file)
    if stat.S_ISREG(state.st_mode) and state.st_size == 0:
        raise InvalidInputError(f"{name}: it is empty, and a tar is not", kind="invalid")
