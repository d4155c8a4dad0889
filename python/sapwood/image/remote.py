"""Images in registries as places to read from.

Invariant: as of `places`: what is given out is unproved, and no longer than was asked for; `offline` nothing is asked.
Not here: the protocol (`registry`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sapwood.errors import NotFoundError
from sapwood.image.manifest import Described
from sapwood.image.name import ImageName
from sapwood.image.places import Place
from sapwood.image.registry import Registry
from sapwood.image.streaming import Streamed
from sapwood.store.beside import Ranges

__all__ = ["open_remote"]

_TAIL = 64 * 1024


def open_remote(name: ImageName, *, offline: bool) -> Place:
    """Return where an image of a registry lies, which is asked nothing yet, and `offline` nothing ever."""
    return _Remote(_Unasked(name) if offline else Registry(name))


class _Unasked(Registry):
    """A registry that is not to be asked."""

    def manifest(self, reference: str) -> bytes:
        raise self._not_kept(f"the manifest {reference}")

    def ranges(self, digest: str, size: int, wanted: list[tuple[int, int]]) -> list[bytes]:  # noqa: ARG002 - a registry's
        raise self._not_kept(f"what was asked for of {digest}")

    def stream(self, digest: str, size: int, take: Callable[[bytes], object]) -> None:  # noqa: ARG002 - a registry's
        raise self._not_kept(digest)

    def _not_kept(self, what: str) -> NotFoundError:
        return NotFoundError(
            f"{self.url}: {what} is not kept here, and no registry is asked offline",
            kind="not-kept",
            hint="mount it once without --offline",
        )


class _Remote:
    def __init__(self, registry: Registry) -> None:
        self.registry: Registry | None = registry
        self._registry = registry
        self.url = registry.url
        self.requests = registry.requests

    def find(self, name: ImageName) -> tuple[bytes, str | None]:
        return self._registry.manifest(name.tag or "latest"), None

    def document(self, blob: Described) -> bytes:
        return self._registry.manifest(blob.digest)

    def blob(self, blob: Described) -> Ranges:
        return _RemoteBlob(self._registry, blob)

    def reconnect(self) -> None:
        self._registry.reconnect()


class _RemoteBlob:
    """A blob of a registry as `store.beside.Ranges`; what it is called by cannot change."""

    def __init__(self, registry: Registry, blob: Described) -> None:
        self._registry = registry
        self.url = f"{registry.url}@{blob.digest}"
        self.place = self.version = blob.digest
        self.size = blob.size
        self.requests = registry.requests
        self._digest = blob.digest
        self._tail: bytes | None = None

    @property
    def tail(self) -> bytes:
        if self._tail is None:
            begin = max(0, self.size - _TAIL)
            [self._tail] = self.read([(begin, self.size - begin)])
        return self._tail

    def read(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        return self._registry.ranges(self._digest, self.size, ranges)

    def streamed(self) -> Streamed:
        """Return the same bytes to be read once, from front to back."""
        bring = partial(self._registry.stream, self._digest, self.size)
        return Streamed(self.url, self.size, self.requests, self.tail, bring)

    def check(self) -> None:
        """Do nothing: what has this digest is what it was."""

    def reconnect(self) -> None:
        self._registry.reconnect()
