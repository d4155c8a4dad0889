"""Reading objects through obstore, alike for every kind of server.

Promise: nothing hangs (`attempts`), Ctrl-C is out at once (`waiting`), and every request is counted, those that are
repeated as well. Not here: which server (`s3`, `gcs`, `azure`, `http`), writing (`bucket`). obstore is imported where
it is used, for local stores do without it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from sapwood.errors import CorruptError, InvalidInputError, NotFoundError
from sapwood.store import attempts, faults, replies
from sapwood.store.base import LARGEST_OBJECT
from sapwood.store.requests import Requests, Verb
from sapwood.store.waiting import interruptible

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import ObjectStore

__all__ = ["Connect", "RemoteObjects"]

_Result = TypeVar("_Result")

Connect = Callable[[float | None], "ObjectStore"]
"""Makes a client with the credentials of this moment: one that reads, or, given the seconds its requests may take, one
that writes."""

# Ranges closer than this are fetched as one: what 10 ms bring at 50 Mbit/s, less than a request of its own costs.
_COALESCE = 64 * 1024


class RemoteObjects:
    """Objects read through an obstore client; see `base.ReadObjects` for each method's promise."""

    def __init__(self, url: str, connect: Connect) -> None:
        self.requests = Requests()
        self._url = url
        self._connect = connect
        self._clients: dict[float | None, ObjectStore] = {}
        self._guard = threading.Lock()

    @property
    def url(self) -> str:
        return self._url

    def get(self, key: str) -> bytes:
        return self._get(key)[0]

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self.get_ranges(key, [(offset, length)])[0]

    def get_ranges(self, key: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        for offset, length in ranges:
            faults.check_range(self.url, key, offset, length)
        wanted = [(offset, length) for offset, length in ranges if length]
        if not wanted:
            return [b""] * len(ranges)
        found = iter(self._persist(lambda: self._get_ranges(key, wanted)))
        return [next(found) if length else b"" for _, length in ranges]

    def exists(self, key: str) -> bool:
        try:
            self._size(key)
        except NotFoundError as error:
            if error.kind != "object-missing":  # the whole bucket
                raise
            return False
        return True

    def stat(self, key: str) -> tuple[int, str]:
        """Return the size of an object and what changes when it does, empty when the server does not say.

        Raises:
            NotFoundError: `object-missing`.
            UnavailableError, DeniedError: the server does not answer, or refuses to.
        """
        import obstore

        def attempt() -> tuple[int, str]:
            with self.asking("head", key):
                meta = interruptible(lambda: obstore.head(self.client(), self.path(key)), attempts.QUIET_S)
            return meta["size"], self.version_of(meta)

        return self._persist(attempt)

    def tail(self, key: str, length: int) -> tuple[bytes, int, str]:
        """Return the last `length` bytes of an object, or all, its size, and its version as `stat` gives it.

        One request, where the server takes a range that is counted from the end. Errors as `stat` and `get_range`.
        """
        try:
            return self._persist(lambda: self._tail(key, length))
        except (InvalidInputError, CorruptError):
            # Azure knows no such range, and an empty object has none.
            size, version = self.stat(key)
            begin = max(0, size - length)
            return self.get_range(key, begin, size - begin), size, version

    def _tail(self, key: str, length: int) -> tuple[bytes, int, str]:
        import obstore

        with self.asking("get", key):
            reply: GetResult = interruptible(
                lambda: obstore.get(self.client(), self.path(key), options={"range": {"suffix": length}}),
                attempts.QUIET_S,
            )
            size = reply.meta["size"]
            span = (max(0, size - length), size)
            if tuple(reply.range) != span:
                raise faults.truncated(self.url, key, reply.range[1] - reply.range[0], span[1] - span[0])
            data = interruptible(lambda: bytes(reply.bytes()), attempts.reading_s(length))
        if len(data) != span[1] - span[0]:
            raise faults.truncated(self.url, key, len(data), span[1] - span[0])
        return data, size, self.version_of(reply.meta)

    def path(self, key: str) -> str:
        """Return how the client calls an object."""
        return key

    def version_of(self, meta: ObjectMeta) -> str:
        """Return what changes when the object does, empty when the server does not say."""
        return meta["e_tag"] or ""

    def client(self, writing_s: float | None = None) -> ObjectStore:
        """Return the client that reads, or the one whose requests may take so long to write."""
        with self._guard:
            if writing_s not in self._clients:
                self._clients[writing_s] = self._connect(writing_s)
            return self._clients[writing_s]

    @contextlib.contextmanager
    def asking(self, verb: Verb, key: str, number: int = 1) -> Iterator[None]:
        """Count requests, and turn what obstore raises into our errors."""
        self.requests.count(verb, number)
        try:
            yield
        except Exception as error:
            raise replies.explained(error, self.url, key) from error

    def _persist(self, attempt: Callable[[], _Result]) -> _Result:
        return attempts.persist(attempt, self.renew)

    def renew(self) -> bool:
        """Forget the clients with their credentials; the next are made with those of then."""
        self.reconnect()
        return True

    def reconnect(self) -> None:
        # A client keeps its connections for who asks next.
        with self._guard:
            self._clients.clear()

    def _get(self, key: str) -> tuple[bytes, str]:
        """Return a whole object and its version."""
        import obstore

        def attempt() -> tuple[bytes, str]:
            with self.asking("get", key):
                reply: GetResult = interruptible(lambda: obstore.get(self.client(), self.path(key)), attempts.QUIET_S)
                size = reply.meta["size"]
                if size > LARGEST_OBJECT:
                    raise faults.too_large(self.url, key, size)
                data = interruptible(lambda: bytes(reply.bytes()), attempts.reading_s(size))
                if len(data) != size:
                    raise faults.truncated(self.url, key, len(data), size)
                return data, self.version_of(reply.meta)

        return self._persist(attempt)

    def _get_ranges(self, key: str, wanted: list[tuple[int, int]]) -> list[bytes]:
        import obstore

        starts, lengths = [offset for offset, _ in wanted], [length for _, length in wanted]

        def fetch() -> list[bytes]:
            fetched = obstore.get_ranges(
                self.client(), self.path(key), starts=starts, lengths=lengths, coalesce=_COALESCE
            )
            return [bytes(data) for data in fetched]

        try:
            with self.asking("get", key, _joined(wanted)):
                got = interruptible(fetch, attempts.reading_s(sum(lengths)))
        except CorruptError as error:
            raise self._why_short(key, wanted) or error from error
        if any(len(data) != length for data, (_, length) in zip(got, wanted, strict=True)):
            raise self._why_short(key, wanted) or faults.truncated(self.url, key, sum(map(len, got)), sum(lengths))
        return got

    def _size(self, key: str) -> int:
        return self.stat(key)[0]

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
