"""Naming and forgetting: tags, removed refs, histories that are cut, so that collection may take what nobody needs.

Promise: a push that comes between is not undone by `forget`, whose rules are then applied anew.
Nothing is deleted here (`gc` does that), so a pinned address stays good until then.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from sapwood._core.collect import Marks
from sapwood.digests import PackName, SnapshotDigest
from sapwood.errors import ConflictError, NotFoundError
from sapwood.store.condemned import read_condemned
from sapwood.store.keys import map_key, moved_key, pack_key, snapshot_key
from sapwood.store.lease import clock_s
from sapwood.store.ref import Ref, check_ref_name
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store
from sapwood.upkeep.living import mark_maps
from sapwood.upkeep.retention import Rules, kept

__all__ = ["Forgotten", "forget", "forget_each", "forget_ref", "remove", "tag"]

_Result = TypeVar("_Result")

# Whoever loses a swap lost it to one that won, so work goes on even where many fail that often.
_TRIES = 20


@dataclass(frozen=True)
class Forgotten:
    """What was decided on a ref's history: its snapshots, newest first, split in two."""

    ref: str
    kept: tuple[SnapshotDigest, ...]
    forgotten: tuple[SnapshotDigest, ...]


def forget(store: Store, rules: Rules, *, pattern: str = "*", dry_run: bool = False) -> list[Forgotten]:
    """Cut the history of each ref whose name matches `pattern` to what `rules` keep; with `dry_run` only say so.

    Raises:
        NotFoundError: `ref-missing`: no ref matches; `snapshot-missing`: a history is broken; that ref, and those after
            it, are left as they are.
        CorruptError, FormatError: as `Store.refs`.
        ConflictError: `ref-moved` again and again by others.
    """
    return list(forget_each(store, rules, pattern=pattern, dry_run=dry_run))


def forget_each(store: Store, rules: Rules, *, pattern: str = "*", dry_run: bool = False) -> Iterator[Forgotten]:
    """Do what `forget` does ref by ref, and yield what was done before the next is looked at."""
    names = [ref.name for ref in store.refs() if fnmatchcase(ref.name, pattern)]
    if not names and pattern != "*":
        raise NotFoundError(
            f"{store.url} has no ref that matches {pattern}",
            kind="ref-missing",
            hint=f"sapwood refs {store.url}",
            store=store.url,
        )
    for name in names:
        try:
            done = forget_ref(store, name, rules, dry_run=dry_run)
        except NotFoundError as error:
            if error.kind != "ref-missing":  # removed since it was listed
                raise
        else:
            yield done


def forget_ref(store: Store, name: str, rules: Rules, *, dry_run: bool = False) -> Forgotten:
    """Cut the history of one ref; as `forget`.

    Raises:
        NotFoundError: `ref-missing`.
    """

    def cut() -> Forgotten:
        ref = store.read_ref(name)
        history = list(store.history(ref))
        keep = [snapshot.digest for snapshot in kept(history, rules)]
        forgotten = tuple(snapshot.digest for snapshot in history if snapshot.digest not in set(keep))
        if forgotten and not dry_run:
            store.cut_ref(ref, keep[1:])
        return Forgotten(name, tuple(keep), forgotten)

    return _repeated(cut)


def remove(store: Store, name: str) -> Ref:
    """Let a ref name nothing; return what it was.

    Raises:
        NotFoundError: `ref-missing`.
        ConflictError: as `forget`.
    """

    def once() -> Ref:
        ref = store.read_ref(name)
        store.remove_ref(ref)
        return ref

    return _repeated(once)


def tag(store: Store, snapshot: Snapshot, name: str, *, of: str) -> Ref:
    """Let the new ref `name` name a snapshot of the history of ref `of`, or of another's, and nothing before it.

    A second time is harmless.

    Raises:
        ConflictError: `ref-exists`: the name is taken; `pack-condemned`: collection may be about to take a part of it.
        NotFoundError: `snapshot-forgotten`: it is in no ref's history, so collection may be about to take it.
        UnavailableError: `push-too-slow`.
    """
    term = store.term(secrets.token_hex(8), clock_s())
    before = store.ref_state(check_ref_name(name))
    if isinstance(before, Ref):
        if (before.snapshot, before.base, before.kept) == (snapshot.digest, snapshot.digest, ()):
            return before
        raise ConflictError(
            f"{store.url} has a ref {name}: it names {before.snapshot[:19]}",
            kind="ref-exists",
            hint=f"sapwood rm {store.url}#{name}",
            store=store.url,
            ref=name,
        )
    refs = sorted(store.refs(), key=lambda ref: ref.name != of)
    if not any(found.digest == snapshot.digest for ref in refs for found in store.history(ref)):
        raise NotFoundError(
            f"{store.url}: snapshot {snapshot.digest[:19]} was forgotten: it is in no ref's history",
            kind="snapshot-forgotten",
            hint=f"sapwood pull {store.url}#{of}@{snapshot.digest} DIR, while it is there, and push DIR",
            store=store.url,
            digest=snapshot.digest,
        )
    _require_uncondemned(store, snapshot)
    return store.tag_ref(name, snapshot.digest, before, lambda: term.require(()))


def _require_uncondemned(store: Store, snapshot: Snapshot) -> None:
    """Raise if something that the snapshot needs is condemned, though it lives now: it may be deleted any time."""
    condemned = {key for keys in read_condemned(store._objects).values() for key in keys}
    found = store.read_snapshot(snapshot.digest)
    needed = {snapshot_key(found.digest), map_key(found.map), *map(pack_key, found.packs)}
    if not condemned.isdisjoint(needed):
        # Packs that have been moved are condemned, too, and no longer needed.
        marks = Marks()
        mark_maps(store, marks, [found])
        needed = {snapshot_key(found.digest), map_key(found.map)}
        needed.update(pack_key(PackName(pack)) for pack in marks.packs())
        needed.update(moved_key(PackName(pack)) for pack in marks.moved())
    if lost := condemned & needed:
        raise ConflictError(
            f"{store.url}: {min(lost)}, which snapshot {snapshot.digest[:19]} needs, was condemned by a collection",
            kind="pack-condemned",
            hint="tag it when the next collections have found it alive, or pull it and push that",
            store=store.url,
            digest=snapshot.digest,
        )


def _repeated(move: Callable[[], _Result]) -> _Result:
    """Do `move` until nobody comes between its reading and its writing."""
    for _ in range(_TRIES - 1):
        try:
            return move()
        except ConflictError as error:
            if error.kind != "ref-moved":
                raise
    return move()
