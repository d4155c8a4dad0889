"""A build: derivations in the order of their needs, each looked up by its key, and made if nobody has made it.

Invariant: a result is kept only of a builder that ended well, on inputs that are still what its key says; one builder a
derivation, `jobs` at a time. Not here: the parts of that (`action`, `results`, `local`, `outputs`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sapwood.build.action import Action, make_action
from sapwood.build.derivation import Derivation
from sapwood.build.graph import Graph
from sapwood.build.inputs import Node, fold
from sapwood.build.kept import Kept
from sapwood.build.local import Local
from sapwood.build.outputs import collect, store_outputs
from sapwood.build.results import Result, Results
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
from sapwood.store.store import Store
from sapwood.tree.index import default_index_path
from sapwood.tree.plain import read_plain

__all__ = ["Builder", "Built", "Listener", "Made"]

_LOG_TAIL = 16 << 10
_LOG_BYTES = 64 << 20
_LOOKUPS = 16


@dataclass(frozen=True)
class Made:
    """One derivation of a build: its result, and whether it was there already."""

    result: Result
    is_hit: bool


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


class Listener:
    """Hears how a build goes; each call may come from a thread of its own."""

    def begun(self, one: Derivation) -> None:
        """A builder starts."""

    def said(self, one: Derivation, data: bytes) -> None:
        """A builder wrote something."""

    def made(self, one: Derivation, made: Made) -> None:
        """A derivation has its result."""

    def failed(self, one: Derivation, error: SapwoodError, left: Path | None, /) -> None:
        """A derivation cannot be made; `left` is where its builder's directory was kept."""


class Builder:
    """Builds a graph. Results are looked up in each of `stores` and kept in the first; below `home` is room to work."""

    def __init__(
        self,
        graph: Graph,
        stores: list[Store],
        home: Path,
        state: State,
        *,
        jobs: int | None = None,
        lazy: bool = True,
        keep_failed: bool = False,
        listener: Listener | None = None,
    ) -> None:
        self.graph = graph
        self.results = Results(stores)
        self.sources = Sources()
        self._home = home
        self._state = state
        self._jobs = jobs or os.cpu_count() or 1
        self._lazy = lazy
        self._keep_failed = keep_failed
        self._listener = listener or Listener()
        self._cancel = threading.Event()
        self._slots = threading.Semaphore(self._jobs)

    # Keys

    def action(self, one: Derivation, known: dict[str, Result]) -> tuple[Action, list[tuple[str, Node]]]:
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
        known: dict[str, Result] = {}
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
        with self._scratch() as scratch:
            kept = Kept(self._home / "outputs", scratch, self.results.stores)
            try:
                return _Run(self, kept, Local(kept), scratch).all()
            finally:
                kept.close()
                self._state.save({root: Path(default_index_path(root)) for root in self.sources.roots()})

    def check(self, built: Built) -> None:
        """Build the targets once more and compare.

        Raises:
            InvalidInputError: `not-reproducible`; `paths` are all that differ.
        """
        with self._scratch() as scratch:
            kept = Kept(self._home / "outputs", scratch, self.results.stores)
            try:
                run = _Run(self, kept, Local(kept), scratch)
                known = {name: made.result for name, made in built.made.items()}
                for one in self.graph.targets:
                    run.check(one, known)
            finally:
                kept.close()

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Give a directory for the time of a build, and clear away what killed builds left."""
        above = self._home / "scratch"
        above.mkdir(parents=True, exist_ok=True)
        for left in above.iterdir():
            with contextlib.suppress(OSError), _locked(left):
                _remove(left)
        place = above / f"{os.getpid()}-{os.urandom(4).hex()}"
        place.mkdir()
        with _locked(place):
            try:
                yield place
            finally:
                _remove(place)


class _Run:
    """One go at a graph."""

    def __init__(self, builder: Builder, kept: Kept, local: Local, scratch: Path) -> None:
        self._builder = builder
        self._kept = kept
        self._local = local
        self._scratch = scratch
        self._known: dict[str, Result] = {}
        self._built = Built()
        # Whose results are not believed: their outputs are not there.
        self._gone: set[str] = set()
        self._number = 0
        self._numbering = threading.Lock()

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
                    one, outcome = ended.get()
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
                            continue
                        for above in wanted_by[one]:
                            waits[above] -= 1
                            if waits[above] == 0:
                                ready.append(above)
            except BaseException:
                self._builder._cancel.set()
                raise
        if failure is not None:
            raise failure
        return self._built

    def check(self, one: Derivation, known: dict[str, Result]) -> None:
        """Build one again and compare it with its result; errors as `Builder.check`."""
        action, inputs = self._builder.action(one, known)
        place = self._place()
        self._run(one, action, inputs, place, log=None)
        collect(one, place / "root", place / "out")
        before = read_plain(self._kept.place(known[one.name], lazy=True))
        after = read_plain(place / "out")
        differing = [change.path for change in before.diff(after)]
        _remove(place)
        if differing:
            names = ", ".join(os.fsdecode(path) for path in differing[:10])
            more = f" and {len(differing) - 10} more" if len(differing) > 10 else ""
            raise InvalidInputError(
                f"derivation {one.name} makes something else each time: {names}{more}",
                kind="not-reproducible",
                hint="does it use the time, random numbers, or the order of a directory?",
                paths=differing,
            )

    def _make(self, one: Derivation, *, is_target: bool) -> Made | Derivation:
        """Look a derivation up, or make it; return what it needs if that must be made again first."""
        builder = self._builder
        if builder._cancel.is_set():
            raise StoppedError("stopped", kind="stopped")
        try:
            action, inputs = builder.action(one, self._known)
            builder._state.note(one.name, action.digest, action.parts)
            if one.name not in self._gone:
                result = builder.results.find(action.digest, one.outputs)
                if result is not None and is_target and not builder.results.is_there(result):
                    self._gone.add(one.name)
                elif result is not None:
                    made = Made(result, is_hit=True)
                    builder._listener.made(one, made)
                    return made
            with builder._slots:
                if builder._cancel.is_set():
                    raise StoppedError("stopped", kind="stopped")
                for need in builder.graph.needs(one):
                    if not self._is_at_hand(need, lazy=builder._lazy and one.lazy):
                        return need
                made = Made(self._execute(one, action, inputs), is_hit=False)
            builder._listener.made(one, made)
            return made
        except StoppedError:
            raise
        except SapwoodError as error:
            builder._listener.failed(one, error, getattr(error, "left", None))
            raise

    def _is_at_hand(self, need: Derivation, *, lazy: bool) -> bool:
        """Say whether the outputs of a dependency can be had."""
        try:
            self._kept.place(self._known[need.name], lazy=lazy)
        except (NotFoundError, CorruptError):
            if need.name in self._gone:
                raise
            return False
        return True

    def _execute(self, one: Derivation, action: Action, inputs: list[tuple[str, Node]]) -> Result:
        builder = self._builder
        place = self._place()
        out, index = place / "out", place / "index"
        try:
            log = builder._state.log(one.name)
            seconds, tail = self._run(one, action, inputs, place, log=log)
            size = collect(one, place / "root", out)
            builder.sources.require_unchanged(one)
            store = builder.results.store
            result = store_outputs(
                one, action.digest, out, store, index, seconds, tail, size, anew=one.name in self._gone
            )
            builder.results.keep(result)
            self._kept.take(result, out, index, size)
        except SapwoodError as error:
            if builder._keep_failed and not isinstance(error, StoppedError):
                error.left = self._leave(one, place)  # type: ignore[attr-defined]
            raise
        finally:
            _remove(place)
        return result

    def _run(
        self, one: Derivation, action: Action, inputs: list[tuple[str, Node]], place: Path, log: Path | None
    ) -> tuple[float, bytes]:
        """Run a builder; return the seconds it took and the end of what it said.

        Raises:
            InvalidInputError: `build-failed`.
            UnavailableError: `inputs-unavailable`: it failed, and so had reads of what it was given.
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
            lazy = builder._lazy and one.lazy
            ended = self._local.run(one, action, inputs, place, said, builder._cancel, lazy=lazy)
        if ended.code == 0 and ended.stopped is None:
            return ended.seconds, bytes(tail)
        if problems := self._kept.problems():
            raise UnavailableError(
                f"derivation {one.name}: reads of its inputs failed: {problems[0]}", kind="inputs-unavailable"
            )
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

    def _place(self) -> Path:
        with self._numbering:
            self._number += 1
            place = self._scratch / str(self._number)
        place.mkdir()
        return place

    def _leave(self, one: Derivation, place: Path) -> Path:
        failed = self._builder._home / "failed" / one.name
        with contextlib.suppress(FileNotFoundError):
            _remove(failed)
        failed.parent.mkdir(parents=True, exist_ok=True)
        os.rename(place / "root", failed)
        return failed


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Hold a directory for oneself.

    Raises:
        OSError: somebody else does, or it is gone.
    """
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove(place: Path) -> None:
    """Remove a directory whatever a builder did to its modes."""

    def open_up(_: Callable[..., object], path: str, __: object) -> None:
        os.chmod(os.path.dirname(path), 0o700)
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    shutil.rmtree(place, onerror=open_up)
