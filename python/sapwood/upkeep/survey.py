"""Survey: from the refs of a store down to the last page, everything that is needed, and what of it cannot be read.

Promise: no damage ends a survey; each is noted under the key of the object, with the refs that need it. Every page of a
file map is read once however many snapshots share it. What refs do not need any more, since they moved meanwhile, is
told from what is lost (`doubtful`). Not here: the packs themselves (`verify`), healing (`repair`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sapwood._core.filemap import FileMap, Frame
from sapwood._core.upkeep import Needs, held, pages, paths, redirect_packs, redirect_rows
from sapwood.digests import MapDigest, PackName, SnapshotDigest, parse_digest
from sapwood.errors import CorruptError, FormatError, NotFoundError, SapwoodError
from sapwood.fetch import load_map, read_frames
from sapwood.store.base import Listed
from sapwood.store.history import of_ref
from sapwood.store.keys import (
    PACKS,
    SNAPSHOTS,
    is_snapshot_key,
    map_key,
    moved_key,
    moved_name,
    pack_key,
    pack_name,
    ref_key,
    snapshot_key,
)
from sapwood.store.redirects import HOPS
from sapwood.store.ref import Ref
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store
from sapwood.store.waiting import each

__all__ = ["DAMAGES", "SHOWN", "Damage", "LostPage", "Place", "Survey", "snapshot_digest", "snapshots_listed"]

SHOWN = 10
"""Paths that a damage names at most."""

DAMAGES = (CorruptError, NotFoundError, FormatError)
"""What reading an object raises when it is damaged, missing, or of a newer format."""

# Pages at a time: some MB.
_PAGES = 64

Place = tuple[int, int, int, int, str, int]
"""As the core tells places (`_core.upkeep`)."""


@dataclass
class Damage:
    """What is wrong with one object, and who needs it. `paths` are the first ones; `more` were not listed."""

    key: str
    found: str
    refs: set[str] = field(default_factory=set)
    paths: list[bytes] = field(default_factory=list)
    more: int = 0


@dataclass
class _Mapped:
    """A file map that is needed: of which snapshot, and by which refs."""

    snapshot: Snapshot
    refs: set[str]


@dataclass(frozen=True)
class LostPage:
    """A page of a file map that cannot be read, as the fence index knows it, and a snapshot that has it.

    One of split metadata has no entries.
    """

    snapshot: Snapshot
    first: bytes
    entries: int
    size: int


class Survey:
    """What `look` found. Several refs may stand for one snapshot, several snapshots for one map."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.damages: dict[str, Damage] = {}
        self.refs = 0
        self.snapshots: dict[SnapshotDigest, set[str]] = {}
        """Each with the refs whose histories hold it."""
        self.pages = 0
        self.needs = Needs()
        self.packs: dict[PackName, Listed] = {}
        """Those that are there."""
        self.moved: dict[PackName, bytes] = {}
        """Redirects of packs, there or not."""
        self.outlines: list[tuple[PackName, Place]] = []
        """Where packs say that outlines lie."""
        self.maps: dict[MapDigest, _Mapped] = {}
        self.users: dict[str, set[str]] = {}
        """Refs that need a pack."""
        self.page_digests: set[str] = set()
        self.lost_pages: dict[str, LostPage] = {}
        self.newer: set[str] = set()
        """Keys of objects that say they are of a newer format, and may be so."""
        self._states: dict[str, Ref] = {}

    @property
    def names(self) -> set[str]:
        """Of refs that were read."""
        return set(self._states)

    def look(self) -> None:
        """Read refs, histories, snapshots, file maps and pages.

        Raises:
            InvalidInputError: `cannot-list`, `read-only-store`: the place has no listings.
            UnavailableError, DeniedError: the place does not answer, or refuses to.
        """
        refs, unreadable = self.store.sound_refs()
        self._states = {ref.name: ref for ref in refs}
        self.refs = len(refs) + len(unreadable)
        for error in unreadable:
            self.note_error(ref_key(error.ref), error, [error.ref])
        for ref in refs:
            for snapshot in self._history(ref):
                mapped = self.maps.setdefault(snapshot.map, _Mapped(snapshot, set()))
                mapped.refs.add(ref.name)
        for digest, mapped in self.maps.items():
            for pack in mapped.snapshot.packs:
                self.users.setdefault(pack, set()).update(mapped.refs)
            self._look_at_map(digest, mapped)
        self.find()

    def find(self) -> None:
        """List packs, and take what is needed of those that were moved to where it lies now. May be done again."""
        listed = self.store._collecting().listed(PACKS)
        self.packs = {name: found for found in listed if (name := pack_name(found.key))}
        each(self._read_redirect, [name for found in listed if (name := moved_name(found.key))])
        for _ in range(HOPS):
            names = [PackName(name) for name in self.needs.packs()]
            # Listings may be late, and packs are moved at any time.
            each(self._ask, [name for name in names if name not in self.packs and name not in self.moved])
            went = [self._follow(name) for name in names if name in self.moved]
            if not any(went):
                return

    def _ask(self, name: PackName) -> None:
        self._read_redirect(name)
        if name not in self.moved:
            with contextlib.suppress(*DAMAGES):
                size = len(self.store._objects.get(pack_key(name)))
                self.packs[name] = Listed(pack_key(name), size, 0)

    def _read_redirect(self, name: PackName) -> None:
        key = moved_key(name)
        try:
            redirect = self.store._objects.get(key)
            redirect_packs(name, redirect)
        except NotFoundError:
            return
        except (CorruptError, FormatError) as error:
            self.note_error(key, error, self.users.get(name, ()), f"{self.store.url}: {key}: ")
            return
        self.moved[name] = redirect

    def _follow(self, name: PackName) -> bool:
        redirect = self.moved[name]
        for target in redirect_packs(name, redirect):
            self.users.setdefault(target, set()).update(self.users.get(name, ()))
        return self.needs.follow(name, redirect)

    def doubtful(self) -> set[str]:
        """Return the keys of damages to which only refs lead that have moved since they were read.

        What such a ref named before may rightly have been collected.
        """
        refs = {ref.name: ref for ref in self.store.sound_refs()[0]} if self.damages else {}
        moved = {name for name, state in self._states.items() if refs.get(name) != state}
        return {key for key, damage in self.damages.items() if damage.refs and damage.refs <= moved}

    def note(self, key: str, found: str, refs: Iterable[str] = ()) -> Damage:
        """Note a damage; of one object the first counts."""
        damage = self.damages.setdefault(key, Damage(key, found))
        damage.refs.update(refs)
        return damage

    def note_error(self, key: str, error: SapwoodError, refs: Iterable[str] = (), where: str = "") -> None:
        """Note what is wrong with an object that does not prove itself; it may be of a newer sapwood."""
        self.note(key, f"{where}{error}", refs)
        if isinstance(error, FormatError):
            self.newer.add(key)

    def note_places(self, pack: str, found: str, lost: Iterable[tuple[int, int]]) -> Damage:
        """Note that a pack is not what it should be, and name the files that need what is lost: (offset, inner)."""
        damage = self.note(pack_key(PackName(pack)), found, self.users.get(pack, ()))
        places = self._named(pack, lost)
        packs = {place[0] for place in places}
        for mapped in self.maps.values() if places else ():
            if len(damage.paths) >= SHOWN:
                break
            if packs.isdisjoint(mapped.snapshot.packs):
                continue
            with contextlib.suppress(*DAMAGES):
                file_map = load_map(self.store, mapped.snapshot, pages=False)
                self.bring(file_map, range(len(file_map.pages())))
                named, count = paths(file_map, places, SHOWN)
                new = [path for path in named if path not in damage.paths]
                damage.paths += new[: SHOWN - len(damage.paths)]
                damage.more = max(damage.more, count - len(damage.paths))
        return damage

    def held(self, wanted: Sequence[str]) -> list[tuple[str, int, int, int]]:
        """Return where files hold these chunks, as `_core.upkeep.held` tells of a map, by all maps."""
        found = set[tuple[str, int, int, int]]()
        for mapped in self.maps.values():
            with contextlib.suppress(*DAMAGES):
                file_map = load_map(self.store, mapped.snapshot, pages=False)
                self.bring(file_map, range(len(file_map.pages())))
                found.update(held(file_map, wanted))
        return sorted(found)

    def _named(self, pack: str, lost: Iterable[tuple[int, int]]) -> list[tuple[str, int, int]]:
        """Return places (offset, inner) of a pack with the pack, and those that file maps know them by."""
        found = [(pack, offset, inner) for offset, inner in lost]
        if not found:
            return []
        before: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for name, redirect in self.moved.items():
            for offset, _, to, now, _ in redirect_rows(name, redirect):
                before.setdefault((to, now), []).append((name, offset))
        new = found
        for _ in range(HOPS):
            new = [(*older, inner) for name, at, inner in new for older in before.get((name, at), ())]
            found = found + new
        return found

    def bring(self, file_map: FileMap, wanted: Iterable[int]) -> dict[int, CorruptError | FormatError | NotFoundError]:
        """Bring pages of a map, also of split metadata; return what is wrong with those that cannot be brought."""
        frames = file_map.stored_pages()
        found: dict[int, CorruptError | FormatError | NotFoundError] = {}

        def bring(page: int) -> None:
            frame = frames[page]
            try:
                try:
                    self._bring(file_map, page, frame)
                except (CorruptError, FormatError):  # the way may be to blame, or it was moved because of that
                    moved = self.store.read_moved(PackName(frame.pack), frame.offset, frame.length)
                    self._bring(file_map, page, frame, moved)
            except DAMAGES as error:
                found[page] = error

        each(bring, list(wanted))
        return found

    def _bring(self, file_map: FileMap, page: int, frame: Frame, stored: bytes | None = None) -> None:
        if stored is None:
            [(_, stored)] = read_frames(self.store, [frame])
        file_map.add_page(page, stored)

    def _history(self, ref: Ref) -> Iterator[Snapshot]:
        """Yield what can be read of a ref's history; note what cannot."""

        def read(digest: SnapshotDigest) -> Snapshot:
            self.snapshots.setdefault(digest, set()).add(ref.name)
            try:
                return self.store.read_snapshot(digest)
            except DAMAGES as error:
                self.note(snapshot_key(digest), str(error), [ref.name])
                raise

        try:
            yield from of_ref(ref, read)
        except DAMAGES:
            # What was kept of it does not hang on the chain that is broken.
            for digest in ref.kept:
                with contextlib.suppress(*DAMAGES):
                    yield read(digest)

    def _look_at_map(self, digest: MapDigest, mapped: _Mapped) -> None:
        try:
            file_map = load_map(self.store, mapped.snapshot, pages=False)
        except DAMAGES as error:
            self.note(map_key(digest), str(error), mapped.refs)
            return
        told, frames = pages(file_map), file_map.stored_pages()
        new = [number for number, page in enumerate(told) if page[0] not in self.page_digests]
        self.page_digests.update(page[0] for page in told)
        self.needs.add(file_map)
        for at in range(0, len(new), _PAGES):
            wanted = new[at : at + _PAGES]
            # A map of its own, so that no more pages are in memory than are looked at.
            try:
                part = load_map(self.store, mapped.snapshot, pages=False)
            except DAMAGES as error:  # collected since, perhaps
                self.note(map_key(digest), str(error), mapped.refs)
                return
            for number, wrong in sorted(self.bring(part, wanted).items()):
                page, size, first, entries = told[number]
                self.lost_pages[page] = LostPage(mapped.snapshot, first, entries, size)
                what = "a page" if entries else "a page of split metadata"
                found = f"{what} of file map {digest[:19]} cannot be read: {wrong}"
                damage = self.note(pack_key(PackName(frames[number].pack)), found, mapped.refs)
                if not entries:
                    continue
                if len(damage.paths) < SHOWN:
                    damage.paths.append(first or b".")
                else:
                    damage.more += 1
            self.needs.add(part)
            self.pages += len(wanted)


def snapshots_listed(store: Store) -> list[SnapshotDigest]:
    """Return all snapshots that are there, also those of no history."""
    return list(filter(None, map(snapshot_digest, store._collecting().list(SNAPSHOTS))))


def snapshot_digest(key: str) -> SnapshotDigest | None:
    """Return the digest of the snapshot that a listed key is, or None if it is none."""
    if not is_snapshot_key(key):
        return None
    return parse_digest(SnapshotDigest, f"sha256:{key.removeprefix(f'{SNAPSHOTS}/').removesuffix('.json')}")
