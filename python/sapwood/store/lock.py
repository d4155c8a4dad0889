"""The lock under which refs move where a place can create on condition, but not replace.

Invariant: the lock of number n + 1 is created only by somebody who saw n free, or unchanged for `EXPIRES_S` by his own
clock; its creator writes only within `WRITES_S` of having looked at n, and what he then writes has an end before
anybody else may think the lock lost. Bytes and rules: docs/format.md, "Store"; docs/store.md, "Places without
conditional writes".
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable

from sapwood.errors import ConflictError, NotFoundError, SapwoodError, UnavailableError
from sapwood.store import faults
from sapwood.store.base import CollectObjects, Listed, Version
from sapwood.store.keys import LOCKS, lock_key, lock_number
from sapwood.store.record import Record, encode
from sapwood.store.snapshot import user

__all__ = ["RefLock", "is_free"]

EXPIRES_S = 60.0
WRITES_S = 20.0
PATIENCE_S = 180.0
LONGEST_PAUSE_S = 1.0
# However short the grace: who was held up while he climbed must still be refused where he stands.
KEPT_S = 600.0


class RefLock:
    """The lock on the refs of one place with this grace, in seconds."""

    def __init__(self, objects: CollectObjects, grace_s: float) -> None:
        self._objects = objects
        self._grace_s = grace_s

    def swap(self, key: str, data: bytes, expect: Version | None, still: Callable[[], object]) -> Version:
        """Replace the version `expect` of a ref, as `WriteObjects.swap` does, unless `still` raises just before.

        Raises:
            ConflictError: `object-changed`; nothing was written.
            UnavailableError: `ref-locked`: somebody holds the lock for too long, or we were too slow to use it.
        """
        number, asked, older = self._take()
        try:
            try:
                found = self._objects.read_versioned(key)[1]
            except NotFoundError:
                found = None
            if found != expect:
                raise faults.changed(self._objects.url, key)
            if _now() > asked + WRITES_S:
                raise self._locked("it was held for too long before the ref was written; nothing was written", key)
            still()
        except BaseException:
            self._free(number, older)
            raise
        # Should this fail, it is not known whether it was written; then the lock is left to expire.
        self._objects.put(key, data)
        there, version = self._objects.read_versioned(key)
        self._free(number, older)
        if there != data:
            raise faults.changed(self._objects.url, key)
        return version

    def _free(self, number: int, older: list[str]) -> None:
        """Say that the lock is free; if that fails it expires, and what was done under it holds all the same."""
        with contextlib.suppress(SapwoodError):
            self._objects.put(lock_key(number), _record(free=True))
            for key in older:
                self._objects.delete(key)

    def _take(self) -> tuple[int, float, list[str]]:
        """Create the lock after the highest; return its number, when that was asked for, and what nobody needs."""
        listed = [entry for entry in self._objects.listed(LOCKS) if lock_number(entry.key) is not None]
        # The listing may be late, but every lock since then is still there: it is climbed from here.
        number = max((lock_number(entry.key) or 0 for entry in listed), default=0)
        patience = _now() + PATIENCE_S
        pause = 0.05
        seen = _now()
        while True:
            asked = _now()
            if number == 0 or self._is_free(number) or _now() - seen > EXPIRES_S:
                with contextlib.suppress(ConflictError):
                    self._objects.swap(lock_key(number + 1), _record(free=False), None)
                    return number + 1, asked, _ancient(listed, self._grace_s)
                number, seen, pause = number + 1, _now(), 0.05
                continue
            if _now() > patience:
                raise self._locked(f"others hold {lock_key(number)} and those before it", lock_key(number))
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _is_free(self, number: int) -> bool:
        try:
            data = self._objects.get(lock_key(number))
        except NotFoundError:
            return True  # so old that it was deleted
        return is_free(data, url=self._objects.url, key=lock_key(number))

    def _locked(self, why: str, key: str) -> UnavailableError:
        url = self._objects.url
        return UnavailableError(f"{url}: the lock on refs: {why}", kind="ref-locked", store=url, key=key)


def is_free(data: bytes, *, url: str, key: str) -> bool:
    """Say whether the lock at `key` of the store at `url` is free.

    Raises:
        CorruptError: `lock-corrupt`.
        FormatError: `format-newer`.
    """
    remedy = f"sapwood repair {url}, or remove {key}"
    record = Record(data, f"{url}: {key}", kind="lock-corrupt", remedy=remedy, store=url, key=key)
    free = record.flag("free")
    fields = {name: record.text(name) for name in ("user", "host", "nonce")}
    if encode({**fields, "free": free}) != data:
        raise record.damaged("it is not spelt as sapwood spells it")
    return free


def _ancient(listed: list[Listed], grace_s: float) -> list[str]:
    """Return the keys of locks that even the latest of listings shows with a higher one."""
    newest = max((entry.modified_ns for entry in listed), default=0)
    return [entry.key for entry in listed if newest - entry.modified_ns > max(grace_s / 2, KEPT_S) * 1e9]


def _record(*, free: bool) -> bytes:
    # Without a nonce, who lost the creation to his own twin would find his bytes there and think that he had won.
    return encode({"user": user(), "host": os.uname().nodename, "nonce": os.urandom(8).hex(), "free": free})


def _now() -> float:
    """Return seconds by a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
