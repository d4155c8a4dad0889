"""A store in a bucket that speaks the S3 protocol.

Invariant: refs move by conditional writes only, `If-Match` and `If-None-Match`. Credentials, region and endpoint come
from the usual `AWS_...` variables; an unencrypted endpoint is used only where its URL says `http://`.
"""

from __future__ import annotations

import builtins
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sapwood import places
from sapwood.errors import ConflictError, NotFoundError, SapwoodError, UnavailableError
from sapwood.store.base import Listed, Version
from sapwood.store.remote import RemoteObjects, reading_options, retries, writing_options
from sapwood.store.waiting import interruptible

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Store

__all__ = ["S3Objects"]

# The keys of one reply to a listing.
_PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class S3Objects(RemoteObjects):
    """Objects below `s3://bucket/prefix`; see `base.CollectObjects` for each method's promise."""

    def __init__(self, bucket: str, prefix: str) -> None:
        url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        plain = (places.s3_endpoint() or "").startswith("http://")
        super().__init__(url, _client(bucket, prefix, reading_options(allow_http=plain)))
        # A client of its own: during an upload the server is rightly silent for longer than a reader would wait.
        self._writer = _client(bucket, prefix, writing_options(allow_http=plain))

    def list(self, prefix: str) -> list[str]:
        return [entry.key for entry in self.listed(prefix)]

    def listed(self, prefix: str) -> builtins.list[Listed]:
        import obstore

        with self.naming(prefix):
            entries = interruptible(obstore.list(self._client, prefix).collect)
        self.requests.count("list", 1 + len(entries) // _PAGE)
        return sorted(Listed(entry["path"], entry["size"], _ns(entry["last_modified"])) for entry in entries)

    def delete(self, key: str) -> None:
        import obstore

        self.requests.count("delete")
        with contextlib.suppress(NotFoundError), self.naming(key):
            interruptible(lambda: obstore.delete(self._client, key))

    def is_empty(self) -> bool:
        import obstore

        self.requests.count("list")
        with self.naming("."):
            return not interruptible(lambda: next(iter(obstore.list(self._client, chunk_size=1)), None))

    def read_versioned(self, key: str) -> tuple[bytes, Version]:
        data, tag = self._get(key)
        return data, Version(tag)

    def put(self, key: str, data: bytes | memoryview) -> None:
        import obstore

        self.requests.count("put")
        # In one request, so that it is there whole or not at all, and no parts of it stay behind when killed.
        with self.naming(key):
            interruptible(lambda: obstore.put(self._writer, key, data, use_multipart=False))

    def swap(self, key: str, data: bytes, expect: Version | None) -> Version:
        import obstore

        self.requests.count("put")
        try:
            with self.naming(key):
                done = interruptible(
                    lambda: obstore.put(self._writer, key, data, mode="create" if expect is None else {"e_tag": expect})
                )
        except (ConflictError, UnavailableError) as error:
            # A write may be done and its reply lost; sent again, it loses against itself. What is there now tells:
            # nobody else writes the same bytes.
            return self._settled(key, data, error)
        return Version(done["e_tag"] or "")

    def _settled(self, key: str, data: bytes, error: SapwoodError) -> Version:
        try:
            found, version = self.read_versioned(key)
        except SapwoodError:
            raise error from None
        if found != data:
            raise error
        return version


def _ns(when: datetime) -> int:
    """Return a time in nanoseconds since 1970; a float would lose some."""
    return (when - _EPOCH) // timedelta(microseconds=1) * 1000


def _client(bucket: str, prefix: str, options: ClientConfig) -> S3Store:
    from obstore.store import S3Store

    return S3Store(
        bucket, prefix=prefix or None, client_options=options, retry_config=retries(), disable_bulk_delete=True
    )
