"""What a place must do to hold a store: objects by key, and a compare-and-swap for the few that change.

Invariant: an object is complete or absent, never partial; apart from those moved by `swap`, an object never changes.
Every method raises only `SapwoodError`s, which name `url` and the key. All are safe to call from several threads.
Three interfaces: a web server can only be read, and a pusher must not be asked to delete. Not here: what the objects
mean (`store.py`).
"""

from __future__ import annotations

import builtins
from typing import NamedTuple, NewType, Protocol

from sapwood.store.requests import Requests

__all__ = ["LARGEST_OBJECT", "CollectObjects", "Listed", "ReadObjects", "Version", "WriteObjects"]

Version = NewType("Version", str)
"""What `swap` compares: equal for equal bytes at least, so what is swapped must never repeat its bytes."""

LARGEST_OBJECT = 256 * 1024 * 1024
"""No object that sapwood reads whole is larger, so one that is must not be taken into memory."""


class Listed(NamedTuple):
    """An object as a listing shows it; `modified_ns`, when it was put last, is told by the clock of the place."""

    key: str
    size: int
    modified_ns: int


class ReadObjects(Protocol):
    """A place to read objects from."""

    @property
    def url(self) -> str:
        """Where it is, as messages show it; opening this URL opens the same place."""
        ...

    @property
    def requests(self) -> Requests:
        """What this place has been asked for so far."""
        ...

    def get(self, key: str) -> bytes:
        """Return a whole object.

        Raises:
            NotFoundError: `object-missing`.
            CorruptError: `object-too-large`: above `LARGEST_OBJECT`.
            UnavailableError, DeniedError: the place does not answer, or refuses to.
        """
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; no bytes need no object.

        Raises:
            CorruptError: `object-short`: the object ends before the range does.
            UnavailableError: `reply-truncated`: the object is long enough, the reply was not.
            NotFoundError, DeniedError: as `get`.
        """
        ...

    def get_ranges(self, key: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length) in the order asked, with the errors of `get_range`.

        Ranges that nearly touch may be fetched as one; several may be fetched at a time.
        """
        ...

    def reconnect(self) -> None:
        """Ask by new connections from now on: those that there are may be dead."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Return the keys of all objects below the folder `prefix`, sorted.

        Raises:
            InvalidInputError: `cannot-list`: the place has no listings.
        """
        ...

    def exists(self, key: str) -> bool:
        """Say whether there is such an object."""
        ...

    def read_versioned(self, key: str) -> tuple[bytes, Version]:
        """Return an object with the version that `swap` expects; errors as `get`."""
        ...


class WriteObjects(ReadObjects, Protocol):
    """A place that can be written, too."""

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Store an object that never changes; durable when this returns.

        Putting it again is harmless and makes it as new in listings. A put that is killed leaves no object.

        Raises:
            UnavailableError: `disk-full`, or the place does not answer.
            DeniedError: it may not be written.
        """
        ...

    def swap(self, key: str, data: bytes, expect: Version | None) -> Version:
        """Replace the version `expect`, or create the object if None; return the new version.

        Durable when this returns. Of any number of racing calls with one `expect` exactly one succeeds. Callers never
        write the same bytes twice.

        Raises:
            ConflictError: `object-changed`; nothing was written.
            UnavailableError: it is not known whether it was written; the next `read_versioned` tells.
        """
        ...

    def limit_writes(self, grace_s: float) -> None:
        """From now on let no put, swap or delete take effect later than a quarter of `grace_s` after it was called."""
        ...

    def is_empty(self) -> bool:
        """Say whether there is nothing at all, not even something that is not ours."""
        ...


class CollectObjects(WriteObjects, Protocol):
    """A place from which objects are taken away, too."""

    def delete(self, key: str) -> None:
        """Take an object away; that it is absent is fine.

        Raises:
            UnavailableError: it is not known whether it is still there.
            DeniedError: it may not be taken away.
        """
        ...

    def listed(self, prefix: str) -> builtins.list[Listed]:
        """Return all objects below the folder `prefix`, sorted by key; errors as `list`."""
        ...
