"""What goes wrong with an object, said alike by every kind of place.

Invariant: a message is one line: place, key, what was found; no debug dump of a library gets into it.
"""

from __future__ import annotations

import errno
import os

from sapwood.errors import (
    ConflictError,
    CorruptError,
    DeniedError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    UnavailableError,
)
from sapwood.store.base import LARGEST_OBJECT

__all__ = ["changed", "check_range", "from_os_error", "missing", "too_large", "too_short", "truncated"]

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}


def missing(url: str, key: str) -> NotFoundError:
    """There is no such object."""
    return NotFoundError(f"{url}: {key} is not there", kind="object-missing", store=url, key=key)


def changed(url: str, key: str) -> ConflictError:
    """The object is not, or no longer, what a swap expected."""
    return ConflictError(f"{url}: {key} was changed by somebody else", kind="object-changed", store=url, key=key)


def too_large(url: str, key: str, size: int) -> CorruptError:
    """The object cannot be ours."""
    found = f"{size} bytes, more than the {LARGEST_OBJECT} that sapwood ever writes"
    return CorruptError(f"{url}: {key} has {found}", kind="object-too-large", store=url, key=key)


def too_short(url: str, key: str, size: int, offset: int, length: int) -> CorruptError:
    """The object ends before something that should be in it."""
    found = f"{size} bytes, but {length} from {offset} should be in it"
    return CorruptError(f"{url}: {key} is cut short: it has {found}", kind="object-short", store=url, key=key)


def truncated(url: str, key: str, got: int, length: int) -> UnavailableError:
    """A reply ended early although the object goes on."""
    return UnavailableError(
        f"{url}: {key}: the reply had {got} of {length} bytes", kind="reply-truncated", store=url, key=key
    )


def check_range(url: str, key: str, offset: int, length: int) -> None:
    """Refuse what no object can have, before anything is allocated or asked for.

    Raises:
        InvalidInputError: `bad-range`.
    """
    if offset < 0 or length < 0 or offset + length >= 1 << 63:
        raise InvalidInputError(
            f"{url}: {key} has no range of {length} bytes from {offset}", kind="bad-range", store=url, key=key
        )


def from_os_error(error: OSError, url: str, key: str) -> SapwoodError:
    """Say what the operating system refused, by what to do about it."""
    what = f"{url}: {key}: {os.strerror(error.errno) if error.errno else error}"
    if error.errno in _ABSENT:
        return missing(url, key)
    if error.errno in _DENIED:
        return DeniedError(what, kind="store-denied", store=url, key=key, hint=f"ls -ld {url}")
    if error.errno in _FULL:
        return UnavailableError(what, kind="disk-full", store=url, key=key, hint=f"df -h {url}", retry_after_s=60.0)
    return UnavailableError(what, kind="store-unreachable", store=url, key=key)
