"""Verify: every link from refs to chunks, held against what the store has.

Promise: each damage is found and named by key, with the refs and paths that need it; nothing is changed. File maps are
read in full; packs by what they say of themselves, and, as many as asked for, to the last byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from dataclasses import dataclass, replace

from sapwood._core.upkeep import TAIL, Toc, fragment_packs, prove, read_toc
from sapwood.digests import PackName
from sapwood.errors import CorruptError, FormatError, NotFoundError
from sapwood.progress import OnProgress, steps
from sapwood.store.condemned import decode_condemned
from sapwood.store.keys import (
    CONDEMNED,
    FRAGMENTS,
    LOCKS,
    fragment_name,
    is_condemned_key,
    lock_number,
    pack_key,
    pack_name,
    ref_key,
    snapshot_key,
)
from sapwood.store.lock import is_free
from sapwood.store.store import Store
from sapwood.store.waiting import each
from sapwood.upkeep.outline import read_outline
from sapwood.upkeep.survey import Damage, Place, Survey, snapshots_listed

__all__ = ["Verified", "examine", "read_toc_of", "verify"]

# Something may be moved, or be forgotten and collected, while one looks for it.
_LOOKS = 4
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


def verify(store: Store, *, read_data: float = 0.0, progress: OnProgress | None = None) -> Verified:
    """Look at everything that the refs of a store need; read `read_data` percent of all packs, at random, whole.

    Pushes and collections may be under way. `progress` is told of packs, as of files.

    Raises:
        InvalidInputError: `cannot-list`, `read-only-store`.
        UnavailableError, DeniedError: the store does not answer, or refuses to.
    """
    return examine(store, read_data=read_data, progress=progress)[0]


def examine(store: Store, *, read_data: float, progress: OnProgress | None = None) -> tuple[Verified, Survey]:
    """Verify, and return what was learned on the way, too."""
    started = time.monotonic()
    survey, verified = _look(store, read_data, progress)
    for _ in range(_LOOKS):
        if not survey.doubtful():
            break
        before = set(survey.damages)
        survey, verified = _look(store, read_data, progress)
        for key in survey.doubtful() - before:
            del survey.damages[key]
    damages = tuple(damage for _, damage in sorted(survey.damages.items()))
    return replace(verified, damages=damages, seconds=time.monotonic() - started), survey


def _look(store: Store, read_data: float, progress: OnProgress | None) -> tuple[Survey, Verified]:
    survey = Survey(store)
    survey.look()
    condemned = _look_at_records(survey)
    _look_at_locks(survey)
    for digest in snapshots_listed(store):
        if digest not in survey.snapshots and snapshot_key(digest) not in condemned:
            try:
                store.read_snapshot(digest)
            except (CorruptError, FormatError) as error:
                survey.note(snapshot_key(digest), str(error))
            except NotFoundError:  # collected since it was listed
                pass
    fragments = _look_at_fragments(survey)
    given_up = set(filter(None, map(pack_name, condemned)))
    chosen: set[PackName] | None = None
    names: list[PackName] = []
    sizes: list[int] = []
    for _ in range(_LOOKS):
        survey.outlines.clear()
        # What nothing needs any more since it was moved or condemned may be damaged: nobody reads it, nor re-uses it.
        over = (survey.moved.keys() | given_up) - set(survey.needs.packs())
        names = sorted(survey.packs.keys() - over)
        if chosen is None:
            chosen = set(random.sample(names, min(len(names), -int(-len(names) * read_data // 100))))
        whole, others = [one for one in names if one in chosen], [one for one in names if one not in chosen]
        done = steps(progress, len(names))
        sizes = each(lambda name: _read_whole(survey, name), whole, at_once=_AT_ONCE, done=done)
        each(lambda name: _look_at_toc(survey, name), others, done=steps(progress, len(names), len(whole)))
        if survey.packs.keys() >= set(survey.needs.packs()):
            break
        there = set(survey.packs)
        survey.find()
        if there == survey.packs.keys():
            break
    for name in survey.needs.packs():
        if name not in survey.packs:
            lost = [place[:2] for place in survey.needs.of(name)]
            survey.note_places(name, f"{store.url}: {pack_key(PackName(name))} is not there", lost)
    _look_for_refs(survey)
    verified = Verified(
        refs=survey.refs,
        snapshots=len(survey.snapshots),
        maps=len(survey.maps),
        pages=survey.pages,
        packs=len(names),
        packs_read=len(sizes),
        bytes_read=sum(sizes),
        fragments=fragments,
        damages=(),
        seconds=0.0,
    )
    return survey, verified


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
        survey.packs.pop(name)  # moved or collected since it was listed; who needs it asks where it is
        return
    except (CorruptError, FormatError) as error:
        # Frames may be whole, and file maps find them without the TOC: no file is named.
        survey.note_places(name, f"{survey.store.url}: {key}: {error}", ())
        return
    survey.outlines += [(name, place) for place in toc.held("outline")]
    if lost := survey.needs.unlisted(name, toc):
        found = f"{survey.store.url}: {key} does not hold what file maps need of it: {len(lost)} chunks"
        survey.note_places(name, found, [place[:2] for place in lost])


def _read_whole(survey: Survey, name: PackName) -> int:
    key = pack_key(name)
    needed = survey.needs.of(name)
    try:
        data = survey.store._objects.get(key)
    except NotFoundError:
        survey.packs.pop(name)
        return 0
    except CorruptError as error:
        survey.note_places(name, str(error), [place[:2] for place in needed])
        return 0
    with contextlib.suppress(CorruptError, FormatError):  # which is told below
        toc, _ = read_toc(data, len(data))
        survey.outlines += [(name, place) for place in toc.held("outline")] if toc else []
    proved = prove(name, data, sorted({(offset, length, plain) for offset, _, length, plain, *_ in needed}))
    lost = survey.needs.unproved(name, proved)
    if lost or (proved.faults and name not in survey.moved):
        found = proved.faults[0] if proved.faults else f"it does not hold {len(lost)} chunks that file maps need"
        more = f" (and {len(proved.faults) - 1} more)" if proved.faults[1:] else ""
        survey.note_places(name, f"{survey.store.url}: {key}: {found}{more}", [place[:2] for place in lost])
    return len(data)


def _look_for_refs(survey: Survey) -> None:
    """Find refs that are gone: one of which an outline tells the second move, or a later one, has been there.

    Of a first move that is not known: a push to a new ref may have been killed, or may still be under way.
    """

    def read(found: tuple[PackName, Place]) -> str | None:
        try:
            outline = read_outline(survey.store, *found)
        except (CorruptError, FormatError, NotFoundError):  # the pack is named when it is read whole
            return None
        return outline.ref if outline.counter > 1 else None

    store = survey.store
    named = set(filter(None, each(read, survey.outlines)))
    for name in sorted(named - survey.names):
        with contextlib.suppress(CorruptError, FormatError):
            if store.ref_state(name) is None:
                survey.note(ref_key(name), f"{store.url}: {ref_key(name)} is not there", [name])


def _look_at_fragments(survey: Survey) -> int:
    """Read every index fragment: a damaged one keeps pushes from going on."""
    keys = [key for key in survey.store._objects.list(FRAGMENTS) if fragment_name(key)]

    def look(key: str) -> None:
        where = f"{survey.store.url}: {key}"
        try:
            data = survey.store._objects.get(key)
            if hashlib.sha256(data).hexdigest() != fragment_name(key):
                survey.note(key, f"{where}: its bytes hash to something else")
            else:
                fragment_packs(data)
        except NotFoundError:  # merged by a collection since it was listed
            pass
        except (CorruptError, FormatError) as error:
            survey.note(key, f"{where}: {error}")

    each(look, keys)
    return len(keys)


def _look_at_records(survey: Survey) -> set[str]:
    """Read what collections have condemned: a damaged record keeps them, and pushes, from going on. Return keys."""
    store = survey.store
    condemned: set[str] = set()
    for key in filter(is_condemned_key, store._objects.list(CONDEMNED)):
        try:
            keys = decode_condemned(store._objects.get(key), url=store.url, key=key)
        except (CorruptError, FormatError) as error:
            survey.note_error(key, error)
        except NotFoundError:  # its collector has just finished
            pass
        else:
            condemned.update(keys)
    return condemned


def _look_at_locks(survey: Survey) -> None:
    """Read the locks on refs: a damaged one keeps every ref from moving."""
    store = survey.store
    for key in (key for key in store._objects.list(LOCKS) if lock_number(key) is not None):
        try:
            is_free(store._objects.get(key), url=store.url, key=key)
        except (CorruptError, FormatError) as error:
            survey.note_error(key, error)
        except NotFoundError:  # too old to be of use to anybody
            pass
