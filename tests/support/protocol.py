"""docs/store.md as a program: pushers, collectors, readers and movers of refs, each a generator of requests.

Promise: what each does, and in which order, is what the page says; nothing of the product is used. Chunks are
letters, a frame holds one chunk, and a snapshot is its own file map. Fragments only cost bytes when they are lost, so
there are none: a pusher knows the content of every pack that it has heard of, which is more than fragments tell.
`Rules` are the rules of the page; a test takes one away and must then find a loss. Not here: the place (`simulation`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from tests.support.simulation import (
    GRACE,
    Actor,
    ChangedError,
    GaveUpError,
    LostError,
    MissingError,
    Place,
    Request,
    Violation,
    World,
)

Result = TypeVar("Result")

_ATTEMPTS = 6
_HOPS = 32


@dataclass(frozen=True)
class Rules:
    """What may be taken away from docs/store.md to see that it is needed."""

    pushes_have_a_deadline: bool = True
    names_never_repeat: bool = True
    condemned_is_not_reused: bool = True
    refs_are_read_before_deletion: bool = True
    leases_are_heeded: bool = True
    redirects_must_cover: bool = True
    holdings_are_chunks: bool = True
    renewals_have_a_deadline: bool = True
    records_outlive_what_they_condemn: bool = True
    used_records_are_left: bool = True
    collectors_have_a_deadline: bool = True
    tags_heed_records: bool = True
    leases_end_by_themselves: bool = True


class Pack(NamedTuple):
    chunks: frozenset[str]


class Redirect(NamedTuple):
    to: tuple[tuple[str, str], ...]
    """(chunk, pack) of each frame that was moved."""


class Snapshot(NamedTuple):
    places: tuple[tuple[str, str], ...]
    """(chunk, pack) of each chunk of the tree, sorted."""
    parent: str | None


class Ref(NamedTuple):
    snapshot: str | None
    counter: int
    nonce: str
    base: str | None
    kept: tuple[str, ...]


class Record(NamedTuple):
    condemned: frozenset[str]


@dataclass
class Machine:
    """What one machine remembers of the refs that it saw last."""

    seen: dict[str, tuple[Ref, dict[str, str]]] = field(default_factory=dict)


def redirect_of(pack: str) -> str:
    """Return the key of the redirect of a pack."""
    return f"{pack}.moved"


@dataclass
class Store:
    """A world with a store in it, and what all who use it agree on."""

    world: World
    rules: Rules
    contents: dict[str, frozenset[str]] = field(default_factory=dict)
    """What is in each pack that ever was: what fragments, at their best, tell."""
    left: dict[str, int] = field(default_factory=dict)
    """When a snapshot last ceased to be in any history."""
    alive: set[str] = field(default_factory=set)
    """Snapshots in some history."""

    @property
    def now(self) -> int:
        return self.world.now

    # Requests

    def sure(self, request: Request, *, by: int | None = None) -> Actor:
        """Ask until there is an answer, which may be that there is no such object; at most until the time `by`."""
        for _ in range(_ATTEMPTS):
            self.in_time(by)
            try:
                return (yield request)
            except LostError:
                continue
        raise GaveUpError("no answer")

    def in_time(self, by: int | None) -> None:
        if by is not None and self.now > by:
            raise GaveUpError("too slow")

    def records(self) -> Generator[Request, Any, dict[str, tuple[int, Record]]]:
        """Return all records that can be read, with the time of each."""
        found = {}
        for key, put in (yield from self.sure(Request("list", "gc/"))).items():
            try:
                found[key] = (put, (yield from self.sure(Request("get", key))))
            except MissingError:
                continue
        return found

    def condemned(self) -> Generator[Request, Any, frozenset[str]]:
        """Return all that any record condemns."""
        records = yield from self.records()
        return frozenset().union(*(record.condemned for _, record in records.values()))

    def read_ref(self, ref: str) -> Generator[Request, Any, Ref | None]:
        try:
            return (yield from self.sure(Request("get", f"refs/{ref}")))
        except MissingError:
            return None

    def move_ref(self, ref: str, before: Ref | None, after: Ref, *, by: int | None) -> Actor:
        """Swap; whatever the reply, the ref itself tells whether it was done."""
        key = f"refs/{ref}"
        self.in_time(by)
        try:
            yield Request("swap", key, after, before)
        except (ChangedError, LostError):
            if (yield from self.read_ref(ref)) != after:
                raise GaveUpError("ref-moved") from None
        if after not in self.world.place.ever(key):
            raise Violation(f"{ref} was acknowledged and never was {after}")

    def next_ref(self, before: Ref | None, snapshot: str | None, base: str | None, kept: Iterable[str]) -> Ref:
        return Ref(snapshot, before.counter + 1 if before else 1, self.world.nonce(), base, tuple(kept))

    # Those who write

    def push(self, machine: Machine, ref: str, tree: frozenset[str], packs: int) -> Actor:
        """Push a tree, what is missing in so many packs."""
        begun = self.now
        before = yield from self.read_ref(ref)
        holdings: dict[str, str] = {}
        others: dict[str, str] = {}
        seen = machine.seen.get(ref)
        if before is not None and seen is not None and seen[0] == before:
            holdings = seen[1]
        else:
            if before is not None and before.snapshot is not None:
                try:
                    holdings = self._holdings((yield from self.sure(Request("get", before.snapshot))))
                except MissingError:
                    raise GaveUpError("the previous snapshot is gone") from None
            condemned = frozenset[str]()
            if self.rules.condemned_is_not_reused:
                condemned = yield from self.condemned()
            for key in (yield from self.sure(Request("list", "packs/"))):
                if key not in condemned and key in self.contents:
                    others |= dict.fromkeys(self.contents[key], key)
        places = {chunk: place for chunk in tree if (place := holdings.get(chunk) or others.get(chunk))}
        reused = {pack for chunk, pack in places.items() if holdings.get(chunk) != pack}
        lease = _Lease(self, begun, frozenset(reused))
        missing = sorted(tree - places.keys())
        for part in [missing[start::packs] for start in range(packs)]:
            if part:
                yield from lease.keep()
                name = self._name("packs/", "".join(part))
                self.contents[name] = frozenset(part)
                yield from self.sure(Request("put", name, Pack(frozenset(part))))
                places |= dict.fromkeys(part, name)
        yield from lease.keep()
        parent = before.snapshot if before else None
        snapshot = Snapshot(tuple(sorted(places.items())), parent)
        name = self._name("snapshots/", repr(snapshot))
        yield from self.sure(Request("put", name, snapshot))
        yield from lease.keep()
        after = self.next_ref(before, name, before.base if before else None, before.kept if before else ())
        yield from self.move_ref(ref, before, after, by=lease.deadline if self.rules.pushes_have_a_deadline else None)
        machine.seen[ref] = (after, self._holdings(snapshot))
        if not self.rules.leases_end_by_themselves:
            yield from lease.end()
        return "pushed"

    def _name(self, prefix: str, content: str) -> str:
        return prefix + (self.world.nonce() if self.rules.names_never_repeat else content)

    def _holdings(self, snapshot: Snapshot) -> dict[str, str]:
        holdings = dict(snapshot.places)
        if not self.rules.holdings_are_chunks:
            for pack in set(holdings.values()):
                holdings = dict.fromkeys(self.contents[pack], pack) | holdings
        return holdings

    def forget(self, ref: str, keep: int) -> Actor:
        """Cut the history of a ref, but for so many snapshots before the newest."""
        before = yield from self.read_ref(ref)
        if before is None or before.snapshot is None:
            return "nothing to forget"
        history = yield from self.history(before)
        yield from self.move_ref(
            ref, before, self.next_ref(before, before.snapshot, before.snapshot, history[1 : 1 + keep]), by=None
        )
        return "forgot"

    def remove(self, ref: str) -> Actor:
        """Let a ref name nothing."""
        before = yield from self.read_ref(ref)
        if before is None or before.snapshot is None:
            return "nothing to remove"
        yield from self.move_ref(ref, before, self.next_ref(before, None, None, ()), by=None)
        return "removed"

    def tag(self, ref: str, snapshot: str) -> Actor:
        """Let a ref name a snapshot that somebody knows: another ref's, or one that was pinned."""
        by = self.now + GRACE // 2
        before = yield from self.read_ref(ref)
        condemned = yield from self.condemned()
        try:
            found: Snapshot = yield from self.sure(Request("get", snapshot))
        except MissingError:
            return "no such snapshot"
        needed = {snapshot, *dict(found.places).values()}
        if needed & condemned:
            needed = {snapshot} | (yield from self._needed(found))
        if self.rules.tags_heed_records and condemned & needed:
            return "condemned"
        after = self.next_ref(before, snapshot, snapshot, ())
        yield from self.move_ref(ref, before, after, by=by if self.rules.pushes_have_a_deadline else None)
        return "tagged"

    def _needed(self, snapshot: Snapshot) -> Generator[Request, Any, set[str]]:
        """Return the packs in which the chunks of a snapshot lie now, and the redirects that lead there."""
        needed = set[str]()
        for chunk, pack in snapshot.places:
            for _ in range(_HOPS):
                try:
                    redirect: Redirect = yield from self.sure(Request("get", redirect_of(pack)))
                except MissingError:
                    break
                if chunk not in dict(redirect.to):
                    break
                needed.add(redirect_of(pack))
                pack = dict(redirect.to)[chunk]
            needed.add(pack)
        return needed

    # Those who read

    def history(self, ref: Ref) -> Generator[Request, Any, list[str]]:
        """Return the names of all snapshots that a ref keeps alive; raise MissingError if one is not there."""
        names: list[str] = []
        name = ref.snapshot
        while name is not None and name not in names:
            names.append(name)
            if name == ref.base:
                break
            name = (yield from self.sure(Request("get", name))).parent
        return names + [name for name in ref.kept if name not in names]

    def read(self, ref: str) -> Actor:
        """Read a tree; it must be there if it was in some history all the while."""
        begun = self.now
        state = yield from self.read_ref(ref)
        if state is None or state.snapshot is None:
            return "nothing to read"
        try:
            snapshot = yield from self.sure(Request("get", state.snapshot))
            for chunk, pack in snapshot.places:
                yield from self._read_chunk(chunk, pack)
        except MissingError:
            if self.left.get(state.snapshot, -1) < begun:
                raise Violation(f"a reader did not find {state.snapshot}") from None
            return "was collected meanwhile"
        return "read"

    def _read_chunk(self, chunk: str, pack: str) -> Actor:
        for _ in range(_HOPS):
            try:
                yield from self.sure(Request("get", pack))
                return
            except MissingError:
                redirect: Redirect = yield from self.sure(Request("get", redirect_of(pack)))
                pack = dict(redirect.to).get(chunk, "nowhere")
        raise Violation("redirects without end")

    # What must hold

    def watch(self, request: Request) -> None:
        """See that every snapshot of every history can be read now."""
        if request.verb == "put" and not request.key.startswith("refs/"):
            return
        peek = self.world.place.peek
        alive = set()
        for key in self.world.place.now_there("refs/"):
            ref = peek(key)
            states = [state.counter for state in self.world.place.ever(key)]
            if states != list(range(1, len(states) + 1)):
                raise Violation(f"{key} is not linear: {states}")
            try:
                alive |= set(at_once(self.history(ref), self.world.place))
            except MissingError:
                raise Violation(f"{key}: a snapshot of its history is gone") from None
        for name in alive:
            for chunk, pack in peek(name).places if peek(name) else [("?", name)]:
                if not self._is_there(chunk, pack):
                    raise Violation(f"{name}: {chunk} in {pack} is gone")
        for name in self.alive - alive:
            self.left[name] = self.now
        self.alive = alive

    def _is_there(self, chunk: str, pack: str) -> bool:
        peek = self.world.place.peek
        for _ in range(_HOPS):
            if peek(pack) is not None:
                return chunk in peek(pack).chunks
            redirect = peek(redirect_of(pack))
            if redirect is None or chunk not in dict(redirect.to):
                return False
            pack = dict(redirect.to)[chunk]
        return False


class _Lease:
    """What keeps the packs of a long push: nothing for a short one."""

    def __init__(self, store: Store, begun: int, reused: frozenset[str]) -> None:
        self._store = store
        self._reused = reused
        self._key = f"leases/{store.world.nonce()}"
        self._last = begun
        self._is_put = False

    @property
    def deadline(self) -> int:
        """The last moment to swap or to renew."""
        return self._last + GRACE // 2

    def keep(self) -> Actor:
        """Put or renew it when a quarter of the grace has passed."""
        store = self._store
        if store.now - self._last < GRACE // 4:
            return
        in_time = store.rules.renewals_have_a_deadline and store.rules.pushes_have_a_deadline
        by = self.deadline if in_time else None
        begun = store.now
        if self._reused & (yield from store.condemned()) and store.rules.condemned_is_not_reused:
            raise GaveUpError("pack-condemned")
        if not self._is_put:
            yield from store.sure(Request("put", f"{self._key}.began", "lease"), by=by)
            self._is_put = True
        yield from store.sure(Request("put", f"{self._key}.live", "lease"), by=by)
        self._last = begun

    def end(self) -> Actor:
        """Delete it."""
        if self._is_put:
            yield from self._store.sure(Request("delete", f"{self._key}.live"))
            yield from self._store.sure(Request("delete", f"{self._key}.began"))


def at_once(generator: Generator[Request, Any, Result], place: Place) -> Result:
    """Run what only reads, while nothing else happens and listings are not late."""
    reply: Any = None
    try:
        while True:
            request = generator.throw(reply) if isinstance(reply, Exception) else generator.send(reply)
            if request.verb == "list":
                reply = dict.fromkeys(place.now_there(request.key), 0)
            else:
                reply = place.serve(request)
    except StopIteration as ended:
        result: Result = ended.value
        return result
