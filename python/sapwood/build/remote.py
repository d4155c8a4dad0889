"""The remote executor: an action run by a server of the Remote Execution API, on inputs that are sent to its CAS.

Invariant: an action is run only when its Action and Command are there, and what they need is there too or announced
(docs/announced.md); what an earlier action made there is named, and never passes through here. Failures of the server
are no failures of the builder: they are tried again, and never kept. docs/build.md, "Remote executors".
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sapwood.build.action import Action, complete_mark
from sapwood.build.derivation import Derivation
from sapwood.build.engine import Engine, LackingError, TimedOutError
from sapwood.build.inputs import Node, fold, unfold
from sapwood.build.listener import Listener, Sent, Stage
from sapwood.build.remoteresult import RemoteResult, read_result, seconds_of
from sapwood.build.results import GoneError, Result
from sapwood.build.sandbox import Ended
from sapwood.build.sources import StoredTree
from sapwood.build.supply import Supply, Walk
from sapwood.build.workers import Workers
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, SapwoodError, StoppedError
from sapwood.reapi.cas import Cas, Name, name_of
from sapwood.reapi.channel import connect
from sapwood.reapi.delivering import Delivery
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.store.store import Store
from sapwood.tree.tree import Tree

__all__ = ["Executor", "Remote"]

# Of an input root whose Directory is larger only the name is sent before the action is run.
_LITTLE_BYTES = 64 << 10
# Of what a builder said so much is shown.
_SAID_BYTES = 64 << 20
_ROUNDS = 3
"""How often what the server says to be missing is sent."""
_TICK_S = 0.1
_STAGES = {
    reapi.ExecutionStage.CACHE_CHECK: Stage.LOOKING,
    reapi.ExecutionStage.QUEUED: Stage.QUEUED,
    reapi.ExecutionStage.EXECUTING: Stage.RUNNING,
}
_FOR = {reapi.ExecutionStage.QUEUED: "for a worker"}


@dataclass(frozen=True)
class Executor:
    """Where actions are run: URLs of the server and of its CAS; `ca` are certificates that are trusted.

    With `complete` what nobody reads is sent, too, behind what somebody waits for.
    """

    url: str
    cas: str | None = None
    instance: str = ""
    token: str | None = None
    ca: bytes | None = None
    complete: bool = True


class Remote:
    """Runs actions for one build; `cancel` ends what is going on, there too. `close` it."""

    def __init__(
        self,
        executor: Executor,
        stores: list[Store],
        listener: Listener,
        cancel: threading.Event,
        *,
        lazy: bool,
    ) -> None:
        peer = connect(executor.url, token=executor.token, ca=executor.ca, say=listener.told)
        self._peers = [peer]
        if executor.cas and executor.cas != executor.url:
            self._peers.append(connect(executor.cas, token=executor.token, ca=executor.ca, say=listener.told))
        self._engine = Engine(peer, executor.instance, cancel)
        self._workers = Workers(peer.url, listener.told)
        self.cas = Cas(self._peers[-1], executor.instance, cancel)
        self._supply = Supply(self._tree)
        self._complete = executor.complete
        self._delivering = threading.Lock()
        self._delivery: Delivery | None = None
        self._stores = {store.url: store for store in stores}
        self._trees: dict[str, Tree] = {}
        self._listener = listener
        self._cancel = cancel
        self._lazy = lazy
        # What the CAS has, as it said in this build.
        self._there: set[Name] = set()
        self._sent = self._told = Sent(0, 0, 0)
        # Why an input root cannot be walked through.
        self._failure: SapwoodError | None = None
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._watch = threading.Thread(target=self._stop_when_cancelled, daemon=True)
        self._watch.start()
        # While sources are hashed: the first calls that matter then need not wait for connections.
        self._engine.begin()
        threading.Thread(target=self._begin, daemon=True, name="sapwood-connecting").start()

    def _begin(self) -> None:
        with contextlib.suppress(SapwoodError, ValueError):  # who needs it finds out; ValueError: it is over already
            _ = self.cas.offers

    def find(self, one: Derivation, action: Action) -> RemoteResult | None:
        """Return the result that the server has of an action, of a command that ended well; else None.

        Raises:
            SapwoodError: as `Engine.known`.
        """
        if self._lazy and one.lazy:
            self._begin_delivery()  # the answer comes with this one's
        said = self._engine.known(_name(action))
        if said is None or said.exit_code:
            return None
        try:
            return read_result(one, action.digest, said, self.cas, _log(said))
        except (InvalidInputError, NotFoundError, CorruptError):
            return None

    def run(
        self,
        one: Derivation,
        action: Action,
        inputs: list[tuple[str, Node]],
        said: Callable[[bytes], None],
        *,
        again: bool = False,
    ) -> tuple[Ended, RemoteResult | None]:
        """Run an action, and return how its command ended, and what it made if it ended well.

        With `again` the server is not to look it up.

        Raises:
            GoneError: outputs of a dependency are to be made again.
            UnavailableError: `executor-unreachable`, `executor-full`; `source-changed`.
            NotFoundError: `executor-lacks`: the server goes on missing what was sent.
            InvalidInputError: `output-missing`.
            SapwoodError: as `Engine.execute`.
        """
        folder = fold(inputs)
        for path in one.outputs:
            unfold(folder, path)
        self._listener.stage(one, Stage.SENDING)
        walk = self._supply.begin(fold(inputs))
        is_lazy = self._lazy and one.lazy
        mark = [] if is_lazy else [complete_mark(_name(action))]
        names = self._supply.add([action.message, action.command, *mark])
        delivery = self._delivers() if is_lazy else None
        last: LackingError | None = None
        for number in range(_ROUNDS):
            if delivery is None or number:
                walk.finish()
                self._send(names, walk.root)
            else:
                self._announce(delivery, names, walk, inputs)
            try:
                try:
                    result, _ = self._engine.execute(
                        _name(action), self._heard(one), self._require_sources, again=again
                    )
                finally:
                    self._workers.note(one.name, None)
                break
            except LackingError as error:
                self._require_sources()
                last = error
                self._there.clear()
            except TimedOutError:
                limit = f"more than {one.timeout_s:g} s" if one.timeout_s else "longer than the server lets it"
                return Ended(137, one.timeout_s or 0.0, f"it took {limit}"), None
        else:
            raise NotFoundError(
                f"{self._peers[0].url}: derivation {one.name}: it lacks what was sent to {self.cas.peer.url}: {last}",
                kind="executor-lacks",
                hint="does it read that CAS? else say which with --cas",
            )
        words = self._words(result)
        if words:
            said(words)
        ended = Ended(result.exit_code, seconds_of(result))
        if result.exit_code:
            return ended, None
        return ended, read_result(one, action.digest, result, self.cas, words)

    def close(self) -> None:
        """End all calls; what is not sent by now never is."""
        self._is_closed.set()
        self._watch.join()
        self._close_delivery()
        for peer in self._peers:
            peer.close()

    def _send(self, names: list[Name], root: Name) -> None:
        """Have all that an action needs in the CAS."""
        needs = self._supply.needs(root)
        wanted = [name for name in (*needs.ours, *needs.theirs, *names) if name not in self._there]
        missing = self.cas.missing(wanted)
        for name in missing:
            if name in needs.theirs:
                raise GoneError(needs.theirs[name].action)
        self._count(total=sum(size for _, size in missing), needed=sum(size for _, size in missing))
        self.cas.give({name: partial(self._supply.open, name) for name in missing}, self._count)
        self._there.update(wanted)

    def _begin_delivery(self) -> Delivery:
        with self._delivering:
            if self._delivery is None:
                if self._cancel.is_set():
                    raise StoppedError("stopped", kind="stopped")
                self._delivery = Delivery(self.cas, self._supply.open, complete=self._complete).__enter__()
            return self._delivery

    def _delivers(self) -> Delivery | None:
        """Return what announces blobs to the CAS; None: it takes no announcements."""
        delivery = self._begin_delivery()
        return delivery if delivery.takes_announcements else None

    def _announce(self, delivery: Delivery, names: list[Name], walk: Walk, inputs: list[tuple[str, Node]]) -> None:
        """Send Action and Command, and the Directory that is looked into first, and announce the rest."""
        theirs = {name: node.origin for _, node in inputs if isinstance(node.origin, RemoteResult)
                  for name in node.origin.blobs()}  # fmt: skip
        for name in self.cas.missing(name for name in theirs if name not in self._there):
            raise GoneError(theirs[name].action)
        first = [name for name in (*names, walk.root) if 0 < name[1] <= _LITTLE_BYTES and name not in self._there]
        delivery.announce((), trees=[walk.root], at_once=first)
        if large := [name for name in names if name not in first and name not in self._there]:
            delivery.send(large)
        self._there.update(theirs, first, large)
        threading.Thread(target=self._walk, args=[walk], daemon=True, name="sapwood-walking").start()

    def _walk(self, walk: Walk) -> None:
        try:
            walk.finish()
        except SapwoodError as error:
            self._failure = error

    def _require_sources(self) -> None:
        """Raise what keeps inputs from being sent: then the server cannot run what needs them."""
        if self._failure is not None:
            raise self._failure
        if self._delivery is not None and self._delivery.error is not None:
            raise self._delivery.error

    def _close_delivery(self) -> None:
        with self._delivering:
            if self._delivery is not None:
                self._delivery.close()

    def _count(self, sent: int = 0, needed: int = 0, total: int = 0) -> None:
        with self._lock:
            so_far = self._sent
            self._sent = Sent(so_far.sent + sent, so_far.needed + needed, so_far.total + total)
        self._tell()

    def _tell(self) -> None:
        """Tell how much was sent, if that is more than was told."""
        delivery = self._delivery
        with self._lock:
            so_far = self._sent
            if delivery is not None:
                more = delivery.progress
                so_far = Sent(so_far.sent + more.sent, so_far.needed + more.needed, so_far.total + more.total)
            if so_far != self._told:
                self._told = so_far
                self._listener.sent(so_far)

    def _heard(self, one: Derivation) -> Callable[[reapi.ExecutionStage.Value | None], None]:
        def heard(stage: reapi.ExecutionStage.Value | None) -> None:
            if stage is None:
                self._workers.note(one.name, Stage.INPUT)
                self._listener.stage(one, Stage.INPUT, self._peers[0].url)
            elif stage in _STAGES:
                self._workers.note(one.name, _STAGES[stage])
                self._listener.stage(one, _STAGES[stage], _FOR.get(stage, ""))

        return heard

    def _words(self, said: reapi.ActionResult) -> bytes:
        """Return what a builder said, stdout and then stderr."""
        words = b""
        for raw, digest in ((said.stdout_raw, said.stdout_digest), (said.stderr_raw, said.stderr_digest)):
            if raw or not digest.size_bytes:
                words += raw
                continue
            try:
                for piece in self.cas.read(name_of(digest)):
                    words += piece
                    if len(words) > _SAID_BYTES:
                        break
            except StoppedError:
                raise
            except SapwoodError as error:
                words += f"[what it said is lost: {error}]\n".encode()
        return words

    def _tree(self, origin: Result | StoredTree) -> Tree:
        """Return the tree in a store that inputs lie in."""
        from sapwood.address import open_address
        from sapwood.open import tree_of

        with self._lock:
            if origin.address not in self._trees:
                if isinstance(origin, Result):
                    store = self._stores[origin.store]
                    self._trees[origin.address] = tree_of(store, store.read_snapshot(origin.snapshot))
                else:
                    self._trees[origin.address] = tree_of(*open_address(origin.address))
            return self._trees[origin.address]

    def _stop_when_cancelled(self) -> None:
        while not self._is_closed.wait(_TICK_S):
            self._tell()
            self._engine.look_after()
            self._workers.look()
            if self._cancel.is_set():
                self._engine.stop()
                self._close_delivery()
                for peer in self._peers:
                    peer.close()
                return


def _name(action: Action) -> Name:
    return action.digest.removeprefix("sha256:"), len(action.message)


def _log(said: reapi.ActionResult) -> bytes:
    return bytes(said.stdout_raw + said.stderr_raw)
