"""The kinds of places that hold stores, as a test sees them: where to write, where to read, and how to do damage."""

from __future__ import annotations

import secrets
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_SOMEBODY = "AWS4-HMAC-SHA256 Credential=tester/20240229/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class Place(Protocol):
    """Where a store can be; `url` to write, `read_url` to read, perhaps by another way."""

    @property
    def url(self) -> str: ...

    @property
    def read_url(self) -> str: ...

    def overwrite(self, key: str, data: bytes) -> None:
        """Put bytes there behind the store's back."""

    def remove(self, key: str) -> None:
        """Take an object away behind the store's back."""


@dataclass(frozen=True)
class LocalPlace:
    """A directory."""

    root: Path

    @property
    def url(self) -> str:
        return str(self.root)

    @property
    def read_url(self) -> str:
        return self.url

    def overwrite(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def remove(self, key: str) -> None:
        (self.root / key).unlink()


@dataclass(frozen=True)
class HttpPlace(LocalPlace):
    """A directory that is read through a web server."""

    served_at: str

    @property
    def read_url(self) -> str:
        return self.served_at


@dataclass(frozen=True)
class S3Place:
    """A prefix in a bucket of the test server, which believes any signature."""

    server: str
    bucket: str

    @classmethod
    def in_new_bucket(cls, server: str) -> S3Place:
        place = cls(server, f"test-{secrets.token_hex(6)}")
        place._request("PUT", place.bucket)
        return place

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/some/prefix"

    @property
    def read_url(self) -> str:
        return self.url

    def overwrite(self, key: str, data: bytes) -> None:
        self._request("PUT", f"{self.bucket}/some/prefix/{key}", data)

    def remove(self, key: str) -> None:
        self._request("DELETE", f"{self.bucket}/some/prefix/{key}")

    def _request(self, method: str, path: str, data: bytes | None = None) -> None:
        # Without a type urllib calls it a form, which moto's server would wait for twice.
        headers = {"Content-Type": "application/octet-stream", "Authorization": _SOMEBODY}
        request = urllib.request.Request(f"{self.server}/{quote(path)}", data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as reply:
            reply.read()


@dataclass(frozen=True)
class BucketPlace:
    """A prefix in a bucket of a server that believes only what is signed; `client` is a way there of its own."""

    url: str
    client: ObjectStore

    @property
    def read_url(self) -> str:
        return self.url

    @property
    def elsewhere(self) -> str:
        """The URL of a bucket that does not exist."""
        return f"{self.url.partition('://')[0]}://nobody-has-this/x"

    def overwrite(self, key: str, data: bytes) -> None:
        import obstore

        obstore.put(self.client, key, data)

    def remove(self, key: str) -> None:
        import obstore

        obstore.delete(self.client, key)
