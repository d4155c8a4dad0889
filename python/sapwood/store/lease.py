"""How long a push may take effect: its deadline, and the lease that makes it longer (docs/store.md, "Push").

Invariant: a push that passes `require` may still move its ref: collection has condemned nothing that it could not see,
or sees its lease. The push's own clock measures durations only, and is compared with no other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from sapwood.digests import PackName
from sapwood.errors import ConflictError, SapwoodError, UnavailableError
from sapwood.store.base import CollectObjects
from sapwood.store.condemned import read_condemned
from sapwood.store.keys import lease_keys, pack_name

__all__ = ["Term", "clock_s"]

# A renewal that failed is tried again after this share of the grace.
_AGAIN = 1 / 32


def clock_s() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Term:
    """The time that the run `push` has, from `since_s` on by `clock`; a `with` block keeps the lease meanwhile.

    `body` is what the lease's objects say. Nothing is put before a quarter of the grace has passed; what was put
    stays for collection to delete.
    """

    def __init__(
        self,
        objects: CollectObjects,
        push: str,
        grace_s: float,
        since_s: float,
        body: bytes,
        clock: Callable[[], float] = clock_s,
    ) -> None:
        self._objects = objects
        self._began, self._live = lease_keys(push)
        self._grace_s = grace_s
        self._since_s = since_s
        self._body = body
        self._clock = clock
        self._has_begun = False
        self._condemned: frozenset[PackName] = frozenset()
        self._failed: UnavailableError | None = None
        self._ended = threading.Event()
        self._guard = threading.Lock()

    def __enter__(self) -> Term:
        threading.Thread(target=self._keep, daemon=True, name="sapwood-lease").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def renew(self) -> None:
        """See what is condemned by now and put the lease; the time then begins anew. Errors as `read_condemned`."""
        with self._guard:
            now = self._clock()
            condemned = (pack_name(key) for keys in read_condemned(self._objects).values() for key in keys)
            self._condemned = frozenset(name for name in condemned if name)
            # Too late is too late: a lease that begins now would not cover what was condemned meanwhile.
            self._require_time()
            if not self._has_begun:
                self._objects.put(self._began, self._body)
                self._has_begun = True
            self._objects.put(self._live, self._body)
            self._require_time()
            self._since_s = now

    def require(self, reused: Iterable[PackName]) -> None:
        """Raise unless the push may move its ref now, having re-used something of the packs `reused`.

        Raises:
            ConflictError: `pack-condemned`.
            UnavailableError: `push-too-slow`.
        """
        with self._guard:
            if lost := self._condemned.intersection(reused):
                raise ConflictError(
                    f"{self._objects.url}: pack {min(lost)[:12]} was condemned while it was being re-used",
                    kind="pack-condemned",
                    hint="push again: what it holds is then sent",
                    store=self._objects.url,
                    pack=min(lost),
                )
            self._require_time()

    def check(self) -> None:
        """Raise `push-too-slow` if a renewal was too late already: then nothing that is still sent can take effect."""
        if self._failed is not None:
            raise self._failed

    def _require_time(self) -> None:
        passed = self._clock() - self._since_s
        if passed > self._grace_s / 2:
            self._failed = UnavailableError(
                f"{self._objects.url}: the push took {passed:.0f} s, and half the store's grace of"
                f" {self._grace_s:.0f} s may pass without a lease",
                kind="push-too-slow",
                hint="push again: what was sent is not sent again",
                store=self._objects.url,
            )
            raise self._failed

    def _keep(self) -> None:
        wait_s = self._since_s + self._grace_s / 4 - self._clock()
        while not self._ended.wait(max(0.0, wait_s)):
            try:
                self.renew()
                wait_s = self._grace_s / 4
            except SapwoodError:
                if self._failed is not None:  # `check` tells; no later attempt can succeed
                    return
                wait_s = max(1.0, self._grace_s * _AGAIN)
