"""A store in a bucket that speaks the S3 protocol.

Invariant: refs move by conditional writes only, `If-Match` and `If-None-Match`. Credentials, region and endpoint come
from the usual `AWS_...` variables; an unencrypted endpoint is used only where its URL says `http://`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapwood import places
from sapwood.errors import ConflictError, SapwoodError, UnavailableError
from sapwood.store.base import Version
from sapwood.store.remote import RemoteObjects, reading_options, retries, writing_options
from sapwood.store.waiting import interruptible

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Store

__all__ = ["S3Objects"]


class S3Objects(RemoteObjects):
    """Objects below `s3://bucket/prefix`; see `base.WriteObjects` for each method's promise."""

    def __init__(self, bucket: str, prefix: str) -> None:
        url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        plain = (places.s3_endpoint() or "").startswith("http://")
        super().__init__(url, _client(bucket, prefix, reading_options(allow_http=plain)))
        # A client of its own: during an upload the server is rightly silent for longer than a reader would wait.
        self._writer = _client(bucket, prefix, writing_options(allow_http=plain))

    def list(self, prefix: str) -> list[str]:
        import obstore

        with self.naming(prefix):
            return sorted(entry["path"] for entry in interruptible(obstore.list(self._client, prefix).collect))

    def is_empty(self) -> bool:
        import obstore

        with self.naming("."):
            return not interruptible(lambda: next(iter(obstore.list(self._client, chunk_size=1)), None))

    def read_versioned(self, key: str) -> tuple[bytes, Version]:
        data, tag = self._get(key)
        return data, Version(tag)

    def put(self, key: str, data: bytes | memoryview) -> None:
        import obstore

        # In one request, so that it is there whole or not at all, and no parts of it stay behind when killed.
        with self.naming(key):
            interruptible(lambda: obstore.put(self._writer, key, data, use_multipart=False))

    def swap(self, key: str, data: bytes, expect: Version | None) -> Version:
        import obstore

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


def _client(bucket: str, prefix: str, options: ClientConfig) -> S3Store:
    from obstore.store import S3Store

    return S3Store(bucket, prefix=prefix or None, client_options=options, retry_config=retries())
