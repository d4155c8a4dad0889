"""Requests that nobody answers: they cost others nothing, who waits for one is helped by another, none for ever."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.mount import Mount, mounts
from tests.faults.test_killed_mount import gone
from tests.support.cli import Sapwood
from tests.support.faultyproxy import Fault, Passing, Proxy, proxying
from tests.support.kernelcaches import dropped
from tests.support.mounting import mounted, shell
from tests.support.webserver import serving

FILES, SIZE = 16, 300_000
PATIENCE_S = 100
# Far from the deadline of a minute, and from the twenty seconds after which the store tries again by itself.
SOON_S = 19


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files too large to share a frame, those of each directory in a pack of their own."""
    store, root = open_store(str(tmp_path / "store"), create=True), tmp_path / "tree"
    for part in ("one", "two"):
        (root / part).mkdir(parents=True)
        for number in range(FILES):
            (root / part / f"{number}").write_bytes(os.urandom(SIZE))
        store.push(root, "main")
    return root


@pytest.fixture
def proxy(tree: Path, tmp_path: Path) -> Iterator[Proxy]:
    with serving(tmp_path / "store") as url, proxying(url) as proxy:
        yield proxy


@pytest.fixture
def stall() -> Iterator[Fault]:
    """No word, until the test is over."""
    over = threading.Event()

    def wait(passing: Passing) -> None:
        over.wait()
        passing.cut()

    yield wait
    over.set()


def pack_of(tree: Path, part: str) -> str:
    """The name of the pack that has the contents of a directory."""
    packs = [path for path in (tree.parent / "store" / "packs").iterdir() if path.stat().st_size > FILES * SIZE]
    first, second = sorted(packs, key=lambda path: path.stat().st_mtime_ns)
    return (first if part == "one" else second).name


def of_pack(name: str, fault: Fault) -> Fault:
    """Do that to requests for a pack only."""

    def spoil(passing: Passing) -> None:
        if name in passing.handler.path:
            fault(passing)
        else:
            passing.send(*passing.ask())

    return spoil


def reading(path: Path) -> subprocess.Popen[str]:
    """A reader that asks once: of what comes to nothing the kernel asks again for the page cache."""
    words = ["dd", f"if={path}", "iflag=direct", f"bs={SIZE}", "of=/dev/null", "status=none"]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def mount_at(place: Path, cache: Path | None = None) -> Mount:
    [found] = [mount for mount in mounts(cache) if mount.path == place]
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_pack_that_stalls_fails_its_own_readers_at_the_deadline_and_nobody_else(
    tree: Path, proxy: Proxy, stall: Fault, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with mounted(f"{proxy.url}#main", place, cache_dir, prefetch=False, deadline_s=12) as started:
        assert shell(f"find {place} -type f | wc -l").stdout == f"{2 * FILES}\n"
        fault = of_pack(pack_of(tree, "one"), stall)
        proxy.begin(lambda _: fault)
        stalled = [reading(place / "one" / f"{number}") for number in range(FILES)]
        until(lambda: sum(pack_of(tree, "one") in seen for seen in list(proxy.seen)) >= 3)
        assert shell(f"cmp {place}/two/0 {tree}/two/0").returncode == 0
        assert [reader.poll() for reader in stalled] == [None] * FILES
        # Something comes all the time, but nothing of what these wait for.
        number = 0
        while any(reader.poll() is None for reader in stalled):
            number += 1
            name = f"two/{number % FILES}"
            assert shell(f"cmp {place}/{name} {tree}/{name}").returncode == 0
            with dropped():
                shell(f"find {cache_dir}/objects -type f -delete; echo 3 > /proc/sys/vm/drop_caches")
            time.sleep(0.3)  # all others on this machine lack what was dropped, too
        assert all("Input/output error" in reader.communicate(timeout=PATIENCE_S)[1] for reader in stalled)
        assert "nothing of it came within 12 s" in started.log.read_text()


def test_who_waits_for_a_connection_that_is_dead_is_served_by_another(
    tree: Path, proxy: Proxy, stall: Fault, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with mounted(f"{proxy.url}#main", place, cache_dir, prefetch=False):
        assert shell(f"find {place} -type f | wc -l").stdout == f"{2 * FILES}\n"
        asked = set[str]()

        def first_time(passing: Passing) -> None:
            wanted = passing.handler.headers["Range"]
            is_first = wanted not in asked
            asked.add(wanted)
            (stall if is_first else lambda same: same.send(*same.ask()))(passing)

        proxy.begin(lambda _: first_time)
        begun = time.monotonic()
        assert shell(f"cmp {place}/one/3 {tree}/one/3").returncode == 0
        assert time.monotonic() - begun < SOON_S
        assert asked


def test_all_connections_that_die_at_once_are_given_up(
    tree: Path, proxy: Proxy, stall: Fault, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with mounted(f"{proxy.url}#main", place, cache_dir, prefetch=False):
        # Every fetcher has a connection that stays open.
        crowd = [reading(place / "one" / f"{number}") for number in range(FILES)]
        assert [reader.wait(PATIENCE_S) for reader in crowd] == [0] * FILES
        fault = of_connections(set(proxy.ports), stall)
        proxy.begin(lambda _: fault)
        begun = time.monotonic()
        crowd = [reading(place / "two" / f"{number}") for number in range(FILES)]
        assert [reader.wait(PATIENCE_S) for reader in crowd] == [0] * FILES
        assert time.monotonic() - begun < SOON_S


def of_connections(ports: set[int], fault: Fault) -> Fault:
    """Do that to requests by connections that were there before only."""

    def spoil(passing: Passing) -> None:
        if passing.handler.client_address[1] in ports:
            fault(passing)
        else:
            passing.send(*passing.ask())

    return spoil


def test_background_goes_on_beside_a_pack_that_stalls(
    tree: Path, proxy: Proxy, stall: Fault, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    fault = of_pack(pack_of(tree, "one"), stall)
    proxy.begin(lambda _: fault)
    with mounted(f"{proxy.url}#main", place, cache_dir):
        until(lambda: mount_at(place).lacking == FILES * SIZE)
        assert shell(f"cmp {place}/two/5 {tree}/two/5").returncode == 0


@pytest.mark.parametrize("tier", ["fuse", "native"])
def test_while_a_mount_is_being_made_no_other_is_begun_at_its_place(
    tier: str, tree: Path, proxy: Proxy, tmp_path: Path
) -> None:
    run, held = Sapwood(tmp_path), threading.Event()

    def hold(passing: Passing) -> None:
        held.wait(PATIENCE_S)
        passing.send(*passing.ask())

    (tmp_path / "mnt").mkdir()
    words = run.command("mount", "--tier", tier, f"{proxy.url}#main", "mnt")
    proxy.begin(lambda _: hold)
    with subprocess.Popen(words, cwd=run.home, env=run.environment) as first:
        # Requests may come before; its log is made when nobody else may begin one.
        until(lambda: any((run.cache / "mounts").glob("*.log")))
        refused = run("mount", "--tier", tier, f"{proxy.url}#main", "mnt")
        held.set()
        assert (refused.code, refused.out) == (2, "")
        assert refused.err == f"sapwood: {tmp_path}/mnt: another mount is being made there\nhint: sapwood mounts\n"
        assert first.wait(PATIENCE_S) == 0
    try:
        assert [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()].count(f"{tmp_path}/mnt") == 1
        assert shell(f"cmp {tmp_path}/mnt/one/1 {tree}/one/1").returncode == 0
        made = mount_at(tmp_path / "mnt", run.cache)
    finally:
        run.good("umount", "mnt")
    assert gone(made.pid, made.server)
    assert [path.suffix for path in (run.cache / "mounts").iterdir()] == [".log"]
