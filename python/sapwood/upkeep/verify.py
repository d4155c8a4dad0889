"""Verify: every link from refs to chunks, held against what the store has.

Promise: each damage is found and named by key, with the refs and paths that need it; nothing is changed. File maps are
read in full; packs by what they say of themselves, and, as many as asked for, to the last byte.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass

from sapwood._core.upkeep import TAIL, Toc, fragment_packs, prove, read_toc, redirect_packs
from sapwood.digests import PackName
from sapwood.errors import CorruptError, FormatError, NotFoundError
from sapwood.store.condemned import decode_condemned
from sapwood.store.keys import (
    CONDEMNED,
    FRAGMENTS,
    PACKS,
    fragment_name,
    is_condemned_key,
    moved_key,
    moved_name,
    pack_key,
    snapshot_key,
)
from sapwood.store.store import Store
from sapwood.store.waiting import each
from sapwood.upkeep.survey import Damage, Survey, snapshots_listed

__all__ = ["Verified", "read_toc_of", "verify"]

_DAMAGES = (CorruptError, NotFoundError, FormatError)
# A redirect may lead to a pack that was moved again.
_HOPS = 32
# Packs in memory at a time.
_AT_ONCE = 4


@dataclass(frozen=True)
class Verified:
    """What was looked at, and what is wrong with it. `bytes_read` of packs that were read whole."""

    refs: int
    snapshots: int
    maps: int
    pages: int
    packs: int
    packs_read: int
    bytes_read: int
    fragments: int
    damages: tuple[Damage, ...]
    seconds: float


def verify(store: Store, *, read_data: float = 0.0) -> Verified:
    """Look at everything that the refs of a store need; read `read_data` percent of all packs, at random, whole.

    Raises:
        InvalidInputError: `cannot-list`, `read-only-store`.
        UnavailableError, DeniedError: the store does not answer, or refuses to.
    """
    started = time.monotonic()
    survey = Survey(store)
    survey.look()
    follow(survey)
    for digest in snapshots_listed(store):
        if digest not in survey.snapshots:
            try:
                store.read_snapshot(digest)
            except (CorruptError, FormatError) as error:
                survey.note(snapshot_key(digest), str(error))
            except NotFoundError:  # collected since it was listed
                pass
    fragments = _look_at_fragments(survey)
    _look_at_records(survey)
    names = sorted(survey.packs)
    chosen = set(random.sample(names, min(len(names), -int(-len(names) * read_data // 100))))
    sizes = each(lambda name: _read_whole(survey, name), sorted(chosen), at_once=_AT_ONCE)
    each(lambda name: _look_at_toc(survey, name), [name for name in names if name not in chosen])
    for name in survey.needs.packs():
        if name not in survey.packs:
            lost = [place[:2] for place in survey.needs.of(name)]
            survey.note_places(name, f"{store.url}: {pack_key(PackName(name))} is not there", lost)
    return Verified(
        refs=survey.refs,
        snapshots=len(survey.snapshots),
        maps=len(survey.maps),
        pages=survey.pages,
        packs=len(names),
        packs_read=len(chosen),
        bytes_read=sum(sizes),
        fragments=fragments,
        damages=tuple(damage for _, damage in sorted(survey.damages.items())),
        seconds=time.monotonic() - started,
    )


def follow(survey: Survey) -> None:
    """Take what is needed of packs that were moved to where it lies now; note redirects that cannot be read."""
    moved = {name for key in survey.store._objects.list(PACKS) if (name := moved_name(key))}
    for name in moved:
        try:
            redirect_packs(survey.store._objects.get(moved_key(name)))
        except _DAMAGES as error:
            survey.note(moved_key(name), f"{survey.store.url}: {moved_key(name)}: {error}", _users(survey, name))
    for _ in range(_HOPS):
        gone = [PackName(name) for name in survey.needs.packs() if name not in survey.packs and name in moved]
        if not gone:
            return
        for name in gone:
            moved.discard(name)
            try:
                redirect = survey.store._objects.get(moved_key(name))
                survey.needs.follow(name, redirect)
            except _DAMAGES:
                continue
            for target in redirect_packs(redirect):
                survey.users.setdefault(target, set()).update(_users(survey, name))


def _users(survey: Survey, pack: str) -> Iterable[str]:
    return survey.users.get(pack, ())


def read_toc_of(store: Store, name: PackName, size: int) -> Toc:
    """Return what a pack of `size` bytes says of itself.

    Raises:
        NotFoundError: `object-missing`.
        CorruptError: `damaged`, `object-short`.
        FormatError: `format-newer`.
    """
    wanted = min(size, TAIL)
    while True:
        tail = store._objects.get_range(pack_key(name), size - wanted, wanted)
        toc, needed = read_toc(tail, size)
        if toc is not None:
            return toc
        wanted = needed


def _look_at_toc(survey: Survey, name: PackName) -> None:
    key = pack_key(name)
    try:
        toc = read_toc_of(survey.store, name, survey.packs[name].size)
    except NotFoundError:
        del survey.packs[name]  # collected since it was listed; if it was needed, that is noted by who looks for it
        return
    except (CorruptError, FormatError) as error:
        # Frames may be whole, and file maps find them without the TOC: no file is named.
        survey.note_places(name, f"{survey.store.url}: {key}: {error}", ())
        return
    if lost := survey.needs.unlisted(name, toc):
        found = f"{survey.store.url}: {key} does not hold what file maps need of it: {len(lost)} chunks"
        survey.note_places(name, found, [place[:2] for place in lost])


def _read_whole(survey: Survey, name: PackName) -> int:
    key = pack_key(name)
    needed = survey.needs.of(name)
    try:
        data = survey.store._objects.get(key)
    except NotFoundError:
        del survey.packs[name]
        return 0
    except CorruptError as error:
        survey.note_places(name, str(error), [place[:2] for place in needed])
        return 0
    proved = prove(name, data, sorted({(offset, length, plain) for offset, _, length, plain, *_ in needed}))
    lost = survey.needs.unproved(name, proved)
    if proved.faults or lost:
        found = proved.faults[0] if proved.faults else f"it does not hold {len(lost)} chunks that file maps need"
        more = f" (and {len(proved.faults) - 1} more)" if proved.faults[1:] else ""
        survey.note_places(name, f"{survey.store.url}: {key}: {found}{more}", [place[:2] for place in lost])
    return len(data)


def _look_at_fragments(survey: Survey) -> int:
    """Read every index fragment: a damaged one, or one that names what is not there, misleads the next push."""
    keys = [key for key in survey.store._objects.list(FRAGMENTS) if fragment_name(key)]
    there = set(survey.packs)
    there |= {name for key in survey.store._objects.list(PACKS) if (name := moved_name(key))}

    def look(key: str) -> None:
        where = f"{survey.store.url}: {key}"
        try:
            data = survey.store._objects.get(key)
        except NotFoundError:  # merged by a collection since it was listed
            return
        except CorruptError as error:
            survey.note(key, str(error))
            return
        if hashlib.sha256(data).hexdigest() != fragment_name(key):
            survey.note(key, f"{where}: its bytes hash to something else")
            return
        try:
            named = set(fragment_packs(data))
        except (CorruptError, FormatError) as error:
            survey.note(key, f"{where}: {error}")
            return
        if lost := sorted(named - there):
            survey.note(key, f"{where} names pack {lost[0][:12]}, which is not there")

    each(look, keys)
    return len(keys)


def _look_at_records(survey: Survey) -> None:
    """Read what collections have condemned: a damaged record keeps them, and pushes, from going on."""
    store = survey.store
    for key in filter(is_condemned_key, store._objects.list(CONDEMNED)):
        try:
            decode_condemned(store._objects.get(key), url=store.url, key=key)
        except (CorruptError, FormatError) as error:
            survey.note(key, str(error))
        except NotFoundError:  # its collector has just finished
            pass
