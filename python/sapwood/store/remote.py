"""Reading objects through obstore, alike for every kind of server.

Promise: nothing hangs: a connection is given 5 s, silence 30 s, a request 5 minutes, and retries end after one; Ctrl-C
is out at once (`waiting`). Not here: which server (`s3.py`, `http.py`). obstore is imported where it is used, for local
stores do without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from sapwood.errors import CorruptError, NotFoundError
from sapwood.store import faults, replies
from sapwood.store.base import LARGEST_OBJECT
from sapwood.store.requests import Requests
from sapwood.store.waiting import interruptible

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

__all__ = ["RemoteObjects", "reading_options", "retries", "writing_options"]

# Ranges closer than this are fetched as one: what 10 ms bring at 50 Mbit/s, less than a request of its own costs.
_COALESCE = 64 * 1024


def reading_options(*, allow_http: bool) -> ClientConfig:
    """Limits of a request that brings bytes: silence ends it long before slowness does."""
    return {**writing_options(allow_http=allow_http), "read_timeout": timedelta(seconds=30)}


def writing_options(*, allow_http: bool) -> ClientConfig:
    """Limits of a request that sends bytes, during which the server says nothing: a pack passes at 56 kB/s."""
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(minutes=5),
        "user_agent": "sapwood",
    }


def retries() -> RetryConfig:
    """How often a request is tried again that a server or the way to it failed."""
    return {
        "max_retries": 5,
        "retry_timeout": timedelta(seconds=60),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
    }


class RemoteObjects:
    """Objects read through an obstore client; see `base.ReadObjects` for each method's promise."""

    def __init__(self, url: str, client: ObjectStore) -> None:
        self._url = url
        self._client = client
        self.requests = Requests()

    @property
    def url(self) -> str:
        return self._url

    def get(self, key: str) -> bytes:
        return self._get(key)[0]

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self.get_ranges(key, [(offset, length)])[0]

    def get_ranges(self, key: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        import obstore

        for offset, length in ranges:
            faults.check_range(self.url, key, offset, length)
        wanted = [(offset, length) for offset, length in ranges if length]
        if not wanted:
            return [b""] * len(ranges)

        def fetch() -> list[bytes]:
            starts, lengths = [offset for offset, _ in wanted], [length for _, length in wanted]
            self.requests.count("get", _joined(wanted))
            fetched = obstore.get_ranges(self._client, key, starts=starts, lengths=lengths, coalesce=_COALESCE)
            return [bytes(data) for data in fetched]

        try:
            with self.naming(key):
                got = interruptible(fetch)
        except CorruptError as error:
            raise self._why_short(key, wanted) or error from error
        if any(len(data) != length for data, (_, length) in zip(got, wanted, strict=True)):
            raise self._why_short(key, wanted) or faults.truncated(
                self.url, key, sum(map(len, got)), sum(length for _, length in wanted)
            )
        found = iter(got)
        return [next(found) if length else b"" for _, length in ranges]

    def exists(self, key: str) -> bool:
        try:
            self._size(key)
        except NotFoundError:
            return False
        return True

    @contextlib.contextmanager
    def naming(self, key: str) -> Iterator[None]:
        """Turn what obstore raises into our errors."""
        try:
            yield
        except Exception as error:
            raise replies.explained(error, self.url, key) from error

    def _get(self, key: str) -> tuple[bytes, str]:
        """Return a whole object and its ETag, empty when the server gives none."""
        import obstore

        def fetch() -> tuple[bytes | int, str]:
            self.requests.count("get")
            reply = obstore.get(self._client, key)
            size = reply.meta["size"]
            if size > LARGEST_OBJECT:
                return size, ""
            return bytes(reply.bytes()), reply.meta["e_tag"] or ""

        with self.naming(key):
            got, tag = interruptible(fetch)
        if isinstance(got, int):
            raise faults.too_large(self.url, key, got)
        return got, tag

    def _size(self, key: str) -> int:
        import obstore

        self.requests.count("head")
        with self.naming(key):
            return interruptible(lambda: obstore.head(self._client, key))["size"]

    def _why_short(self, key: str, wanted: list[tuple[int, int]]) -> CorruptError | None:
        """After a short reply: the error if the object itself is too short, None if only the reply was."""
        size = self._size(key)
        for offset, length in wanted:
            if offset + length > size:
                return faults.too_short(self.url, key, size, offset, length)
        return None


def _joined(ranges: list[tuple[int, int]]) -> int:
    """Say how many requests these ranges take when those that nearly touch are fetched as one."""
    number, reached = 0, -_COALESCE - 1
    for offset, length in sorted(ranges):
        number += offset - reached > _COALESCE
        reached = max(reached, offset + length)
    return number
