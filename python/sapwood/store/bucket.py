"""Objects in a bucket or container that is written through obstore, alike for S3, GCS and Azure.

Invariant: what is swapped moves by conditional writes only. A put is one request, so that it is there whole or not at
all and no parts of it stay behind when killed. Not here: how a client is made (`s3`, `gcs`, `azure`).
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sapwood.errors import ConflictError, NotFoundError, SapwoodError, UnavailableError
from sapwood.store import attempts
from sapwood.store.base import Listed, Version
from sapwood.store.keys import PROBES
from sapwood.store.remote import Connect, RemoteObjects
from sapwood.store.waiting import interruptible

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode

__all__ = ["BucketObjects"]

# The keys of one reply to a listing.
_PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BucketObjects(RemoteObjects):
    """Objects below a prefix of a bucket; see `base.CollectObjects` for each method's promise."""

    def __init__(self, url: str, connect: Connect) -> None:
        super().__init__(url, connect)
        self._grace_s: float | None = None

    def condition(self, expect: Version) -> PutMode:
        """Return what a put has to ask for to replace this version only."""
        return {"e_tag": expect}

    def limit_writes(self, grace_s: float) -> None:
        self._grace_s = grace_s

    def list(self, prefix: str) -> list[str]:
        return [entry.key for entry in self.listed(prefix)]

    def listed(self, prefix: str) -> builtins.list[Listed]:
        found: dict[str, Listed] = {}

        def attempt() -> None:
            # On from where the last attempt broke off, where the server can; else the same keys come again.
            for page in self._pages(prefix, after=max(found, default=None)):
                for entry in page:
                    found[entry["path"]] = Listed(entry["path"], entry["size"], _ns(entry["last_modified"]))

        self._persist(attempt)
        return sorted(found.values())

    def _pages(
        self, prefix: str | None, *, after: str | None, size: int = _PAGE
    ) -> Iterator[builtins.list[ObjectMeta]]:
        import obstore

        with self.asking("list", prefix or "."):
            stream = obstore.list(self.client(), prefix, offset=after, chunk_size=size)
        while True:
            with self.asking("list", prefix or ".", 0):
                page = interruptible(lambda: next(stream, None), attempts.reading_s(0))
            if page is None:
                return
            yield [*page]
            if len(page) == size:
                self.requests.count("list")

    def is_empty(self) -> bool:
        def attempt() -> bool:
            # What somebody who makes a store here tries, or has left behind when killed, is nothing of another's.
            return all(
                entry["path"].startswith(f"{PROBES}/") for page in self._pages(None, after=None) for entry in page
            )

        return self._persist(attempt)

    def read_versioned(self, key: str) -> tuple[bytes, Version]:
        data, version = self._get(key)
        return data, Version(version)

    def put(self, key: str, data: bytes | memoryview) -> None:
        self._put(key, data, "overwrite")

    def swap(self, key: str, data: bytes, expect: Version | None) -> Version:
        try:
            return self._put(key, data, "create" if expect is None else self.condition(expect))
        except (ConflictError, UnavailableError) as error:
            # A write may be done and its reply lost; sent again, it loses against itself. What is there now tells:
            # nobody else writes the same bytes.
            return self._settled(key, data, error)

    def delete(self, key: str) -> None:
        import obstore

        def attempt() -> None:
            with self.asking("delete", key):
                interruptible(lambda: obstore.delete(self.client(limit), key))

        limit = attempts.write_limit_s(0, self._grace_s)
        try:
            attempts.persist(attempt, self.renew, begin_s=limit)
        except NotFoundError as error:
            if error.kind != "object-missing":  # the whole bucket
                raise

    def _put(self, key: str, data: bytes | memoryview, mode: PutMode) -> Version:
        import obstore

        limit = attempts.write_limit_s(len(data), self._grace_s)

        def attempt() -> Version:
            with self.asking("put", key):
                done = interruptible(lambda: obstore.put(self.client(limit), key, data, mode=mode, use_multipart=False))
            return Version(self.version_of(done))  # type: ignore[arg-type]

        return attempts.persist(attempt, self.renew, begin_s=limit)

    def _settled(self, key: str, data: bytes, error: SapwoodError) -> Version:
        found = None
        with contextlib.suppress(SapwoodError):
            found, version = self.read_versioned(key)
        if found != data:
            raise error
        return version


def _ns(when: datetime) -> int:
    """Return a time in nanoseconds since 1970; a float would lose some."""
    return (when - _EPOCH) // timedelta(microseconds=1) * 1000
