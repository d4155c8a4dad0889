"""Builds on BuildGrid while its parts die: scheduler, database, CAS, worker, another client, and who builds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc

from sapwood.build import Derivation, derivation
from sapwood.build import workers as workers_module
from sapwood.build.remote import Executor
from sapwood.errors import UnavailableError
from sapwood.reapi import channel
from tests.support.building import Heard, Place
from tests.support.cli import Sapwood
from tests.support.grid import Asking, Grid, Source, announcing, end, fresh, processes_of, root_of, until, working
from tests.support.reapiclient import Client, digest_of

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture
def grid(grid: Grid) -> Iterator[Grid]:
    """The others find it whole."""
    yield grid
    grid.mend()
    with Asking(grid) as asking:
        for name in _going(grid):
            asking.cancel(name)


class Project:
    """A build of one derivation, which reads `in`, runs until `let_go`, does `then`, which makes `sum`, and ends."""

    def __init__(self, run: Sapwood, grid: Grid, then: str = "echo >sum", *sources: str) -> None:
        self.run = run
        # What its builder is started with can be seen, and ended.
        self._nap = f"1{uuid.uuid4().int % 10**12}"
        self.input = fresh("input")
        (run.home / "in").write_bytes(self.input)
        (run.home / "BUILD.py").write_text(
            "from sapwood.build import derivation\n"
            f"one = derivation('one', 'cat in >out; sleep {self._nap} || true; {then}; cat in >>out',"
            f" sources={list(sources) or ['in']}, outputs=['out', 'sum'])\n"
        )
        self.words = ["build", "--executor", f"grpc://{grid.scheduler.where}", "--cas", f"grpc://{grid.cas}", "."]

    @property
    def is_running(self) -> bool:
        return bool(processes_of(f"sleep\0{self._nap}"))

    def let_go(self) -> None:
        end(f"sleep\0{self._nap}")

    def require_built(self, said: Building) -> None:
        """The output of a build is right."""
        assert self.run.good("cat", said.out.strip(), "out").out == (self.input * 2).decode()


class Building:
    """`sapwood build` as a process; what it says is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out = self.err = ""
        self._changed = threading.Condition()
        self._is_over = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.err += line
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def wait_for(self, word: str) -> None:
        """Until it says that."""
        with self._changed:
            self._changed.wait_for(lambda: word in self.err or self._is_over)
            assert word in self.err, self.err

    def code(self) -> int:
        """Return how it ended."""
        assert self.process.stdout is not None
        self.out = self.process.stdout.read()
        self._reader.join()
        return self.process.wait()


@contextmanager
def building(project: Project) -> Iterator[Building]:
    run = project.run
    with subprocess.Popen(
        run.command(*project.words), cwd=run.home, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        said = Building(process)
        try:
            yield said
        finally:
            process.kill()
            said.code()


def test_a_build_goes_on_when_its_scheduler_was_killed_and_is_started_anew(grid: Grid, run: Sapwood) -> None:
    project = Project(run, grid)
    with working(run, grid), building(project) as build:
        until(lambda: project.is_running)
        grid.scheduler.kill()
        build.wait_for(f"grpc://{grid.scheduler.where} does not answer, and is asked again for 120 s")
        grid.scheduler.start()
        build.wait_for("is back")
        # Once more if the worker was not heard in time, and its lease is a new one.
        until(lambda: project.let_go() or build.process.poll() is not None)
        assert build.code() == 0, build.err
        project.require_built(build)


def test_a_scheduler_that_stands_still_is_told_of_and_the_build_goes_on_with_it(grid: Grid, run: Sapwood) -> None:
    project, server = Project(run, grid), grid.scheduler.server
    assert server is not None
    with working(run, grid), building(project) as build:
        until(lambda: project.is_running)
        server.send_signal(signal.SIGSTOP)
        try:
            build.wait_for(f"grpc://{grid.scheduler.where} has not answered for 20 s")
        finally:
            server.send_signal(signal.SIGCONT)
        build.wait_for("is back")
        until(lambda: project.let_go() or build.process.poll() is not None)
        assert build.code() == 0, build.err
        project.require_built(build)


def test_a_scheduler_that_comes_back_without_memory_is_asked_anew_and_gets_its_worker_back(
    grid: Grid, run: Sapwood
) -> None:
    project = Project(run, grid)
    with working(run, grid), building(project) as build:
        until(lambda: project.is_running)
        grid.scheduler.kill()
        grid.scheduler.database.forget()
        grid.scheduler.start()
        until(lambda: project.let_go() or build.process.poll() is not None)
        assert build.code() == 0, build.err
        project.require_built(build)


def test_a_scheduler_that_stays_away_ends_a_build_and_the_next_one_goes_on(
    grid: Grid, run: Sapwood, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "LOST_S", 2.0)
    place, one = _place(tmp_path / "place", "sleep $(cat in) || true; echo made >out")
    nap = f"1{uuid.uuid4().int % 10**12}"
    (place.sources / "in").write_text(nap)
    executor = Executor(f"grpc://{grid.scheduler.where}", cas=f"grpc://{grid.cas}")
    with working(run, grid), ThreadPoolExecutor() as pool:
        heard = Telling()
        built = pool.submit(place.build, one, executor=executor, listener=heard)
        until(lambda: processes_of(f"sleep\0{nap}"))
        grid.scheduler.kill()
        with pytest.raises(UnavailableError) as lost:
            built.result()
        assert lost.value.kind == "executor-unreachable"
        assert grid.scheduler.where in str(lost.value)
        assert "build again" in (lost.value.hint or "")
        assert [words for words in heard.words_told if "does not answer" in words]
        assert place.store().actions() == []
        grid.scheduler.start()
        again = pool.submit(place.build, one, executor=executor)
        until(lambda: end(f"sleep\0{nap}") or again.done())
        assert place.read(again.result(), "one", b"out") == b"made\n"


def test_a_scheduler_whose_database_was_away_and_missed_the_end_is_asked(grid: Grid, run: Sapwood) -> None:
    project = Project(run, grid)
    with working(run, grid), building(project) as build:
        until(lambda: project.is_running)
        grid.scheduler.database.kill()
        grid.scheduler.database.start()
        until(lambda: project.let_go() or build.process.poll() is not None)
        assert build.code() == 0, build.err
        project.require_built(build)


def test_a_build_that_no_worker_takes_says_so_and_goes_on_when_one_comes(
    grid: Grid, run: Sapwood, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "PATIENCE_S", 0.5)
    place, one = _place(tmp_path / "place", "cat in >out")
    (place.sources / "in").write_bytes(fresh("in"))
    executor = Executor(f"grpc://{grid.scheduler.where}", cas=f"grpc://{grid.cas}")
    heard = Telling()
    with ThreadPoolExecutor() as pool:
        built = pool.submit(place.build, one, executor=executor, listener=heard)
        until(lambda: heard.words_told or built.done())
        with working(run, grid):
            assert built.result().made["one"].is_hit is False
    [words] = heard.words_told
    assert f"grpc://{grid.scheduler.where}: no worker has taken one for 0.5 s" in words


def test_inputs_arrive_through_a_cas_that_was_killed_while_they_were_sent(grid: Grid, run: Sapwood) -> None:
    project = Project(run, grid, "cat more/* | cksum >sum", "in", "more")
    # Some go while the action runs, and the last of them are read when the CAS has been away.
    folder = run.home / "more"
    folder.mkdir()
    for number in range(200):
        (folder / str(number)).write_bytes(os.urandom(200_000))
    with working(run, grid), building(project) as build:
        until(lambda: project.is_running)
        grid.served.kill()
        project.let_go()
        build.wait_for(f"grpc://{grid.cas} does not answer")
        grid.served.start()
        # Once more if the worker was not heard in time, and its lease is a new one.
        until(lambda: project.let_go() or build.process.poll() is not None)
        assert build.code() == 0, build.err
        project.require_built(build)
        expected = subprocess.run("cat more/* | cksum", shell=True, cwd=run.home, capture_output=True, text=True)
        assert run.good("cat", build.out.strip(), "sum").out == expected.stdout


def test_a_killed_build_leaves_no_result_and_the_next_one_builds(grid: Grid, run: Sapwood) -> None:
    project = Project(run, grid, "cat deep/late >sum || true", "in", "deep")
    # Larger than what is fetched ahead of readers.
    (run.home / "deep").mkdir()
    (run.home / "deep" / "late").write_bytes(os.urandom(400_000))
    # What nobody has read by then has not been sent.
    project.words[1:1] = ["--complete", "never"]
    with working(run, grid):
        with building(project) as build:
            until(lambda: project.is_running)
            build.process.kill()
            assert build.code() == -signal.SIGKILL
        # The scheduler tries it again.
        until(lambda: project.let_go() or not _going(grid))
        with building(project) as build:
            until(lambda: project.let_go() or build.process.poll() is not None)
            assert build.code() == 0, build.err
            # Its server knew no result.
            assert "1 built, 0 known" in build.err
            project.require_built(build)


ANNOUNCE = """
import sys, threading
from tests.support.announcing import Announcer
from tests.support.reapiclient import Client
announcer = Announcer(Client(sys.argv[1]))
announcer.announce(bytes.fromhex(sys.argv[2]))
print("announced", flush=True)
for order in announcer.rest():
    print("wanted", flush=True)
"""


def test_what_a_killed_client_had_promised_another_delivers(grid: Grid, run: Sapwood) -> None:
    shared, source = fresh("shared"), Source()
    source.add(shared)
    words = [sys.executable, "-c", ANNOUNCE, grid.cas, shared.hex()]
    with (
        working(run, grid),
        Asking(grid) as asking,
        ThreadPoolExecutor() as pool,
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as first,
    ):
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "announced\n"
            with announcing(grid, source):
                action = asking.action("cat shared >out", root_of(asking, shared=shared), "out")
                answer = pool.submit(asking.execute, action)
                # It is asked, brings nothing, and dies.
                assert first.stdout.readline() == "wanted\n"
                first.kill()
                done = answer.result()
        finally:
            first.kill()
    assert done.status.code == 0, done
    assert [file.digest for file in done.result.output_files] == [digest_of(shared)]


@pytest.mark.parametrize("moment", ["queued", "running", "away"])
def test_an_interrupt_ends_a_build_and_what_runs_for_it(grid: Grid, run: Sapwood, moment: str) -> None:
    project = Project(run, grid)
    room = run.home / "changes" / "worker"
    before = _going(grid)
    with building(project) as build:
        if moment == "queued":
            until(lambda: _going(grid) - before)
            build.process.send_signal(signal.SIGINT)
            assert build.code() == 130, build.err
            until(lambda: _going(grid) <= before)
            return
        with working(run, grid):
            until(lambda: project.is_running)
            if moment == "away":
                grid.scheduler.kill()
                build.wait_for("does not answer")
            build.process.send_signal(signal.SIGINT)
            assert build.code() == 130, build.err
            assert "Traceback" not in build.err
            if moment == "running":
                until(lambda: not project.is_running)
                until(lambda: _going(grid) <= before)
                [actions] = room.glob("*/actions")
                until(lambda: not list(actions.iterdir()))
            project.let_go()
    assert str(run.home) not in Path("/proc/self/mountinfo").read_text()


class Telling(Heard):
    """Notes what a build waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.words_told: list[str] = []

    def told(self, words: str) -> None:
        self.words_told.append(words)


def _place(home: Path, command: str) -> tuple[Place, Derivation]:
    place = Place(home)
    place.sources.mkdir(parents=True)
    return place, derivation("one", command, sources=["in"], outputs=["out"], base=place.sources)


def _going(grid: Grid) -> set[str]:
    """Return the operations that are not done."""
    with Client(grid.scheduler.where) as client:
        stub: Callable[..., operations_pb2.ListOperationsResponse] = operations_pb2_grpc.OperationsStub(
            client.channel
        ).ListOperations
        return {each.name for each in stub(operations_pb2.ListOperationsRequest()).operations if not each.done}
