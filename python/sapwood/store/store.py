"""A store: packs, file maps, snapshots and refs under one URL.

Invariant: what is read is proved link by link (ref, snapshot, then the core proves file map and chunks), and a ref
moves only from the state its mover has seen. Callers write in commit order: packs, fragment, fence index, snapshot,
ref. Not here: what to send and fetch (`push`, `pull`, `mount`), bytes of packs and maps (the core), places (`base`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self, TypeVar

from sapwood import places
from sapwood.digests import MapDigest, PackName, SnapshotDigest
from sapwood.errors import (
    ConflictError,
    CorruptError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    UnavailableError,
)
from sapwood.store import history
from sapwood.store.base import CollectObjects, ReadObjects, Version, WriteObjects
from sapwood.store.condemned import read_condemned
from sapwood.store.create import create_store
from sapwood.store.fragments import LocalState
from sapwood.store.identity import Identity, read_identity
from sapwood.store.keys import (
    ACTIONS,
    FRAGMENTS,
    IDENTITY,
    PACKS,
    PROBES,
    REFS,
    action_key,
    action_name,
    fragment_key,
    fragment_name,
    map_key,
    moved_key,
    moved_name,
    pack_key,
    pack_name,
    ref_key,
    ref_name,
    snapshot_key,
)
from sapwood.store.lease import Term
from sapwood.store.objects import open_objects
from sapwood.store.record import encode
from sapwood.store.redirects import Redirects
from sapwood.store.ref import Ref, Removed, check_ref_name, is_ref_name
from sapwood.store.seen import Seen, ref_hash
from sapwood.store.snapshot import Snapshot, user
from sapwood.store.waiting import each, meanwhile

__all__ = ["Store", "open_store"]

_State = TypeVar("_State", Ref, Removed)
_Writer = TypeVar("_Writer", bound=WriteObjects)


def open_store(url: str, *, create: bool = False, cache_dir: Path | None = None, ref: str | None = None) -> Store:
    """Open the store at `url`; see `Store.open`."""
    return Store.open(url, create=create, cache_dir=cache_dir, ref=ref)


class Store:
    """An open store; made by `open_store`. Safe to use from several threads.

    `url` opens it again, `id` is 32 hex digits that it keeps wherever it moves.
    """

    def __init__(
        self,
        objects: ReadObjects,
        writer: WriteObjects | None,
        collector: CollectObjects | None,
        identity: Identity,
        cache_dir: Path | None,
    ) -> None:
        self._objects = objects
        self._writer = writer
        self._collector = collector
        self._cache_dir = cache_dir or places.cache_dir()
        self._supposed = False
        self._redirects = Redirects(objects)
        self._be(identity)

    def _be(self, identity: Identity) -> None:
        self._identity = identity
        self._local = LocalState(self._objects, self._cache_dir / "stores" / identity.id)
        if self._writer is not None:
            self._writer.limit_writes(identity.grace_s)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        create: bool = False,
        grace_s: int | None = None,
        cache_dir: Path | None = None,
        ref: str | None = None,
    ) -> Self:
        """Open the store at `url`: a path, `file://`, `s3://`, `gs://`, `az://`, or, to read, `http(s)://`.

        With `create`, an empty place becomes a store, of the grace `grace_s` in seconds (a day). `cache_dir` holds its
        local state; default is the user's cache.
        With `ref`, no request is made if this machine knows the store from that ref: then a push to it proves or
        corrects what is supposed here, and nothing else may be done before (`confirm`).

        Raises:
            InvalidInputError: `bad-store-url`, `not-a-store`; with `create`, `not-empty`, `read-only-store`,
                `no-conditional-writes`.
            CorruptError: `store-corrupt`: its `sapwood.json` is damaged.
            FormatError: `format-newer`.
            UnavailableError, DeniedError: the place does not answer, or refuses to.
        """
        return cls.over(*open_objects(url), create=create, grace_s=grace_s, cache_dir=cache_dir, ref=ref)

    @classmethod
    def over(
        cls,
        objects: ReadObjects,
        writer: WriteObjects | None,
        collector: CollectObjects | None,
        *,
        create: bool = False,
        grace_s: int | None = None,
        cache_dir: Path | None = None,
        ref: str | None = None,
    ) -> Self:
        """Open the store of a place that is open already; else as `open`."""
        if ref and (seen := Seen.read(cache_dir or places.cache_dir(), objects.url, ref)):
            store = cls(objects, writer, collector, seen.identity, cache_dir)
            store._supposed = True
            return store
        return cls(objects, writer, collector, _identity(objects, collector, grace_s, create=create), cache_dir)

    @classmethod
    def open_at(cls, url: str, ref: str, *, cache_dir: Path | None = None) -> tuple[Self, Ref]:
        """Open the store at `url` and read a ref of it, asked for at once; errors as `open` and `read_ref`."""
        objects, writer, collector = open_objects(url)
        asked = meanwhile(lambda: _ref_state(objects, ref))
        store = cls(objects, writer, collector, _identity(objects, collector, None, create=False), cache_dir)
        return store, _named_one(objects.url, ref, asked())

    def confirm(self) -> None:
        """Read what was only supposed of the store; where there is none any more, make one. Errors as `open`."""
        if self._supposed:
            self._be(_identity(self._objects, self._collector, None, create=True))
            self._supposed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """Where it is."""
        return self._objects.url

    @property
    def id(self) -> str:
        """What it is known by, wherever it is."""
        return self._identity.id

    @property
    def refs_move_by(self) -> Literal["swap", "lock"]:
        """How refs move: by conditional writes of the place, or under a lock where it has none."""
        return self._identity.refs

    @property
    def grace_s(self) -> int:
        """How long what nothing needs is kept before it is deleted, in seconds; the measure of all deadlines."""
        return self._identity.grace_s

    def require_listings(self) -> None:
        """Raise unless the place can be listed; makes no request but one of a place that can.

        Raises:
            InvalidInputError: `cannot-list`.
        """
        self._objects.list(PROBES)

    def requests(self) -> dict[str, int]:
        """Return how many requests this store was sent so far, by verb: get, put, list, head, delete."""
        return self._objects.requests.so_far()

    # Refs

    def read_ref(self, name: str) -> Ref:
        """Return the state of a ref that names something.

        Raises:
            NotFoundError: `ref-missing`; also of one that was removed.
            CorruptError: `ref-corrupt`.
            FormatError: `format-newer`.
            InvalidInputError: `bad-ref-name`.
        """
        return _named_one(self.url, name, self.ref_state(name))

    def ref_state(self, name: str) -> Ref | Removed | None:
        """Return what a move of a ref begins from; None when there never was one of that name; errors as `read_ref`."""
        return _ref_state(self._objects, name)

    def refs(self) -> list[Ref]:
        """Return all refs that name something, sorted by name.

        Errors as `read_ref`, and `cannot-list` where there are no listings.
        """
        refs, unreadable = self.sound_refs()
        if unreadable:
            raise unreadable[0]
        return refs

    def sound_refs(self) -> tuple[list[Ref], list[CorruptError | FormatError]]:
        """Return all refs that can be read, sorted by name, and what is wrong with each other one.

        Raises:
            InvalidInputError: `cannot-list` where there are no listings.
        """
        names = [name for key in self._objects.list(REFS) if (name := ref_name(key)) and is_ref_name(name)]

        def read(name: str) -> Ref | CorruptError | FormatError | None:
            try:
                return self.read_ref(name)
            except NotFoundError:  # removed since it was listed
                return None
            except (CorruptError, FormatError) as error:
                return error

        found = each(read, sorted(names))
        refs = [ref for ref in found if isinstance(ref, Ref)]
        return refs, [error for error in found if isinstance(error, (CorruptError, FormatError))]

    def move_ref(
        self,
        name: str,
        snapshot: SnapshotDigest,
        expect: Ref | Removed | None,
        still: Callable[[], object] = lambda: None,
    ) -> Ref:
        """Let a ref name `snapshot` if its state is still `expect`, None for no such ref; return its new state.

        What its history kept it keeps. Durable when it returns. Of any number of racing movers exactly one succeeds.
        `still` is called just before the ref is written, however long that had to wait, and nothing is if it raises.

        Raises:
            ConflictError: `ref-moved`; nothing was changed. `found` is the state now, or None.
            UnavailableError: it may or may not have moved; read it again.
        """
        if expect is not None and expect.name != name:
            raise InvalidInputError(
                f"a state of ref {expect.name} says nothing of {name}", kind="bad-ref-name", ref=name
            )
        return self._move(Ref.next(check_ref_name(name), snapshot, expect), expect, still)

    def tag_ref(
        self,
        name: str,
        snapshot: SnapshotDigest,
        expect: Ref | Removed | None,
        still: Callable[[], object] = lambda: None,
    ) -> Ref:
        """Let a ref name `snapshot` and nothing before it; else as `move_ref`."""
        ref = replace(Ref.next(check_ref_name(name), snapshot, expect), base=snapshot, kept=())
        return self._move(ref, expect, still)

    def cut_ref(self, expect: Ref, kept: Sequence[SnapshotDigest]) -> Ref:
        """Let the history of a ref be its snapshot and `kept`, no more; errors as `move_ref`."""
        return self._move(expect.cut(kept), expect)

    def remove_ref(self, expect: Ref) -> Removed:
        """Let a ref name nothing; errors as `move_ref`."""
        return self._move(Removed.next(expect), expect)

    def _move(self, ref: _State, expect: Ref | Removed | None, still: Callable[[], object] = lambda: None) -> _State:
        try:
            version = self._swap(ref_key(ref.name), ref.encode(), expect.version if expect else None, still)
        except UnavailableError:
            # Perhaps only the reply was lost: no two states have the same bytes.
            with contextlib.suppress(SapwoodError):
                there = self.ref_state(ref.name)
                if there is not None and there == ref:
                    return replace(ref, version=there.version)
            raise
        except ConflictError as error:
            if error.kind != "object-changed":  # what `still` says
                raise
            found = self.ref_state(ref.name)
            if found is not None and found == ref:
                return replace(ref, version=found.version)
            was = f"expected move {expect.counter}" if expect else "expected none"
            now = f"it is at move {found.counter}, {_named(found)}" if found else "it is gone"
            raise ConflictError(
                f"{self.url}: ref {ref.name} was moved by somebody else: {was}, {now}",
                kind="ref-moved",
                hint=f"sapwood log {self.url}#{ref.name}",
                store=self.url,
                ref=ref.name,
                found=found,
            ) from error
        return replace(ref, version=version)

    # What this machine saw of a ref last

    def seen(self, ref: Ref | Removed | None) -> tuple[bytes, bytes, bytes] | None:
        """Return snapshot, holdings and the memory of pages, from this machine, if they are of this very state."""
        if ref is None:
            return None
        seen = Seen.read(self._cache_dir, self.url, ref.name)
        if seen is None or seen.ref != ref.encode() or seen.identity != self._identity:
            return None
        with contextlib.suppress(SapwoodError):
            holdings = self._local.holdings(ref_hash(self.url, ref.name)[:32], seen.holdings)
            return (seen.snapshot, *holdings) if holdings else None
        return None

    def saw(self, ref: Ref, snapshot: Snapshot, holdings: bytes, memory: bytes | None) -> None:
        """Keep what `seen` returns; without `memory`, it stays as it was.

        Where that cannot be written, the next push costs more.
        """
        with contextlib.suppress(SapwoodError):
            kept = self._local.keep_holdings(ref_hash(self.url, ref.name)[:32], holdings, memory)
            seen = Seen(self._identity, ref.encode(), snapshot.encode(), kept)
            seen.keep(self._cache_dir, self.url, ref.name)

    def term(self, push: str, since_s: float) -> Term:
        """Return the time that the run `push` has, which began at `since_s` of the monotonic clock."""
        body = encode({"user": user(), "host": os.uname().nodename})
        return Term(self._collecting(), push, self.grace_s, since_s, body)

    # Snapshots

    def write_snapshot(self, snapshot: Snapshot) -> SnapshotDigest:
        """Store a snapshot, after all that it names; durable when it returns."""
        self._writing().put(snapshot_key(snapshot.digest), snapshot.encode())
        return snapshot.digest

    def read_snapshot(self, digest: SnapshotDigest) -> Snapshot:
        """Return the snapshot of this digest, proved.

        Raises:
            NotFoundError: `snapshot-missing`.
            CorruptError: `snapshot-corrupt`.
            FormatError: `format-newer`.
        """
        data = self._get(snapshot_key(digest), f"snapshot {digest[:19]}", "snapshot-missing", digest=digest)
        return Snapshot.decode(data, digest, url=self.url)

    def history(self, start: Ref | Snapshot) -> Iterator[Snapshot]:
        """Yield the snapshots of a ref, or a snapshot and those before it, newest first, each read when asked for.

        That of a ref is whole; that of a snapshot ends where its parent was collected. Errors as `read_snapshot`.
        """
        if isinstance(start, Ref):
            return history.of_ref(start, self.read_snapshot)
        return history.line_of(start, self.read_snapshot)

    # Packs and file maps: bytes that the core makes and proves

    def put_pack(self, name: PackName, data: bytes | memoryview) -> None:
        """Store a sealed pack under the name the core gave it; durable when it returns."""
        self._writing().put(pack_key(name), data)

    def packs(self) -> set[PackName]:
        """Return the names of all packs that are there."""
        return {name for key in self._objects.list(PACKS) if (name := pack_name(key))}

    def has_packs(self, names: Iterable[PackName]) -> bool:
        """Say whether each of these packs is there, be it elsewhere."""
        keys = [(pack_key(name), moved_key(name)) for name in names]
        return all(each(lambda both: any(map(self._objects.exists, both)), keys))

    def usable_packs(self) -> tuple[set[PackName], set[PackName]]:
        """Return the packs that are there, be it elsewhere, and those of them that are neither moved nor condemned."""
        condemned = {
            name for keys in read_condemned(self._objects).values() for key in keys if (name := pack_name(key))
        }
        listed = self._objects.list(PACKS)
        there = {name for key in listed if (name := pack_name(key))}
        moved = {name for key in listed if (name := moved_name(key))}
        return there | moved, {name for name in there if name not in moved and name not in condemned}

    def read_ranges(self, pack: PackName, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length) of a pack, in the order asked; unverified.

        Frames of a pack that was moved are read where they lie now.

        Raises:
            NotFoundError: `pack-missing`.
            CorruptError: `object-short`: the pack ends before a range does; `damaged` redirect.
            UnavailableError: `reply-truncated`, or the place does not answer.
        """
        try:
            return self._redirects.read(pack, ranges)
        except NotFoundError as error:
            raise self._missing(f"pack {pack[:12]}", "pack-missing", error, pack=pack) from error

    def read_moved(self, pack: PackName, offset: int, length: int, *, again: bool = False) -> bytes | None:
        """Return a frame of a pack from where it was moved to, None if it was not; errors as `read_ranges`.

        With `again` what is known of moved packs is read once more: what it led to was damaged.
        """
        found = self._redirects.read_moved(pack, [(offset, length)], again=again)
        return found[0] if found else None

    def reconnect(self) -> None:
        """Ask by new connections from now on: those that there are may be dead."""
        self._objects.reconnect()

    def put_map(self, digest: MapDigest, compressed: bytes) -> None:
        """Store a fence index, compressed, under the digest of its text; durable when it returns."""
        self._writing().put(map_key(digest), compressed)

    def read_map(self, digest: MapDigest) -> bytes:
        """Return a fence index, compressed and unverified.

        Raises:
            NotFoundError: `map-missing`.
        """
        return self._get(map_key(digest), f"file map {digest[:19]}", "map-missing", digest=digest)

    # Profiles: what was read of trees

    def read_object(self, key: str) -> tuple[bytes, Version] | None:
        """Return a profile, say, unproved, and the version that `swap_object` expects; None when there is none."""
        try:
            return self._objects.read_versioned(key)
        except NotFoundError as error:
            if error.kind != "object-missing":  # the whole bucket, say
                raise
            return None

    def swap_object(self, key: str, data: bytes, expect: Version | None) -> None:
        """Replace the version `expect` of such an object, or create it if None.

        Raises:
            ConflictError: `object-changed`; nothing was written.
        """
        self._swap(key, data, expect, lambda: None)

    # Results of actions: docs/build.md

    def read_action(self, hexadecimal: str) -> tuple[bytes, Version] | None:
        """Return the result of an action, unproved, and the version that `swap_action` expects; None: there is none."""
        return self.read_object(action_key(hexadecimal))

    def swap_action(self, hexadecimal: str, data: bytes, expect: Version | None) -> None:
        """Replace the version `expect` of the result of an action, or create it if None, after all that it names.

        Raises:
            ConflictError: `object-changed`; nothing was written.
        """
        self._swap(action_key(hexadecimal), data, expect, lambda: None)

    def actions(self) -> list[str]:
        """Return the actions that have a result."""
        return [name for key in self._objects.list(ACTIONS) if (name := action_name(key))]

    def require_writable(self) -> None:
        """Raise unless the place can be written; makes no request.

        Raises:
            InvalidInputError: `read-only-store`.
        """
        self._writing()

    # Index fragments: what the store already has

    def put_fragment(self, data: bytes) -> None:
        """Store what a push added; durable when it returns."""
        name = hashlib.sha256(data).hexdigest()
        self._writing().put(fragment_key(name), data)
        self._local.keep(name, data)

    def fragments(self, budget: int | None = None) -> list[bytes]:
        """Return the fragments of finished pushes: those that are kept here, of others the newest, or all.

        At most `budget` bytes are fetched.

        Raises:
            CorruptError: `fragment-corrupt`.
        """
        if self._collector is None:
            found = [(name, 0) for key in self._objects.list(FRAGMENTS) if (name := fragment_name(key))]
        else:
            newest = sorted(self._collector.listed(FRAGMENTS), key=lambda one: one.modified_ns, reverse=True)
            found = [(name, one.size) for one in newest if (name := fragment_name(one.key))]
        return self._local.fragments(found, budget)

    def owed(self) -> dict[str, bytes]:
        """Return, by name, fragments that pushes from this machine have not put yet."""
        return self._local.owed()

    def owe_fragment(self, data: bytes) -> None:
        """Keep what a push added on this machine, for it is little; a later one puts it."""
        self._local.owe(data)

    def settle_owed(self, names: Iterable[str]) -> None:
        """Forget what was owed; for after `put_fragment` of all of it."""
        self._local.settle(names)

    def pending(self, there: Container[PackName] = ()) -> dict[PackName, bytes]:
        """Return what unfinished pushes of this machine left behind: a fragment for each pack that is still there.

        Those in `there` need not be asked for.
        """
        return self._local.pending(there)

    def has_pending(self) -> bool:
        """Say whether `pending` may return anything; makes no request."""
        return self._local.has_pending()

    def keep_pending(self, pack: PackName, fragment: bytes) -> None:
        """Remember on this machine what is in a pack just put, should the push not end."""
        self._local.keep_pending(pack, fragment)

    def clear_pending(self, packs: Iterable[PackName]) -> None:
        """Forget what `keep_pending` remembered of `packs`; for after `put_fragment` of all of it."""
        self._local.clear_pending(packs)

    def _get(self, key: str, what: str, kind: str, **context: str) -> bytes:
        try:
            return self._objects.get(key)
        except NotFoundError as error:
            raise self._missing(what, kind, error, **context) from error

    def _missing(self, what: str, kind: str, error: NotFoundError, **context: str) -> NotFoundError:
        if error.kind != "object-missing":  # the whole bucket, say
            return error
        return NotFoundError(f"{self.url} has no {what}", kind=kind, store=self.url, **context)

    def _swap(self, key: str, data: bytes, expect: Version | None, still: Callable[[], object]) -> Version:
        if self._identity.refs == "swap":
            still()
            return self._writing().swap(key, data, expect)
        from sapwood.store.lock import RefLock

        return RefLock(self._collecting(), self.grace_s).swap(key, data, expect, still)

    def _writing(self) -> WriteObjects:
        return _writable(self.url, self._writer)

    def _collecting(self) -> CollectObjects:
        return _writable(self.url, self._collector)


def _named(ref: Ref | Removed) -> str:
    return ref.snapshot[:19] if isinstance(ref, Ref) else "removed"


def _identity(objects: ReadObjects, collector: CollectObjects | None, grace_s: int | None, *, create: bool) -> Identity:
    try:
        return read_identity(objects)
    except NotFoundError as missing:
        if create:
            return create_store(_writable(objects.url, collector), grace_s)
        if missing.kind != "object-missing":
            raise
        raise InvalidInputError(
            f"{objects.url}: not a store: there is no {IDENTITY}",
            kind="not-a-store",
            hint=f"name a store; an empty place becomes one by: sapwood init {objects.url}",
            store=objects.url,
        ) from missing


def _ref_state(objects: ReadObjects, name: str) -> Ref | Removed | None:
    key = ref_key(check_ref_name(name))
    try:
        data, version = objects.read_versioned(key)
    except NotFoundError as error:
        if error.kind != "object-missing":  # the whole bucket, say
            raise
        return None
    return Ref.decode(name, data, version, url=objects.url)


def _named_one(url: str, name: str, found: Ref | Removed | None) -> Ref:
    if not isinstance(found, Ref):
        raise NotFoundError(f"{url} has no ref {name}", kind="ref-missing", hint=f"sapwood refs {url}", ref=name)
    return found


def _writable(url: str, writer: _Writer | None) -> _Writer:
    if writer is None:
        raise InvalidInputError(
            f"{url}: can only be read", kind="read-only-store", hint="write to it by its path or s3:// URL", store=url
        )
    return writer
