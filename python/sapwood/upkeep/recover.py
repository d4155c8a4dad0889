"""Recover: index fragments, file maps, snapshots, refs and the store's own file made again from packs alone.

Promise: what is sound is left alone. As long as packs are whole, a map or snapshot that is made is, byte for byte, the
one that was lost, so refs, parents and pinned addresses hold again. A ref that was removed or cut comes back whole.
Where two places of a page are possible, that which the push itself wrote is taken, then that of the snapshot before,
then that in the pack of the lowest name; of a page that was moved its old place, unless a snapshot's digest tells
otherwise.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from sapwood._core.filemap import Frame
from sapwood._core.upkeep import Recovery, fragment_packs, redirect_rows
from sapwood.digests import ContentDigest, MapDigest, PackName, SnapshotDigest, TreeDigest
from sapwood.errors import ConflictError, CorruptError, FormatError, InvalidInputError, NotFoundError, SapwoodError
from sapwood.fetch import load_map
from sapwood.progress import OnProgress, steps
from sapwood.store.create import moves_by
from sapwood.store.identity import GRACE_S, Identity
from sapwood.store.keys import (
    FRAGMENTS,
    IDENTITY,
    PACKS,
    fragment_key,
    fragment_name,
    map_key,
    moved_key,
    moved_name,
    pack_key,
    pack_name,
    ref_key,
    snapshot_key,
)
from sapwood.store.objects import open_objects
from sapwood.store.redirects import HOPS
from sapwood.store.ref import Ref, Removed
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store, open_store
from sapwood.store.waiting import each
from sapwood.upkeep.outline import Outline, read_outline
from sapwood.upkeep.survey import DAMAGES, Place, snapshots_listed
from sapwood.upkeep.verify import read_toc_of

__all__ = ["Recovered", "make_again", "open_damaged", "recover"]


@dataclass(frozen=True)
class Recovered:
    """What was found, and what was made of it: keys of objects. `unreadable` are lines, `lost` refs of no snapshot.

    `requests` are those to the store since it could be opened, by verb.
    """

    packs: int
    outlines: int
    made: tuple[str, ...]
    unreadable: tuple[str, ...]
    lost: tuple[str, ...]
    requests: dict[str, int]
    seconds: float


def recover(
    url: str, *, grace_s: int | None = None, cache_dir: Path | None = None, progress: OnProgress | None = None
) -> Recovered:
    """Make what is missing or damaged of the store at `url`, but for its packs, of its packs; `progress` as `verify`.

    `grace_s` is what its grace was, in seconds (a day): no pack says that.

    Raises:
        InvalidInputError: `not-a-store`: there are no packs either; `bad-store-url`, `read-only-store`, `cannot-list`.
        FormatError: `format-newer`.
        UnavailableError, DeniedError: the place does not answer, or refuses to.
    """
    started = time.monotonic()
    store, made = open_damaged(url, grace_s=grace_s, cache_dir=cache_dir)
    found = make_again(store, progress=progress)
    return replace(found, made=(*made, *found.made), seconds=time.monotonic() - started)


def open_damaged(url: str, *, grace_s: int | None = None, cache_dir: Path | None = None) -> tuple[Store, list[str]]:
    """Open a store; if its own file is missing or damaged and there are packs, make that. Return it, and keys made.

    `grace_s` as in `recover`.

    Raises:
        InvalidInputError, CorruptError, FormatError, UnavailableError, DeniedError: as `recover`.
    """
    made = _make_identity(url, grace_s)
    return open_store(url, cache_dir=cache_dir), made


def make_again(
    store: Store,
    refs: Container[str] | None = None,
    snapshots: Iterable[SnapshotDigest] = (),
    *,
    progress: OnProgress | None = None,
) -> Recovered:
    """Do what `recover` does to a store that can be opened.

    With `refs`, of refs that are lost only those are made; `snapshots` are made although no history holds them.
    """
    started = time.monotonic()
    work = _Work(store)
    work.read_packs(progress)
    work.read_pages()
    work.make_fragments()
    work.make_histories(refs, snapshots)
    return Recovered(
        packs=work.packs,
        outlines=len(work.outlines),
        made=tuple(work.made),
        unreadable=tuple(sorted(work.unreadable)),
        lost=tuple(sorted(work.lost)),
        requests=store.requests(),
        seconds=time.monotonic() - started,
    )


def _make_identity(url: str, grace_s: int | None) -> list[str]:
    """Make `sapwood.json` if it is missing or damaged and there are packs; return its key if so."""
    try:
        open_store(url)
    except InvalidInputError as error:
        if error.kind != "not-a-store":
            raise
        failed: SapwoodError = error
    except CorruptError as error:
        failed = error
    else:
        return []
    objects, writer, collector = open_objects(url)
    if writer is None or collector is None:
        raise failed
    if not any(pack_name(key) for key in objects.list(PACKS)):
        if isinstance(failed, CorruptError):
            raise failed
        raise InvalidInputError(
            f"{objects.url}: not a store: there is no {IDENTITY}, and no pack",
            kind="not-a-store",
            hint="name the store that has lost it",
            store=objects.url,
        ) from failed
    version = None
    with contextlib.suppress(NotFoundError):
        _, version = objects.read_versioned(IDENTITY)
    refs = moves_by(collector)
    identity = Identity(secrets.token_hex(16), GRACE_S if grace_s is None else grace_s, refs)
    # Machines that saw a ref last believe what they saw of the store, too: from now on none has.
    _move_refs(Store(objects, writer, collector, identity, None))
    if version is not None and refs == "lock":
        collector.delete(IDENTITY)
        version = None
    writer.swap(IDENTITY, identity.encode(), version)
    return [IDENTITY]


def _move_refs(store: Store) -> None:
    """Move every ref that can be read to where it is, so that its bytes are those that nobody has seen."""

    def move(ref: Ref) -> None:
        state: Ref | Removed | None = ref
        while isinstance(state, Ref):
            try:
                store.move_ref(state.name, state.snapshot, state)
            except ConflictError:
                state = store.ref_state(state.name)
            else:
                return

    each(move, store.sound_refs()[0])


@dataclass
class _Built:
    """A snapshot as an outline tells it, with its file map."""

    snapshot: Snapshot
    map: bytes
    places: dict[str, tuple[Frame, int]] = field(repr=False)


class _Work:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.packs = 0
        self.outlines: list[Outline] = []
        self.made: list[str] = []
        self.unreadable: set[str] = set()
        self.lost: set[str] = set()
        self._recovery = Recovery()
        self._pages: dict[str, list[tuple[PackName, Place]]] = {}
        self._pushes: dict[PackName, str | None] = {}
        self._origins: dict[tuple[str, int, int], tuple[str, int, int]] = {}
        """Where a frame lay before it was moved, by where it lies now."""
        self._unnamed: set[PackName] = set()
        self._bad_fragments: list[str] = []
        self._built: dict[SnapshotDigest, _Built] = {}
        self._made_by: dict[str, SnapshotDigest] = {}
        """Snapshots by the push that made them."""

    # Reading

    def read_packs(self, progress: OnProgress | None = None) -> None:
        """Read what all packs say of themselves, redirects, and outlines."""
        listed = self.store._collecting().listed(PACKS)
        sizes = {name: found.size for found in listed if (name := pack_name(found.key))}
        self.packs = len(sizes)
        self._unnamed = set(sizes) - self._named()
        for name in (name for found in listed if (name := moved_name(found.key))):
            try:
                rows = redirect_rows(name, self.store._objects.get(moved_key(name)))
            except DAMAGES as error:
                self.unreadable.add(f"{self.store.url}: {moved_key(name)}: {error}")
                continue
            for offset, length, pack, to, new in rows:
                self._origins[pack, to, new] = (name, offset, length)
        found: list[tuple[PackName, Place]] = []

        def read(name: PackName) -> None:
            try:
                toc = read_toc_of(self.store, name, sizes[name])
            except DAMAGES as error:
                self.unreadable.add(f"{self.store.url}: {pack_key(name)}: {error}")
                return
            if name in self._unnamed:
                self._recovery.pack(name, toc)
            self._pushes[name] = toc.push
            for place in toc.held("page"):
                self._pages.setdefault(place[4], []).append((name, place))
            found.extend((name, place) for place in toc.held("outline"))

        # Dicts and lists of Python's take one change at a time.
        each(read, sorted(sizes), done=steps(progress, len(sizes)))
        outlines = each(self._outline, found)
        self.outlines = sorted(filter(None, outlines), key=lambda outline: (outline.created, outline.counter))

    def _named(self) -> set[str]:
        """Return the packs that sound fragments name; note the others."""
        named: set[str] = set()
        for key in self.store._objects.list(FRAGMENTS):
            name = fragment_name(key)
            try:
                data = self.store._objects.get(key)
                if name is None or hashlib.sha256(data).hexdigest() != name:
                    self._bad_fragments.append(key)
                else:
                    named.update(fragment_packs(data))
            except (CorruptError, NotFoundError):
                self._bad_fragments.append(key)
        return named

    def _outline(self, found: tuple[PackName, Place]) -> Outline | None:
        pack, place = found
        try:
            return read_outline(self.store, pack, place)
        except DAMAGES as error:
            self.unreadable.add(str(error))
            return None

    def read_pages(self) -> None:
        """Read every page that an outline names, once."""
        splits = {page for outline in self.outlines for page in outline.splits}
        wanted = sorted({page for outline in self.outlines for page in outline.pages} | splits)

        def read(digest: str) -> None:
            failed = f"{self.store.url}: page {digest[:19]} of a file map is in no pack"
            for pack, (offset, inner, length, plain, _, size) in self._pages.get(digest, ()):
                try:
                    [stored] = self.store.read_ranges(pack, [(offset, length)])
                    take = self._recovery.split if digest in splits else self._recovery.page
                    take(stored, plain, inner, digest, size)
                    return
                except DAMAGES as error:
                    failed = f"{self.store.url}: {pack_key(pack)}: {error}"
            # Of a snapshot that was forgotten pages are missing rightly: only what is wrong with those there is told.
            if digest in self._pages:
                self.unreadable.add(failed)

        each(read, wanted)

    # Making

    def make_fragments(self) -> None:
        """Name every pack in fragments; take away fragments that are damaged."""
        for fragment in self._recovery.fragments() if self._unnamed else ():
            self.store.put_fragment(fragment)
            self.made.append(fragment_key(hashlib.sha256(fragment).hexdigest()))
        for key in self._bad_fragments:
            self.store._collecting().delete(key)

    def make_histories(self, lost: Container[str] | None, snapshots: Iterable[SnapshotDigest]) -> None:
        """Make each ref that is `lost`, and each snapshot and file map that a ref's history lacks."""
        refs, unreadable = self.store.sound_refs()
        states: dict[str, Ref | Removed | None] = {ref.name: ref for ref in refs}
        self._build(refs)
        # What is of a newer format is left alone.
        newer = {error.ref for error in unreadable if isinstance(error, FormatError)}
        for name in {outline.ref for outline in self.outlines} - set(states) - newer:
            broken = any(error.ref == name for error in unreadable)
            states[name] = None if broken else self.store.ref_state(name)
        for ref in refs:
            self._make_history(ref)
        for name, state in sorted(states.items()):
            if state is None and (lost is None or name in lost):
                self._make_ref(name)
        for digest in snapshots:
            self._make_snapshot(digest)

    def _build(self, refs: list[Ref]) -> None:
        """Tell the snapshot of every outline whose pages are there."""
        named = {ref.snapshot for ref in refs} | {digest for ref in refs for digest in ref.kept}
        named |= {outline.parent for outline in self.outlines if outline.parent}
        named |= set(snapshots_listed(self.store))
        for outline in self.outlines:
            variants = [self._snapshot(outline, moved=moved) for moved in (False, True)]
            found = [built for built in variants if built]
            for built in ([built for built in found if built.snapshot.digest in named] or found)[:1]:
                self._built[built.snapshot.digest] = built
                self._made_by[outline.push] = built.snapshot.digest

    def _snapshot(self, outline: Outline, *, moved: bool) -> _Built | None:
        pages = (*outline.pages, *outline.splits)
        if not all(self._recovery.has_page(page) for page in pages):
            return None
        before = self._built.get(outline.parent) if outline.parent else None
        places = {page: self._place(page, outline, before, moved=moved) for page in pages}
        try:
            digest, size, stored, content, packs = self._recovery.map(
                outline.push,
                outline.tree,
                outline.tree_size,
                outline.entries,
                outline.bytes,
                [(page, *places[page]) for page in pages],
                outline.tar,
            )
        except DAMAGES as error:
            self.unreadable.add(f"{self.store.url}: the outline in {pack_key(PackName(outline.frame[0]))}: {error}")
            return None
        snapshot = Snapshot(
            tree=TreeDigest(outline.tree),
            tree_size=outline.tree_size,
            map=MapDigest(digest),
            map_size=size,
            content=ContentDigest(content),
            entries=outline.entries,
            bytes=outline.bytes,
            packs=tuple(sorted({*map(PackName, packs), PackName(self._origin(outline.frame, moved=moved)[0])})),
            created=outline.created,
            user=outline.user,
            host=outline.host,
            source=outline.source,
            parent=outline.parent,
            program=outline.program,
        )
        return _Built(snapshot, stored, places)

    def _place(self, page: str, outline: Outline, before: _Built | None, *, moved: bool) -> tuple[Frame, int]:
        """Return where the file map of an outline said that a page lies."""

        def rank(place: tuple[Frame, int]) -> tuple[bool, bool, str]:
            is_own = self._pushes.get(PackName(place[0].pack)) == outline.push
            is_kept = before is not None and before.places.get(page) == place
            return (not is_own, not is_kept, place[0].pack)

        places = []
        for pack, (offset, inner, length, plain, _, _) in self._pages[page]:
            at = self._origin((pack, offset, length), moved=moved)
            places.append((Frame(at[0], at[1], at[2], plain), inner))
        return min(places, key=rank)

    def _origin(self, frame: tuple[str, int, int], *, moved: bool) -> tuple[str, int, int]:
        """Return where a frame lay before it was moved; where it lies now if `moved`."""
        for _ in range(0 if moved else HOPS):
            frame = self._origins.get(frame, frame)
        return frame

    def _make_history(self, ref: Ref) -> None:
        for digest in (ref.snapshot, *ref.kept):
            for snapshot in self._line(digest):
                if snapshot is None:
                    break
                if snapshot.digest == ref.base:
                    break

    def _line(self, digest: SnapshotDigest | None) -> Iterator[Snapshot | None]:
        """Yield a snapshot and those before it, each made again where it has to be; None for one that cannot be."""
        while digest is not None:
            snapshot = self._make_snapshot(digest)
            yield snapshot
            digest = snapshot.parent if snapshot else None

    def _make_snapshot(self, digest: SnapshotDigest) -> Snapshot | None:
        """Return a snapshot that is sound, with a sound file map, making what is not; None if that cannot be."""
        built = self._built.get(digest)
        try:
            snapshot = self.store.read_snapshot(digest)
            with_map = self._has_map(snapshot)
        except DAMAGES:
            if built is None:
                return None
            snapshot, with_map = built.snapshot, self._has_map(built.snapshot)
            if not with_map:
                self._put_map(built)
            self.store._collecting().delete(snapshot_key(digest))
            self.store.write_snapshot(snapshot)
            self.made.append(snapshot_key(digest))
            return snapshot
        if not with_map and built is not None:
            self._put_map(built)
        return snapshot

    def _has_map(self, snapshot: Snapshot) -> bool:
        try:
            load_map(self.store, snapshot, pages=False)
        except DAMAGES:
            return False
        return True

    def _put_map(self, built: _Built) -> None:
        # A damaged one may have the right size, and a put of what is there already may be taken as done.
        key = map_key(built.snapshot.map)
        self.store._collecting().delete(key)
        self.store.put_map(built.snapshot.map, built.map)
        self.made.append(key)

    def _make_ref(self, name: str) -> None:
        """Let a lost ref name what its newest push made."""
        parents = {outline.parent for outline in self.outlines}
        mine = [outline for outline in self.outlines if outline.ref == name and outline.push in self._made_by]
        if not mine:
            self.lost.add(name)
            return
        made = {outline.push: self._made_by[outline.push] for outline in mine}
        newest = max(mine, key=lambda outline: (outline.counter, made[outline.push] in parents, outline.created))
        line = list(self._line(made[newest.push]))
        sound = [snapshot for snapshot in line if snapshot]
        # Parents that were forgotten and collected must not be missed.
        base = sound[-1].digest if sound and sound[-1].parent is not None else None
        version = None
        with contextlib.suppress(NotFoundError):
            _, version = self.store._objects.read_versioned(ref_key(name))
        ref = Ref(name, made[newest.push], newest.counter, secrets.token_hex(8), base=base)
        self.store._writing().swap(ref_key(name), ref.encode(), version)
        self.made.append(ref_key(name))
