"""A thousand readers of one mount: its server stays small while all wait, and whoever is interrupted is free."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sapwood.mount import Mount, mounts
from tests.support.faultyproxy import Passing, proxying
from tests.support.mounting import mounted, pushed, shell
from tests.support.webserver import serving

READERS = 1000
# docs/mount.md: what a server takes at rest, and what it may hold of what is on its way.
MOST_BYTES = 128 << 20
# What was decompressed into, and chunks that came last.
GIVEN_BACK = 8 << 20
PATIENCE_S = 150

# Children that each read one file, and say so; the end of stdin lets nobody go: only their reads do.
CROWD = """
import os, sys
place, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
children = []
for number in range(first, last):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(f"{place}/{number % 10}/{number}", "rb") as file:
                code = 0 if file.read() == b"%d" % number * 4000 else 2
        finally:
            os._exit(code)
    children.append(child)
print("forked", flush=True)
print(sorted({os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}), flush=True)
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def mount_at(place: Path) -> Mount:
    [found] = [mount for mount in mounts() if mount.path == place]
    return found


def peak_bytes(pid: int) -> int:
    return memory_of(pid, "VmHWM")


def memory_of(pid: int, name: str) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def tree_of_a_thousand(root: Path) -> Path:
    for number in range(READERS):
        path = root / f"{number % 10}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * 4000)
    # Too large to come along with anything.
    for number in range(20):
        (root / f"large-{number}").write_bytes(os.urandom(3_000_000))
    return root


def waits(pid: int | str) -> bool:
    """Whether a process waits in the kernel for an answer of a mount."""
    try:
        where = Path(f"/proc/{pid}/wchan").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return False
    return any(word in where for word in ("fuse", "folio", "page", "request"))


def blocked(parents: list[int]) -> int:
    """How many children of these processes wait so."""
    return sum(waits(pid) for one in parents for pid in Path(f"/proc/{one}/task/{one}/children").read_text().split())


def test_a_thousand_readers_that_wait_cost_no_memory_to_speak_of(tmp_path: Path, cache_dir: Path) -> None:
    tree, place = tree_of_a_thousand(tmp_path / "tree"), tmp_path / "mount"
    pushed(tree, tmp_path / "store")
    holding = True

    def hold(passing: Passing) -> None:
        until(lambda: not holding)
        passing.send(*passing.ask())

    with (
        serving(tmp_path / "store") as url,
        proxying(url) as proxy,
        # Until all of them wait takes long on a busy machine.
        mounted(f"{proxy.url}#main", place, cache_dir, prefetch=False, patience_s=300, deadline_s=250),
    ):
        # The names; from here on contents are held back.
        assert shell(f"find {place} -type f | wc -l").stdout == f"{READERS + 20}\n"
        proxy.begin(lambda _: hold)
        crowds = [
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", CROWD, place, str(first), str(first + 100)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for first in range(0, READERS, 100)
        ]
        large = [subprocess.Popen(["cmp", place / f"large-{n}", tree / f"large-{n}"]) for n in range(20)]
        try:
            for crowd in crowds:
                assert crowd.stdout is not None
                assert crowd.stdout.readline() == "forked\n"
            until(lambda: blocked([crowd.pid for crowd in crowds]) > 0.9 * READERS)
            server = mount_at(place).server
            waiting = peak_bytes(server)
            holding = False
            assert [crowd.communicate(timeout=PATIENCE_S)[0] for crowd in crowds] == ["[0]\n"] * len(crowds)
            assert [one.wait(PATIENCE_S) for one in large] == [0] * len(large)
            print(f"peak: {waiting >> 20} MiB waiting, {peak_bytes(server) >> 20} MiB served")
            assert peak_bytes(server) < MOST_BYTES
        finally:
            holding = False
            for one in (*crowds, *large):
                one.kill()
                one.wait()


def test_what_fetching_took_is_given_back_when_all_is_here(tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree_of_a_thousand(tmp_path / "tree"), tmp_path / "store"), tmp_path / "mount"
    with mounted(address, place, cache_dir):
        server = mount_at(place).server
        until(lambda: mount_at(place).lacking == 0)
        peak = peak_bytes(server)
        until(lambda: memory_of(server, "VmRSS") < peak - GIVEN_BACK)
        print(f"peak: {peak >> 20} MiB, left {memory_of(server, 'VmRSS') >> 20} MiB")


def test_many_that_are_interrupted_at_once_are_free_and_leave_nothing_behind(tmp_path: Path, cache_dir: Path) -> None:
    tree, place, stats = tmp_path / "tree", tmp_path / "mount", tmp_path / "stats"
    tree.mkdir()
    for number in range(100):
        (tree / f"{number}").write_bytes(os.urandom(20_000))
    pushed(tree, tmp_path / "store")
    holding = True

    def hold(passing: Passing) -> None:
        until(lambda: not holding)
        passing.send(*passing.ask())

    with serving(tmp_path / "store") as url, proxying(url) as proxy:
        with mounted(f"{proxy.url}#main", place, cache_dir, prefetch=False, stats=str(stats)):
            assert shell(f"ls {place} | wc -l").stdout == "100\n"
            proxy.begin(lambda _: hold)
            try:
                readers = [subprocess.Popen(["cat", place / f"{n}"], stdout=subprocess.DEVNULL) for n in range(100)]
                mapping = (
                    "import mmap,sys; f=open(sys.argv[1],'rb'); mmap.mmap(f.fileno(),0,access=mmap.ACCESS_READ)[9]"
                )
                mapped = subprocess.Popen([sys.executable, "-I", "-S", "-c", mapping, place / "50"])
                until(lambda: all(waits(one.pid) for one in (*readers, mapped)))
                for one in readers:
                    one.send_signal(signal.SIGINT)
                # A fault on a page cannot be interrupted, but it can be killed.
                mapped.kill()
                assert {one.wait(PATIENCE_S) for one in readers} == {-signal.SIGINT}
                assert mapped.wait(PATIENCE_S) == -signal.SIGKILL
            finally:
                holding = False
            assert shell(f"diff -r {tree} {place} && echo same").stdout == "same\n"
        assert json.loads(stats.read_text())["waiting"] == 0
