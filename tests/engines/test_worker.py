"""`sapwood worker` for BuildGrid, a scheduler that others wrote, with `sapwood serve` as the CAS of both."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from sapwood.build import Derivation, derivation
from sapwood.build.action import complete_mark
from sapwood.build.builder import Built
from sapwood.build.remote import Executor
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from tests.support.bazel import Bazel
from tests.support.building import Place
from tests.support.cli import Sapwood
from tests.support.engines import store_tree
from tests.support.grid import (
    Asking,
    Grid,
    Served,
    Source,
    announcing,
    end,
    fresh,
    processes_of,
    root_of,
    until,
    working,
)
from tests.support.nobody import NobodysSapwood, fuse_for_users, nobodys_directory
from tests.support.peers import free_port
from tests.support.reapiclient import digest_of
from tests.support.unmounting import take_away

pytestmark = pytest.mark.timeout(300)  # the grid may take most of that to start on a busy machine


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture
def asking(grid: Grid) -> Iterator[Asking]:
    with Asking(grid) as asking:
        yield asking


def test_an_action_finds_its_inputs_and_what_it_makes_comes_back(grid: Grid, run: Sapwood, asking: Asking) -> None:
    root = store_tree(asking.cas, {"src/a": b"aaa\n", "src/b": b"bbb\n", "top": b"hello\n", "large": b"x" * 5_000_000})
    line = (
        "id -u; cat src/a top; echo bad >&2; cp large out; mkdir -p d/e; cp src/b d/e/; chmod +x d/e/b; ln -s e/b d/l;"
        " echo >> src/a; ln -s top link"
    )
    with working(run, grid):
        answer = asking.execute(asking.action(line, root, "out", "d", "link", "never", "new/below/out"))
        old = asking.execute(
            asking.action(
                "pwd; ls ..; mkdir d; echo x > d/f; echo y > sub/f; ln -s f sub/l",
                root,
                output_paths=[],
                output_files=["sub/f", "sub/l"],
                output_directories=["d"],
                working_directory="src",
                output_directory_format=reapi.Command.DIRECTORY_ONLY,
            )
        )
    assert answer.status.code == 0
    result = answer.result
    assert (result.exit_code, result.stdout_raw, result.stderr_raw) == (0, b"1000\naaa\nhello\n", b"bad\n")
    [out] = result.output_files
    assert (out.path, out.digest, out.is_executable) == ("out", digest_of(b"x" * 5_000_000), False)
    assert [(link.path, link.target) for link in result.output_symlinks] == [("link", "top")]
    [folder] = result.output_directories
    tree = reapi.Tree.FromString(asking.read(folder.tree_digest))
    [below] = tree.children
    assert [(link.name, link.target) for link in tree.root.symlinks] == [("l", "e/b")]
    assert [(node.name, node.digest, node.is_executable) for node in below.files] == [("b", digest_of(b"bbb\n"), True)]
    assert tree.root.directories[0].digest == digest_of(below.SerializeToString())

    assert old.status.code == 0, old
    assert old.result.stdout_raw == b"/build/src\nlarge\nsrc\ntop\n"
    assert [file.path for file in old.result.output_files] == ["sub/f"]
    assert [link.path for link in old.result.output_file_symlinks] == ["sub/l"]
    [folder] = old.result.output_directories
    assert not folder.HasField("tree_digest")
    message = reapi.Directory.FromString(asking.read(folder.root_directory_digest))
    assert [node.digest for node in message.files] == [digest_of(b"x\n")]


def test_an_ordinary_user_can_be_a_worker(grid: Grid, asking: Asking) -> None:
    """By namespaces of its own: nothing of the machine's root is needed, nor left behind."""
    root = store_tree(asking.cas, {"src/a": b"aaa\n", "src/b": b"bbb\n", "top": b"hello\n", "large": b"x" * 5_000_000})
    line = (
        "id -u; grep CapEff /proc/self/status; cat src/a top; cp large out; echo more >>src/a; rm src/b; chmod 755 top;"
        " mv src moved; mkdir src d; ln -s a src/l; cp -r moved src d;"
        " (: >/proc/sys/kernel/core_pattern) 2>&1 || echo no"
    )
    with nobodys_directory() as place, fuse_for_users():
        with working(NobodysSapwood(place), grid, "--no-lazy"):
            answer = asking.execute(asking.action(line, root, "out", "moved", "d", "src"))
        assert not [line for line in Path("/proc/mounts").read_text().splitlines() if str(place) in line]
        assert os.listdir(place / "changes" / "worker") == []
    assert answer.status.code == 0, answer
    result = answer.result
    words = result.stdout_raw.decode().splitlines()
    assert (result.exit_code, words[0], words[2:4]) == (0, "1000", ["aaa", "hello"]), result
    assert words[1].split() == ["CapEff:", "0" * 16]
    assert words[-1] == "no"
    assert [file.digest for file in result.output_files] == [digest_of(b"x" * 5_000_000)]
    trees = {each.path: reapi.Tree.FromString(asking.read(each.tree_digest)) for each in result.output_directories}
    assert [(node.name, node.digest) for node in trees["moved"].root.files] == [("a", digest_of(b"aaa\nmore\n"))]
    assert [node.name for node in trees["src"].root.symlinks] == ["l"]
    assert [node.name for node in trees["d"].root.directories] == ["moved", "src"]


def test_what_was_built_here_is_built_there_under_the_same_keys_and_alike(
    grid: Grid, run: Sapwood, tmp_path: Path
) -> None:
    def place_in(home: Path) -> tuple[Place, Derivation]:
        place = Place(home)
        (place.sources / "in" / "deep").mkdir(parents=True)
        (place.sources / "in" / "a").write_text("hello\n")
        (place.sources / "in" / "deep" / "never").write_bytes(b"never read" * 100_000)
        (place.sources / "in" / "run").write_text("#!/bin/sh\necho ran\n")
        (place.sources / "in" / "run").chmod(0o755)
        (place.sources / "in" / "link").symlink_to("a")
        made = derivation(
            "made",
            "mkdir -p d/e; tr a-z A-Z <in/link >d/e/f; ln -s f d/e/l; in/run >d/ran; cp in/run prog;"
            " env; id; ls -la . in; hostname",
            sources=["in"],
            outputs=["d", "prog"],
            base=place.sources,
        )
        used = derivation(
            "used",
            "mkdir out; cat dep/d/e/l dep/d/ran >out/all; dep/prog >>out/all; head -c 5000000 /dev/zero >out/large",
            deps={"dep": made},
            outputs=["out"],
            base=place.sources,
        )
        return place, used

    def outputs(built: Built, name: str) -> dict[str, Any]:
        nodes = built.made[name].result.outputs
        return {path: (node.kind, node.digest, node.size, node.executable, node.target) for path, node in nodes.items()}

    (here, used), (there, used_there) = place_in(tmp_path / "here"), place_in(tmp_path / "there")
    local = here.build(used)
    executor = Executor(f"grpc://{grid.scheduler.where}", cas=f"grpc://{grid.cas}", complete=False)
    with working(run, grid):
        remote = there.build(used_there, executor=executor)
    for name in ("made", "used"):
        assert remote.made[name].result.action == local.made[name].result.action
        assert outputs(remote, name) == outputs(local, name)
    assert there.read(remote, "used", b"out/all") == b"HELLO\nran\nran\n"
    with Asking(grid) as asking:
        # What no one read was never sent.
        assert asking.cas.missing([b"never read" * 100_000, b"hello\n"]) == [b"never read" * 100_000]


def test_bazel_builds_on_it(grid: Grid, run: Sapwood) -> None:
    bazel = Bazel(run.home)
    with working(run, grid, "--jobs", "2"):
        ran, hits = bazel.build(
            f"--remote_executor=grpc://{grid.scheduler.where}",
            "--spawn_strategy=remote",
            "--remote_default_exec_properties=OSFamily=linux",
        )
    assert (ran, hits) == (bazel.actions, 0)
    assert bazel.output("upper.txt") == b"HELLO\n"
    assert bazel.output("large.bin") == b"HELLO\n" * 200_000
    assert bazel.output("used.txt") == b"ran\n"


def test_an_action_does_not_burn_its_timeout_while_it_waits_for_an_input(
    grid: Grid, run: Sapwood, asking: Asking
) -> None:
    source, late, other = Source(), fresh("late"), fresh("other")
    let_go = source.add(late, held=True)
    source.add(other)
    root = root_of(asking, **{"late": late, "other.x": other})
    with working(run, grid), announcing(grid, source), ThreadPoolExecutor() as pool:
        answer = pool.submit(asking.execute, asking.action("cat late >out", root, "out", timeout_s=3))
        until(lambda: late in source.opened)
        # Longer than it may take.
        let_go.wait(4)
        let_go.set()
        done = answer.result()
        slow = asking.execute(asking.action("sleep 100", root, "out", timeout_s=1))
    assert done.status.code == 0, done
    assert [file.digest for file in done.result.output_files] == [digest_of(late)]
    assert done.result.execution_metadata.virtual_execution_duration.ToMilliseconds() < 3500
    assert slow.status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    # What nobody read nobody asked for.
    assert source.opened == [late]


def test_an_action_that_fills_the_disk_is_ended_and_says_why(grid: Grid, run: Sapwood, asking: Asking) -> None:
    action = asking.action("exec cat /dev/zero >large", root_of(asking, top=fresh("top")), "out", timeout_s=60)
    with working(run, grid, "--disk", "8M"):
        answer = asking.execute(action)
    assert answer.result.exit_code == 137
    assert b"sapwood: it wrote more than 8,388,608 bytes to the disk" in answer.result.stderr_raw
    assert not asking.knows(action)


def test_an_input_that_nobody_has_is_named_and_nothing_is_kept(grid: Grid, run: Sapwood, asking: Asking) -> None:
    lost = fresh("lost")
    folder = reapi.Directory(files=[reapi.FileNode(name="in", digest=digest_of(lost))]).SerializeToString()
    above = reapi.Directory(directories=[reapi.DirectoryNode(name="d", digest=digest_of(folder))]).SerializeToString()
    asking.cas.put(above)
    actions = [
        (lost, asking.action("cat lost || true; echo >out", root_of(asking, lost=lost), "out")),
        (folder, asking.action("true", digest_of(above), "d/made/out")),  # on the way to an output
    ]
    with working(run, grid):
        answers = [(lacking, action, asking.execute(action)) for lacking, action in actions]
    for lacking, action, answer in answers:
        assert answer.status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0], answer.status
        [detail] = answer.status.details
        failure = error_details_pb2.PreconditionFailure()
        assert detail.Unpack(failure)
        digest = digest_of(lacking)
        assert [(one.type, one.subject) for one in failure.violations] == [
            ("MISSING", f"blobs/{digest.hash}/{digest.size_bytes}")
        ]
        assert not asking.knows(action)


def test_an_action_whose_client_is_lost_has_no_result(grid: Grid, run: Sapwood, asking: Asking) -> None:
    source, lost = Source(), fresh("lost")
    let_go = source.add(lost, held=True)
    action = asking.action("cat lost || true; echo >out", root_of(asking, lost=lost), "out")
    with working(run, grid), announcing(grid, source), ThreadPoolExecutor() as pool:
        answer = pool.submit(asking.execute, action)
        until(lambda: lost in source.opened)
        source.is_gone = True
        let_go.set()
        code = answer.result().status.code
    # At the first try it was announced, at the next one nobody has it.
    assert code in (grpc.StatusCode.UNAVAILABLE.value[0], grpc.StatusCode.FAILED_PRECONDITION.value[0])
    assert not asking.knows(action)


def test_a_killed_worker_leaves_nothing_and_another_one_does_its_work(grid: Grid, run: Sapwood, asking: Asking) -> None:
    source, late = Source(), fresh("late")
    mark = f"mark-{uuid.uuid4()}"
    let_go = source.add(late, held=True)
    action = asking.action(f"cat late >out; : {mark}", root_of(asking, late=late), "out")
    room = run.home / "changes" / "worker"
    with announcing(grid, source), ThreadPoolExecutor() as pool:
        with working(run, grid) as killed:
            answer = pool.submit(asking.execute, action)
            until(lambda: late in source.opened)
            until(lambda: processes_of(mark))
            assert str(run.home) not in Path("/proc/self/mountinfo").read_text()
            killed.kill()
            killed.wait()
            until(lambda: not processes_of(mark))
            assert len(os.listdir(room)) == 1
        with working(run, grid):
            until(lambda: processes_of(mark))
            assert len(os.listdir(room)) == 1
            let_go.set()
            done = answer.result()
    assert [file.digest for file in done.result.output_files] == [digest_of(late)]
    assert os.listdir(room) == []


def test_a_worker_that_is_to_end_at_once_gives_its_work_back(grid: Grid, run: Sapwood, asking: Asking) -> None:
    source, late = Source(), fresh("late")
    mark = f"mark-{uuid.uuid4()}"
    let_go = source.add(late, held=True)
    action = asking.action(f"cat late >out; : {mark}", root_of(asking, late=late), "out")
    with announcing(grid, source), ThreadPoolExecutor() as pool:
        with working(run, grid) as first:
            answer = pool.submit(asking.execute, action)
            until(lambda: late in source.opened)
            until(lambda: processes_of(mark))
            [*before] = processes_of(mark)
            first.send_signal(signal.SIGTERM)
            # The second one is not to come together with the first, nor a third when nobody heeds it any more.
            with contextlib.suppress(subprocess.TimeoutExpired):
                first.wait(1)
            first.send_signal(signal.SIGTERM)
            assert first.wait(100) == 0
            assert not set(before) & set(processes_of(mark))
        with working(run, grid):
            until(lambda: processes_of(mark))
            let_go.set()
            done = answer.result()
    assert done.status.code == 0, done


def test_a_scheduler_that_is_started_anew_hears_what_came_of_its_leases(
    grid: Grid, run: Sapwood, asking: Asking
) -> None:
    source, late = Source(), fresh("late")
    let_go = source.add(late, held=True)
    action = asking.action("cat late >out", root_of(asking, late=late), "out")
    with working(run, grid), announcing(grid, source), ThreadPoolExecutor() as pool:
        answer = pool.submit(asking.execute, action)
        until(lambda: late in source.opened)
        grid.scheduler.kill()
        grid.scheduler.start()
        let_go.set()
        done = answer.result()
    assert done.status.code == 0, done
    assert [file.digest for file in done.result.output_files] == [digest_of(late)]


def test_a_cancelled_operation_ends_its_command(grid: Grid, run: Sapwood, asking: Asking) -> None:
    mark = f"mark-{uuid.uuid4()}"
    action = asking.action(f"sleep 1000; : {mark}", root_of(asking), "out")
    with working(run, grid):
        stream = asking.execution.Execute(reapi.ExecuteRequest(action_digest=action), timeout=100)
        name = next(stream).name
        until(lambda: processes_of(mark))
        asking.cancel(name)
        until(lambda: not processes_of(mark))
        # It takes the next one.
        assert asking.execute(asking.action("true", root_of(asking))).status.code == 0


def test_inputs_are_waited_for_while_their_server_is_away(grid: Grid, run: Sapwood, asking: Asking) -> None:
    source, late = Source(), fresh("late")
    let_go = source.add(late, held=True)
    away = Grid(grid.scheduler, Served(f"127.0.0.1:{free_port()}", Sapwood(run.home / "away")))
    away.served.home.home.mkdir()
    with ExitStack() as stack:
        away.served.start()
        stack.callback(away.served.kill)
        with Asking(away) as there:
            action = there.action("cat late >out", root_of(there, late=late), "out")
        asking.action("cat late >out", root_of(asking, late=late), "out")
        stack.enter_context(announcing(away, source))
        stack.enter_context(working(run, away))
        pool = stack.enter_context(ThreadPoolExecutor())
        answer = pool.submit(asking.execute, action)
        until(lambda: late in source.opened)
        away.served.kill()
        away.served.start()
        let_go.set()
        done = answer.result()
    assert done.status.code == 0, done
    assert [file.digest for file in done.result.output_files] == [digest_of(late)]


def test_a_full_store_is_told_of_as_such_and_the_action_is_not_run_again_for_it(
    grid: Grid, run: Sapwood, asking: Asking
) -> None:
    away = Grid(grid.scheduler, Served(f"127.0.0.1:{free_port()}", Sapwood(run.home / "away")))
    staging = away.served.home.home / "staging"
    staging.mkdir(parents=True)
    line = "head -c 40000000 /dev/urandom >out"
    action = asking.action(line, root_of(asking), "out")
    with ExitStack() as stack:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", staging], check=True)
        stack.callback(take_away, staging)
        away.served.start()
        stack.callback(away.served.end)
        with Asking(away) as there:
            there.action(line, root_of(there), "out")
        stack.enter_context(working(run, away))
        answer = asking.execute(action)
    # For what may pass by itself, as UNAVAILABLE, this scheduler has the whole action run again.
    assert answer.status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], answer
    assert "(executor-full)" in answer.status.message


@pytest.mark.parametrize("by_action", [False, True], ids=["of the worker", "of the action"])
def test_with_no_lazy_nothing_is_fetched_once_the_command_has_begun(
    grid: Grid, run: Sapwood, asking: Asking, by_action: bool
) -> None:
    # Each is what a process is started with that can be seen, and stays until it is ended.
    begun, has_read = (f"1{uuid.uuid4().int % 10**12}" for _ in range(2))
    source, late, never = Source(), fresh("late"), fresh("never")
    large = b"".join(uuid.uuid4().bytes for _ in range(300_000))
    length = has_read.encode()
    deep = reapi.Directory(files=[reapi.FileNode(name="length", digest=digest_of(length))]).SerializeToString()
    top = reapi.Directory(
        files=[
            reapi.FileNode(name=name, digest=digest_of(data))
            for name, data in (("empty", b""), ("large", large), ("late", late), ("never", never))
        ],
        directories=[reapi.DirectoryNode(name="deep", digest=digest_of(deep))],
        symlinks=[reapi.SymlinkNode(name="link", target="nowhere")],
    ).SerializeToString()
    line = f"sleep {begun} || true; cat late large >out; sleep $(cat deep/length) || true"
    away = Grid(grid.scheduler, Served(f"127.0.0.1:{free_port()}", Sapwood(run.home / "away")))
    away.served.home.home.mkdir()
    with ExitStack() as stack:
        away.served.start()
        stack.callback(away.served.kill)
        let_go = source.add(late, held=True)
        for data in (never, large, length, deep):
            source.add(data)
        action = asking.action(line, digest_of(top), "out")
        with Asking(away) as there:
            there.cas.put(top)
            there.action(line, digest_of(top), "out")
            if by_action:
                there.cas.put(complete_mark((action.hash, action.size_bytes)))
        stack.enter_context(announcing(away, source))
        stack.enter_context(working(run, away, *([] if by_action else ["--no-lazy"])))
        pool = stack.enter_context(ThreadPoolExecutor())
        answer = pool.submit(asking.execute, action)
        until(lambda: late in source.opened)
        assert not processes_of(f"sleep\0{begun}")
        let_go.set()
        until(lambda: processes_of(f"sleep\0{begun}"))
        assert set(source.opened) == {late, never, large, length, deep}
        away.served.kill()
        end(f"sleep\0{begun}")
        # It has read what it was given, of a CAS that is gone.
        until(lambda: processes_of(f"sleep\0{has_read}"))
        away.served.start()
        end(f"sleep\0{has_read}")
        done = answer.result()
    assert done.status.code == 0, done
    assert [file.digest for file in done.result.output_files] == [digest_of(late + large)]


def test_with_no_lazy_the_time_of_a_command_begins_when_all_is_here(grid: Grid, run: Sapwood, asking: Asking) -> None:
    source, late, lost = Source(), fresh("late"), fresh("lost")
    let_go = source.add(late, held=True)
    unread = asking.action("true", root_of(asking, lost=lost))
    with working(run, grid, "--no-lazy"), announcing(grid, source), ThreadPoolExecutor() as pool:
        answer = pool.submit(
            asking.execute, asking.action("sleep 0.5; cat late >out", root_of(asking, late=late), "out", timeout_s=4)
        )
        until(lambda: late in source.opened)
        # Longer than it may take.
        threading.Event().wait(4.5)
        let_go.set()
        done = answer.result()
        # Nobody has it, and the command would not have read it.
        refused = asking.execute(unread)
    assert done.status.code == 0, done
    told = done.result.execution_metadata
    assert told.virtual_execution_duration.ToMilliseconds() >= 500
    fetched = told.input_fetch_completed_timestamp.ToDatetime() - told.input_fetch_start_timestamp.ToDatetime()
    assert fetched.total_seconds() > 4
    assert refused.status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert not asking.knows(unread)
