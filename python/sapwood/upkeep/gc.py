"""Collection: what no ref needs is condemned, and a grace later deleted. docs/store.md, "Collection".

Invariant: nothing is deleted that was not condemned a grace before and found dead again since, in this run; nothing is
deleted from a store that is damaged. Killed anywhere, a run leaves only work for the next.
Not here: what is alive (`living`), moving (`moving`).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

from sapwood.digests import PackName
from sapwood.errors import NotFoundError, SapwoodError, UnavailableError
from sapwood.store.base import CollectObjects, Listed
from sapwood.store.condemned import decode_condemned, encode_condemned
from sapwood.store.keys import (
    ACTIONS,
    CONDEMNED,
    FRAGMENTS,
    LEASES,
    MAPS,
    PACKS,
    PROFILES,
    SNAPSHOTS,
    action_name,
    condemned_key,
    fragment_key,
    fragment_name,
    is_condemned_key,
    is_map_key,
    is_profile_key,
    is_snapshot_key,
    moved_name,
    pack_key,
    pack_name,
    snapshot_key,
)
from sapwood.store.lease import clock_s
from sapwood.store.results import snapshot_of_result
from sapwood.store.store import Store
from sapwood.store.waiting import each
from sapwood.upkeep.living import Living, find_living
from sapwood.upkeep.moving import move_packs

__all__ = ["Collected", "collect"]

# Bytes of a merged fragment, about: a push that knows nothing takes some MB of fragments, the newest first.
_FRAGMENT = 1 << 20
# Fragments that are not worth merging as long as they are true.
_FEW = 8
# Less than this is not worth moving the rest of a pack for.
_LITTLE = 4096
# A listing that lacks what was just put is looked at again, after a pause that doubles: for a minute and a half.
_LOOKS, _PAUSE_S = 10, 0.1


@dataclass
class Collected:
    """What a run did. Sizes in bytes; `waiting` are objects condemned and not yet deleted, `moved` packs."""

    refs: int = 0
    snapshots: int = 0
    deleted: int = 0
    bytes_deleted: int = 0
    condemned: int = 0
    bytes_condemned: int = 0
    waiting: int = 0
    moved: int = 0
    bytes_moved: int = 0
    finished: bool = True
    """It had the time for everything; if not, the next run goes on."""
    seconds: float = 0.0


def collect(store: Store, *, grace_s: float | None = None, dry_run: bool = False) -> Collected:
    """Delete what was condemned a grace ago and condemn what is dead now; with `dry_run` only say so.

    `grace_s` is by default the store's own. A shorter one is safe only while nobody writes to the store; with 0 what is
    condemned is deleted by the same run.

    Raises:
        CorruptError, NotFoundError, FormatError: as `find_living`, and `record-corrupt`; nothing was deleted.
        InvalidInputError: `read-only-store`.
        UnavailableError: `listing-late`; or the place does not answer.
    """
    started = time.monotonic()
    run = _Run(store, store.grace_s if grace_s is None else grace_s, dry_run=dry_run)
    done = run.collect()
    done.seconds = time.monotonic() - started
    return done


@dataclass(frozen=True)
class _Condemning:
    """A record: when it was put, by the place's clock, and what it condemns."""

    put_ns: int
    keys: tuple[str, ...]


class _Run:
    def __init__(self, store: Store, grace_s: float, *, dry_run: bool) -> None:
        self._store = store
        self._objects: CollectObjects = store._collecting()
        self._grace_ns = int(grace_s * 1e9)
        # Of two graces the shorter: pushers and other collectors count on it that nothing is deleted later.
        self._patience_s = min(grace_s, store.grace_s) if grace_s else math.inf
        self._dry = dry_run
        self._nonce = secrets.token_hex(8)
        self._began_s = clock_s()
        self._done = Collected()

    def collect(self) -> Collected:
        empty = condemned_key(self._nonce)
        try:
            now = self._put_empty(empty)
            self._collect(now, empty)
        except BaseException:
            with contextlib.suppress(SapwoodError):  # it is due in a grace
                self._forget({empty})
            raise
        return self._done

    def _collect(self, now: int, empty: str) -> None:
        records = self._records(empty)
        named = {key for record in records.values() for key in record.keys} & records.keys()
        due = {key for key, record in records.items() if record.put_ns <= now - self._grace_ns and key not in named}
        due -= self._kept_by_leases(now, records)
        living = find_living(self._store)
        self._done.refs = living.refs
        self._done.snapshots = sum(map(is_snapshot_key, living.keys))
        listed = {
            one.key: one for folder in (SNAPSHOTS, MAPS, FRAGMENTS, PACKS) for one in self._objects.listed(folder)
        }
        live = _Live(living, listed)
        condemned = {key for record in due for key in records[record].keys}
        if any(fragment_name(key) in live.fragments() for key in condemned if fragment_name(key)):
            condemned -= {fragment_key(name) for name in live.fragments()}
        deleted = self._delete([listed[key] for key in condemned & listed.keys() if not live.is_live(key)])
        used, over = set[str](), {key for key in condemned & records.keys() if key not in due}
        for key in due:
            (over if all(map(is_condemned_key, records[key].keys)) else used).add(key)
        self._forget(over)
        waiting = {key for record in records.keys() - named - due for key in records[record].keys}
        old = {
            key: one
            for key, one in listed.items()
            if key not in deleted and key not in waiting and one.modified_ns <= now - self._grace_ns * 3 // 4
        }
        dead = self._condemn(live, old)
        if any(pack_name(key) or fragment_name(key) for key in dead | deleted) or len(_fragments(old)) > _FEW:
            dead |= self._merge(live, listed, old)
        self._done.condemned = len(dead)
        self._done.bytes_condemned = sum(listed[key].size for key in dead)
        self._done.waiting = len((waiting & listed.keys()) | dead)
        if self._grace_ns == 0:
            self._delete([listed[key] for key in dead])
            self._done.waiting = 0
            dead, used = set(), set()
            self._forget(due)
        self._put_record(dead | used)
        self._forget_profiles(living, now)
        self._forget_results(living, now)
        self._forget({empty})

    def _put_empty(self, key: str) -> int:
        """Put an empty record and return what the place's clock said then."""
        if self._dry:
            return time.time_ns()
        self._objects.put(key, encode_condemned([]))
        for look in range(_LOOKS):
            for one in self._objects.listed(CONDEMNED):
                if one.key == key:
                    return one.modified_ns
            time.sleep(_PAUSE_S * 2**look)
        raise UnavailableError(
            f"{self._store.url}: what was put is not listed yet",
            kind="listing-late",
            hint=f"sapwood gc {self._store.url}",
            store=self._store.url,
            key=key,
        )

    def _records(self, own: str) -> dict[str, _Condemning]:
        listed = [one for one in self._objects.listed(CONDEMNED) if is_condemned_key(one.key) and one.key != own]

        def read(one: Listed) -> _Condemning | None:
            try:
                data = self._objects.get(one.key)
            except NotFoundError as error:
                if error.kind != "object-missing":
                    raise
                return None  # another collector has just finished with it
            return _Condemning(one.modified_ns, tuple(decode_condemned(data, url=self._store.url, key=one.key)))

        found = zip(listed, each(read, listed), strict=True)
        return {one.key: record for one, record in found if record is not None}

    def _kept_by_leases(self, now: int, records: dict[str, _Condemning]) -> set[str]:
        """Return the records that a push under way may not have seen; delete leases that are over."""
        listed = {one.key: one.modified_ns for one in self._objects.listed(LEASES)}
        kept = set[str]()
        over = set[str]()
        for lease in {key.rpartition(".")[0] for key in listed}:
            began, live = listed.get(f"{lease}.began"), listed.get(f"{lease}.live")
            if live is not None and live > now - self._grace_ns:
                since = -1 if began is None else began - self._grace_ns
                kept |= {key for key, record in records.items() if record.put_ns >= since}
            elif max(live or 0, began or 0) <= now - self._grace_ns:
                over |= {f"{lease}.live", f"{lease}.began"} & listed.keys()
        self._forget(over)
        return kept

    def _condemn(self, live: _Live, old: dict[str, Listed]) -> set[str]:
        """Return what is dead of the `old`, after what lives in mostly dead packs was moved."""
        packs = {name: one for key, one in old.items() if (name := pack_name(key)) and name not in live.moved}
        # In dead ones may be outlines of maps that are alive.
        looked_at = {
            name: one
            for name, one in packs.items()
            if live.bytes_of(name) < max(1, min(one.size / 2, one.size - _LITTLE))
        }
        moved = move_packs(
            self._objects,
            live.marks,
            sorted(looked_at.items()),
            self._nonce,
            lambda: self._has_time(3 / 8),
            dry_run=self._dry,
        )
        if moved.redirects and not self._dry:
            live.marks.follow(moved.redirects)
        live.renew(self._objects.listed(PACKS) if moved.redirects else ())
        self._done.moved = len(moved.redirects)
        self._done.bytes_moved = moved.bytes
        dead = {key for key in old if not live.is_live(key) and not fragment_name(key)}
        dead |= {pack_key(PackName(name)) for name in moved.redirects}
        return dead - {pack_key(name) for name in looked_at.keys() - moved.looked_at}

    def _merge(self, live: _Live, listed: dict[str, Listed], old: dict[str, Listed]) -> set[str]:
        """Put fragments of everything live, and return those that are not needed beside them."""
        wanted = live.fragments()
        for name, data in wanted.items():
            if fragment_key(name) not in listed and not self._dry:
                if not self._has_time(1 / 2):
                    return set()
                self._objects.put(fragment_key(name), data)
        return _fragments(old) - {fragment_key(name) for name in wanted}

    def _forget_profiles(self, living: Living, now: int) -> None:
        """Delete profiles of trees and refs that are no more: nobody needs them, so none is condemned first."""
        self._delete(
            one
            for one in self._objects.listed(PROFILES)
            if is_profile_key(one.key)
            and one.key not in living.profiles
            and one.modified_ns <= now - self._grace_ns * 3 // 4
        )

    def _forget_results(self, living: Living, now: int) -> None:
        """Delete results of actions whose outputs are no more: who looks them up would find that out."""
        aged = [
            one
            for one in self._objects.listed(ACTIONS)
            if action_name(one.key) and one.modified_ns <= now - self._grace_ns * 3 // 4
        ]
        self._delete(
            one for one, named in zip(aged, each(self._snapshot_of, aged), strict=True) if named not in living.keys
        )

    def _snapshot_of(self, result: Listed) -> str | None:
        """Return the key of the snapshot that a result names."""
        try:
            named = snapshot_of_result(self._objects.get(result.key))
        except NotFoundError:  # another collector was faster
            return None
        return snapshot_key(named) if named else None

    def _put_record(self, keys: set[str]) -> None:
        if keys and not self._dry and self._has_time(1 / 2):
            self._objects.put(condemned_key(secrets.token_hex(8)), encode_condemned(keys))

    def _delete(self, objects: Iterable[Listed]) -> set[str]:
        """Delete these, packs last, so that who reads what was forgotten learns it early; return what went."""
        todo = list(objects)
        gone = set[str]()
        for is_last in (False, True):
            gone |= self._forget({one.key for one in todo if (pack_name(one.key) is not None) == is_last})
        self._done.deleted += len(gone)
        self._done.bytes_deleted += sum(one.size for one in todo if one.key in gone)
        return gone

    def _forget(self, keys: Iterable[str]) -> set[str]:
        """Delete what there is time for, and return that."""

        def delete(key: str) -> str | None:
            if not self._has_time(1 / 2):
                return None
            if not self._dry:
                self._objects.delete(key)
            return key

        return {key for key in each(delete, sorted(keys)) if key}

    def _has_time(self, share: float) -> bool:
        """Say whether less than this share of the grace has passed since the run began."""
        if clock_s() - self._began_s < self._patience_s * share:
            return True
        self._done.finished = False
        return False


class _Live:
    """Which of the listed objects are alive."""

    def __init__(self, living: Living, listed: dict[str, Listed]) -> None:
        self.marks = living.marks
        self.moved = {name for key in listed if (name := moved_name(key))}
        self._keys = living.keys
        self._put_ns = dict[str, int]()
        self.renew(listed.values())

    def renew(self, listed: Iterable[Listed]) -> None:
        """Ask the marks again, for some were added, or followed redirects; `listed` are packs that are new."""
        self._put_ns |= {name: one.modified_ns for one in listed if (name := pack_name(one.key))}
        self._packs = self.marks.packs()
        self._needed = set(self.marks.moved())
        self._merged: dict[str, bytes] | None = None

    def bytes_of(self, pack: PackName) -> int:
        """Return the bytes of the live frames of a pack."""
        return self._packs.get(pack, 0)

    def is_live(self, key: str) -> bool:
        """Say whether it is needed, or nothing of ours; of fragments that is not asked."""
        if name := pack_name(key):
            return name in self._packs
        if name := moved_name(key):
            return name in self._needed or name in self._put_ns
        if fragment_name(key):
            return False
        return key in self._keys or not (is_snapshot_key(key) or is_map_key(key))

    def fragments(self) -> dict[str, bytes]:
        """Return fragments of everything that is alive, by name; what lies in the oldest packs comes first."""
        if self._merged is None:
            packs = sorted(self._packs, key=lambda name: (self._put_ns.get(name, math.inf), name))
            made = self.marks.fragments(packs, _FRAGMENT)
            self._merged = {hashlib.sha256(data).hexdigest(): data for data in made}
        return self._merged


def _fragments(listed: Iterable[str]) -> set[str]:
    return {key for key in listed if fragment_name(key)}
