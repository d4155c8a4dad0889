"""A build: derivations in the order of their needs, each looked up by its key, and made if nobody has made it.

Invariant: a result is kept only of a builder that ended well, on inputs that are still what its key says; one builder a
derivation, `jobs` at a time. Not here: the parts of that (`action`, `results`, `local`, `outputs`, `scratch`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from sapwood.build.action import Action, make_action
from sapwood.build.defaults import read_defaults
from sapwood.build.derivation import Derivation
from sapwood.build.graph import Graph
from sapwood.build.inputs import Node, fold
from sapwood.build.kept import Kept
from sapwood.build.limits import DISK
from sapwood.build.listener import Listener, Stage
from sapwood.build.local import Local
from sapwood.build.outputs import collect, store_outputs
from sapwood.build.results import GoneError, Result, Results
from sapwood.build.scratch import Scratch, remove, scratch
from sapwood.build.signing import Signer, Trusted
from sapwood.build.sources import Sources
from sapwood.build.state import State
from sapwood.errors import (
    CorruptError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    StoppedError,
    UnavailableError,
)
from sapwood.progress import Progress
from sapwood.store.store import Store
from sapwood.tree.index import default_index_path
from sapwood.tree.plain import read_plain

if TYPE_CHECKING:
    from sapwood.build.remote import Executor, Remote
    from sapwood.build.remoteresult import RemoteResult

__all__ = ["Builder", "Built", "Made"]

_Item = TypeVar("_Item")
_LOG_TAIL = 16 << 10
_LOG_BYTES = 64 << 20
_LOOKUPS = 16
# A signal that another thread receives, as the kernel may choose, is acted upon when the first one wakes.
_TICK_S = 0.25
_REMOTE_JOBS = 32
"""A server has more builders than this machine, and a queue."""

AnyResult: TypeAlias = "Result | RemoteResult"


@dataclass(frozen=True)
class Made:
    """One derivation of a build: its result, and whether it was there already.

    What a remote executor made lies in its CAS, but for what targets made: that is in the store.
    """

    result: AnyResult
    is_hit: bool

    @property
    def stored(self) -> Result:
        """The result of a target."""
        assert isinstance(self.result, Result)
        return self.result


@dataclass
class Built:
    """What a build came to, by name of the derivation."""

    made: dict[str, Made] = field(default_factory=dict)

    @property
    def hits(self) -> int:
        """How many were there."""
        return sum(made.is_hit for made in self.made.values())

    @property
    def saved_s(self) -> float:
        """How long those that were there took their builders, in seconds."""
        return sum(made.result.seconds for made in self.made.values() if made.is_hit)


class Builder:
    """Builds a graph. Results are looked up in each of `stores` and kept in the first; below `home` is room to work.

    Without `lazy` the first store says whether inputs may arrive late. Results are signed by `signer`; with `trusted`
    only those are known that it believes.
    """

    def __init__(
        self,
        graph: Graph,
        stores: list[Store],
        home: Path,
        state: State,
        *,
        jobs: int | None = None,
        lazy: bool | None = None,
        keep_failed: bool = False,
        listener: Listener | None = None,
        signer: Signer | None = None,
        trusted: Trusted | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.graph = graph
        self.results = Results(stores, signer, trusted)
        self.sources = Sources(self._go_on)
        self._home = home
        self._state = state
        self._jobs = jobs or (_REMOTE_JOBS if executor else os.cpu_count()) or 1
        self._lazy = lazy
        self._keep_failed = keep_failed
        self._executor = executor
        self._listener = listener or Listener()
        # What runs is to end: something failed, or somebody stopped the build; and only the latter.
        self._cancel = threading.Event()
        self._stopped = threading.Event()
        self._slots = threading.Semaphore(self._jobs)

    @cached_property
    def lazy(self) -> bool:
        """Whether inputs may arrive while a builder runs; asked for only when something is built.

        Raises:
            SapwoodError: as `read_defaults`.
        """
        return read_defaults(self.results.store).lazy if self._lazy is None else self._lazy

    def _go_on(self, _: Progress | None = None) -> None:
        """Raise if the build is to end: threads other than the first hear nothing of Ctrl-C."""
        if self._cancel.is_set():
            raise StoppedError("stopped", kind="stopped")

    def _go_on_storing(self, _: Progress) -> None:
        """Raise if somebody stopped the build: what is made when something else fails is kept all the same."""
        if self._stopped.is_set():
            raise StoppedError("stopped", kind="stopped")

    # Keys

    def action(self, one: Derivation, known: Mapping[str, AnyResult]) -> tuple[Action, list[tuple[str, Node]]]:
        """Return the action of a derivation and what it finds, by the results of its dependencies.

        Raises:
            SapwoodError: as `Sources.nodes`, `fold` and `unfold`.
        """
        inputs = self.sources.nodes(one)
        for place, wanted in one.deps:
            inputs.append((place, known[wanted.name].node(wanted.path)))
        return make_action(one, inputs, fold(inputs)), inputs

    def survey(self) -> Iterator[tuple[Derivation, Action | None, Result | None]]:
        """Yield each derivation with its action and its result, None where that is not known; nothing is built."""
        known: dict[str, AnyResult] = {}
        for one in self.graph:
            if any(need.name not in known for need in self.graph.needs(one)):
                yield one, None, None
                continue
            action, _ = self.action(one, known)
            result = self.results.find(action.digest, one.outputs)
            if result is not None:
                known[one.name] = result
            yield one, action, result

    # Building

    def build(self) -> Built:
        """Build all targets; after a failure nothing new is begun.

        Raises:
            InvalidInputError: `build-failed`; `output-missing`, `output-leaves-tree`, `output-unusable`.
            SapwoodError: the first that stopped it.
        """
        with self._running() as run:
            try:
                return run.all()
            finally:
                self._state.save({root: Path(default_index_path(root)) for root in self.sources.roots()})

    def check(self, built: Built) -> None:
        """Build the targets once more and compare.

        Raises:
            InvalidInputError: `not-reproducible`; `paths` are all that differ.
        """
        known = {name: made.result for name, made in built.made.items()}
        with self._running() as run:
            for one in self.graph.targets:
                run.check(one, known)

    @contextlib.contextmanager
    def _running(self) -> Iterator[_Run]:
        """Give what runs builders for a while."""
        with scratch(self._home) as room, contextlib.ExitStack() as stack:
            kept = Kept(self._home / "outputs", room.top, self.results.stores, self._go_on)
            stack.callback(kept.close)
            remote = None
            if self._executor is not None:
                from sapwood.build.remote import Remote

                remote = Remote(self._executor, self.results.stores, self._listener, self._cancel, lazy=self.lazy)
                stack.callback(remote.close)
            yield _Run(self, kept, Local(kept), remote, room)


class _Run:
    """One go at a graph."""

    def __init__(self, builder: Builder, kept: Kept, local: Local, remote: Remote | None, room: Scratch) -> None:
        self._builder = builder
        self._kept = kept
        self._local = local
        self._remote = remote
        self._room = room
        self._known: dict[str, AnyResult] = {}
        self._built = Built()
        # Whose results are not believed: their outputs are not there.
        self._gone: set[str] = set()

    def all(self) -> Built:
        graph = self._builder.graph
        targets = set(graph.targets)
        waits = {one: len(graph.needs(one)) for one in graph}
        wanted_by: dict[Derivation, list[Derivation]] = {one: [] for one in graph}
        for one in graph:
            for need in graph.needs(one):
                wanted_by[need].append(one)
        ready = deque(one for one in graph if not waits[one])
        running: set[Derivation] = set()
        # What is made again -> who waits for that.
        again: dict[Derivation, list[Derivation]] = {}
        ended: queue.SimpleQueue[tuple[Derivation, Made | Derivation | BaseException]] = queue.SimpleQueue()
        failure: BaseException | None = None

        def work(one: Derivation) -> None:
            try:
                ended.put((one, self._make(one, is_target=one in targets)))
            except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
                ended.put((one, error))

        with ThreadPoolExecutor(max(_LOOKUPS, self._builder._jobs)) as pool:
            try:
                while running or (ready and failure is None):
                    while ready and failure is None:
                        running.add(ready[0])
                        pool.submit(work, ready.popleft())
                    # No `continue`: for CPython what a signal raises at a jump to the start of a `try` is outside it.
                    one, outcome = _next_of(ended)
                    running.remove(one)
                    if isinstance(outcome, BaseException):
                        # What stopped because something else had failed is no failure of its own.
                        if failure is None or isinstance(failure, StoppedError):
                            failure = outcome
                        self._builder._cancel.set()
                    elif isinstance(outcome, Derivation):
                        # That one must be made again first.
                        self._gone.add(outcome.name)
                        if outcome not in again:
                            ready.append(outcome)
                        again.setdefault(outcome, []).append(one)
                    else:
                        self._known[one.name] = outcome.result
                        self._built.made[one.name] = outcome
                        if one in again:
                            ready.extend(again.pop(one))
                        else:
                            for above in wanted_by[one]:
                                waits[above] -= 1
                                if waits[above] == 0:
                                    ready.append(above)
            except BaseException:
                self._builder._stopped.set()
                self._builder._cancel.set()
                raise
        if failure is not None:
            raise failure
        return self._built

    def check(self, one: Derivation, known: dict[str, AnyResult]) -> None:
        """Build one again and compare it with its result; errors as `Builder.check`."""
        action, inputs = self._builder.action(one, known)
        place = self._room.place()
        _, _, there = self._run(one, action, inputs, place, log=None, again=True)
        self._collect(one, there, place)
        result = known[one.name]
        assert isinstance(result, Result)  # of a target
        before = read_plain(self._kept.place(result, lazy=True))
        after = read_plain(place / "out")
        differing = [change.path for change in before.diff(after)]
        remove(place)
        if differing:
            names = ", ".join(os.fsdecode(path) for path in differing[:10])
            more = f" and {len(differing) - 10} more" if len(differing) > 10 else ""
            raise InvalidInputError(
                f"derivation {one.name} makes something else each time: {names}{more}",
                kind="not-reproducible",
                hint="does it use the time, random numbers, or the order of a directory?",
                paths=differing,
            )
        self._builder._listener.checked(one)

    def _make(self, one: Derivation, *, is_target: bool) -> Made | Derivation:
        """Look a derivation up, or make it; return what it needs if that must be made again first."""
        builder = self._builder
        builder._go_on()
        tell = builder._listener.stage
        try:
            tell(one, Stage.HASHING)
            action, inputs = builder.action(one, self._known)
            builder._state.note(one.name, action.digest, action.parts)
            if one.name not in self._gone:
                tell(one, Stage.LOOKING)
                result = builder.results.find(action.digest, one.outputs)
                if result is not None and is_target and not builder.results.is_there(result):
                    self._gone.add(one.name)
                elif result is not None:
                    known = Made(result, is_hit=True)
                    builder._listener.made(one, known)
                    return known
                elif (there := self._find_there(one, action, is_target=is_target)) is not None:
                    known = Made(there, is_hit=True)
                    builder._listener.made(one, known)
                    return known
            made = self._execute(one, action, inputs, is_target=is_target)
            if isinstance(made, Made):
                builder._listener.made(one, made)
            return made
        except StoppedError:
            raise
        except SapwoodError as error:
            builder._listener.failed(one, error, getattr(error, "left", None))
            raise

    def _find_there(self, one: Derivation, action: Action, *, is_target: bool) -> AnyResult | None:
        """Return the result that a remote executor knows; of a target with what it names, brought here.

        Whose results are believed is asked of each: those of its cache have no signatures.
        """
        there = self._remote and not self._builder.results.is_wary and self._remote.find(one, action)
        if not there or not is_target:
            return there or None
        place = self._room.place()
        try:
            return self._store(one, action, there, place, there.seconds, there.log)
        except (NotFoundError, CorruptError):  # it forgets blobs before results
            self._gone.add(one.name)
            return None
        finally:
            remove(place)

    def _whose(self, gone: GoneError, needs: list[Derivation]) -> Derivation:
        """Return which dependency is to be made again."""
        need = next(need for need in needs if self._known[need.name].action == gone.action)
        if need.name in self._gone:
            raise NotFoundError(
                f"what derivation {need.name} has just made is not in the executor's CAS",
                kind="executor-lacks",
                hint="has it room enough?",
            )
        return need

    def _execute(
        self, one: Derivation, action: Action, inputs: list[tuple[str, Node]], *, is_target: bool
    ) -> Made | Derivation:
        builder = self._builder
        place = self._room.place()
        try:
            builder._listener.stage(one, Stage.QUEUED)
            with builder._slots:
                builder._go_on()
                if (gone := self._missing(one)) is not None:
                    return gone
                log, again = builder._state.log(one.name), one.name in self._gone or builder.results.is_wary
                seconds, tail, there = self._run(one, action, inputs, place, log=log, again=again)
            # The next builder runs while this one's outputs are stored, which is mostly waiting for the disk.
            builder._listener.stage(one, Stage.STORING)
            if there is not None and not is_target:
                return Made(there, is_hit=False)
            return Made(self._store(one, action, there, place, seconds, tail), is_hit=False)
        except GoneError as gone_there:
            return self._whose(gone_there, builder.graph.needs(one))
        except SapwoodError as error:
            if builder._keep_failed and (place / "root").exists() and not isinstance(error, StoppedError):
                error.left = self._room.leave(one.name, place / "root")  # type: ignore[attr-defined]
            raise
        finally:
            remove(place)

    def _missing(self, one: Derivation) -> Derivation | None:
        """Have the outputs of what a derivation needs at hand; return the first of which they are gone."""
        builder = self._builder
        for need in builder.graph.needs(one):
            result = self._known[need.name]
            if not isinstance(result, Result):
                continue  # what runs it finds out
            builder._listener.stage(one, Stage.INPUT, need.name)
            if self._remote is not None:
                if need.name not in self._gone and not builder.results.is_there(result):
                    return need
                continue
            try:
                self._kept.place(result, lazy=one.lazy and builder.lazy)
            except (NotFoundError, CorruptError):
                if need.name in self._gone:
                    raise
                return need
        return None

    def _store(
        self, one: Derivation, action: Action, there: RemoteResult | None, place: Path, seconds: float, tail: bytes
    ) -> Result:
        """Keep what a builder has made in `place`, or `there`."""
        builder = self._builder
        out, index = place / "out", place / "index"
        size = self._collect(one, there, place)
        if there is None:  # else each blob was proved when it was sent
            builder.sources.require_unchanged(one)
        result = store_outputs(
            one,
            action.digest,
            out,
            builder.results.store,
            index,
            seconds,
            tail,
            size,
            anew=one.name in self._gone,
            progress=builder._go_on_storing,
        )
        # Which was noted a little later, perhaps, than the command ended.
        self._require_inputs(one)
        builder.results.keep(result)
        self._kept.take(result, out, index, size)
        return result

    def _collect(self, one: Derivation, there: RemoteResult | None, place: Path) -> int:
        if there is not None:
            (place / "root").mkdir()
            there.fetch(place / "root", one.disk or DISK)
        return collect(one, place / "root", place / "out")

    def _run(
        self,
        one: Derivation,
        action: Action,
        inputs: list[tuple[str, Node]],
        place: Path,
        log: Path | None,
        *,
        again: bool,
    ) -> tuple[float, bytes, RemoteResult | None]:
        """Run a builder; return the seconds it took, the end of what it said, and of a remote one what it made.

        With `again` a remote executor is not to look for what it knows.

        Raises:
            InvalidInputError: `build-failed`.
            UnavailableError: `inputs-unavailable`: reads of what it was given failed.
        """
        builder = self._builder
        tail = bytearray()
        with open(log or os.devnull, "wb", buffering=0) as file:

            def said(data: bytes) -> None:
                tail.extend(data)
                del tail[:-_LOG_TAIL]
                if file.tell() < _LOG_BYTES:
                    file.write(data)
                if log is not None:
                    builder._listener.said(one, data)

            builder._listener.begun(one)
            there = None
            if self._remote is not None:
                ended, there = self._remote.run(one, action, inputs, said, again=again)
            else:
                builder._listener.stage(one, Stage.RUNNING)
                lazy = one.lazy and builder.lazy
                ended = self._local.run(one, action, inputs, place, said, builder._cancel, lazy=lazy)
        # Whatever its command made of that.
        self._require_inputs(one)
        if ended.code == 0 and ended.stopped is None:
            return ended.seconds, bytes(tail), there
        how = ended.stopped or (
            f"signal {ended.code - 128} ended its command"
            if ended.code > 128
            else f"its command ended with {ended.code}"
        )
        raise InvalidInputError(
            f"derivation {one.name}: {how}",
            kind="build-failed",
            hint=f"read {log}" if log else None,
            derivation=one.name,
            code=ended.code,
        )

    def _require_inputs(self, one: Derivation) -> None:
        if why := self._kept.lost():
            said = f"derivation {one.name}: reads of its inputs failed: {why}"
            raise UnavailableError(said, kind="inputs-unavailable")


def _next_of(ended: queue.SimpleQueue[_Item]) -> _Item:
    """Wait for what is next."""
    while True:
        with contextlib.suppress(queue.Empty):
            return ended.get(timeout=_TICK_S)
