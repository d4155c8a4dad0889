"""A server that is killed is missed by nobody: readers wait, another one takes over, and the bytes are right."""

from __future__ import annotations

import hashlib
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.link import linked
from sapwood.errors import UnavailableError
from sapwood.mount import Mount, holder, mounts, process, restart, unmount
from tests.support.cli import Sapwood
from tests.support.mounting import is_mounted, mounted, pushed, shell
from tests.support.webserver import serving

KILLS = 10
PATIENCE_S = 150
FILES = 20

READ_MAPPED = """
import hashlib, mmap, sys
for path in sys.argv[1:]:
    with open(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        print(hashlib.sha256(data).hexdigest(), "", path)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for number in range(FILES):
        directory = root / f"{number % 4}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"file-{number}").write_bytes(os.urandom(100_000))
    return root


@contextmanager
def far(store: Path, mbit: float) -> Iterator[str]:
    """The address of a store behind a slow link."""
    with serving(store) as url, linked(int(url.rpartition(":")[2]), rtt_ms=5, mbit=mbit) as link:
        yield f"{link.url}#main"


def mount_at(place: Path) -> Mount:
    [found] = [mount for mount in mounts() if mount.path == place]
    return found


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    handle = os.pidfd_open(pid)
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert select.select([handle], [], [], PATIENCE_S)[0]
    os.close(handle)


def until_served(place: Path, killed: int) -> None:
    """Wait for another server than the one that was killed: for an answer, and, of the native tier, for its note."""
    subprocess.run(["stat", "-f", place], check=True, capture_output=True, timeout=PATIENCE_S)
    while mount_at(place).server == killed:
        time.sleep(0.01)


def gone(*pids: int) -> bool:
    """Wait until processes have ended."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([handle], [], [], PATIENCE_S)
        os.close(handle)
        if not ended:
            return False
    return True


def sums(tree: Path) -> dict[str, str]:
    files = [path for path in tree.rglob("*") if path.is_file()]
    return {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_sums(output: str, place: Path) -> dict[str, str]:
    lines = [line.split(maxsplit=1) for line in output.splitlines()]
    return {os.path.relpath(path, place): digest for digest, path in lines}


def readers(tree: Path, place: Path) -> list[subprocess.Popen[str]]:
    """Programs that read all files: in order, in the opposite order, by mapping them; and one that lists them."""
    paths = [place / name for name in sorted(sums(tree))]
    commands: list[list[str | Path]] = [
        ["find", place, "-type", "f"],
        ["sha256sum", *paths],
        ["sha256sum", *reversed(paths)],
        [sys.executable, "-c", READ_MAPPED, *paths],
    ]
    return [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for command in commands
    ]


def assert_right(running: list[subprocess.Popen[str]], tree: Path, place: Path) -> None:
    said = [reader.communicate(timeout=PATIENCE_S) for reader in running]
    assert [error for _, error in said] == [""] * len(said)
    assert sorted(said[0][0].split()) == sorted(str(place / name) for name in sums(tree))
    for output, _ in said[1:]:
        assert read_sums(output, place) == sums(tree)


def test_who_was_stopped_under_one_server_can_be_ended_under_the_next(tmp_path: Path, cache_dir: Path) -> None:
    tree, store, place = tmp_path / "tree", tmp_path / "store", tmp_path / "mount"
    tree.mkdir()
    # Their page takes three minutes, and nobody waits for it.
    names = [secrets.token_hex(100) for _ in range(6000)]
    for name in names:
        (tree / name).touch()
    pushed(tree, store)
    with (
        far(store, mbit=0.025) as address,
        mounted(address, place, cache_dir, deadline_s=PATIENCE_S),
        subprocess.Popen(["stat", place / max(names)], stdout=subprocess.DEVNULL) as waiting,
    ):
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.3)
        # The kernel tells of the first signal, and of no other.
        waiting.send_signal(signal.SIGSTOP)
        waiting.send_signal(signal.SIGCONT)
        server = mount_at(place).server
        kill(server)
        until_served(place, server)
        waiting.send_signal(signal.SIGINT)
        # Before the deadline, which would let it go, too.
        assert waiting.wait(PATIENCE_S / 2) == -signal.SIGINT


@pytest.mark.parametrize("tier", ["fuse", "native"])
def test_readers_get_right_bytes_though_the_server_is_killed_ten_times(
    tier: str, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    pushed(tree, store)
    with far(store, mbit=2) as address, mounted(address, place, cache_dir, prefetch=False, tier=tier) as started:
        running = readers(tree, place)
        hit = 0
        for _ in range(KILLS):
            server = mount_at(place).server
            hit += any(reader.poll() is None for reader in running[1:])
            kill(server)
            until_served(place, server)
        assert_right(running, tree, place)
        assert hit >= KILLS // 2
        assert started.process.poll() is None
        assert started.log.read_text().count("another one takes over") == KILLS


def test_a_restart_under_load_is_noticed_by_no_reader(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    pushed(tree, store)
    with far(store, mbit=8) as address, mounted(address, place, cache_dir):
        running = readers(tree, place)
        before = mount_at(place)
        restart(before)
        after = mount_at(place)
        assert_right(running, tree, place)
    assert (before.pid, before.address) == (after.pid, after.address)
    assert before.server != after.server


def test_the_command_restarts_mounts_and_shows_them(tree: Path, tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", tree, "main")
    (tmp_path / "mnt").mkdir()
    mount = sapwood.good("mount", "--json", "main", "mnt").document
    try:
        before = shown(sapwood)
        said = sapwood.good("mounts", "--restart")
        after = shown(sapwood)
    finally:
        sapwood.good("umount", "mnt")
    assert f"{tmp_path}/mnt  {sapwood.store}#main" in said.out
    assert mount["pid"] == before["pid"] == after["pid"]
    assert before["server"] != after["server"]
    assert gone(after["pid"], after["server"])
    assert sorted(path.suffix for path in (sapwood.cache / "mounts").iterdir()) == [".log"]


def test_a_mount_that_cannot_be_restarted_keeps_no_other_from_it(tree: Path, tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", tree, "main")
    mounted_at = {}
    try:
        for name in ("a", "b", "c"):
            (tmp_path / name).mkdir()
            sapwood.good("mount", "--no-prefetch", "main", name)
            mounted_at[name] = mount_of(sapwood, name)
        for name in ("a", "b"):
            kill(mounted_at[name]["pid"])
        said = sapwood("mounts", "--restart")
        assert said.code == 6
        for name in ("a", "b"):
            assert f"{tmp_path}/{name}: nobody holds it" in said.err
        assert f"{tmp_path}/c  {sapwood.store}#main" in said.out
        for name, before in mounted_at.items():
            assert (mount_of(sapwood, name)["server"] != before["server"]) == (name == "c")
    finally:
        for name in mounted_at:
            sapwood.good("umount", name)


def mount_of(sapwood: Sapwood, name: str) -> dict[str, Any]:
    [found] = [one for one in sapwood.good("mounts", "--json").document if one["path"] == f"{sapwood.home}/{name}"]
    return found


def shown(sapwood: Sapwood) -> dict[str, Any]:
    """The one mount of ours: of those of others the address is not known."""
    [mount] = [mount for mount in sapwood.good("mounts", "--json").document if mount["address"]]
    return mount


def test_what_nobody_holds_is_not_restarted(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    with mounted(pushed(tree, tmp_path / "store"), place, cache_dir):
        found = mount_at(place)
        kill(found.pid)
        # It goes on as it is.
        assert shell(f"diff -r {tree} {place} && echo same").stdout == "same\n"
        with pytest.raises(UnavailableError) as refused:
            restart(mount_at(place))
        assert refused.value.kind == "mount-unheld"
    assert gone(found.server)


def test_without_holder_and_server_reads_fail_and_umount_mends(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    process.start(address, place, cache_dir=cache_dir)
    found = mount_at(place)
    try:
        kill(found.pid)
        kill(found.server)
        assert "not connected" in shell(f"cat {place}/0/file-0").stderr
        assert not mount_at(place).alive
    finally:
        unmount(place, cache_dir=cache_dir)
    assert not is_mounted(place)
    assert list(place.iterdir()) == []


def test_a_mount_is_taken_away_while_it_has_no_server(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    process.start(address, place, cache_dir=cache_dir)
    found = mount_at(place)
    # The holder cannot start another one meanwhile.
    os.kill(found.pid, signal.SIGSTOP)
    kill(found.server)
    unmount(place, cache_dir=cache_dir)
    os.kill(found.pid, signal.SIGCONT)
    assert gone(found.pid)
    assert not is_mounted(place)


def test_a_holder_that_is_asked_to_end_while_it_has_no_server_takes_the_mount_along(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with mounted(pushed(tree, tmp_path / "store"), place, cache_dir) as started:
        server = mount_at(place).server
        os.kill(started.pid, signal.SIGSTOP)
        kill(server)
        os.kill(started.pid, signal.SIGTERM)
        os.kill(started.pid, signal.SIGCONT)
        assert started.process.wait(PATIENCE_S) == 0
        assert not is_mounted(place)


def test_a_server_that_is_killed_before_it_is_ready_leaves_no_mount(tmp_path: Path) -> None:
    asked, release = threading.Event(), threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            release.wait(PATIENCE_S)

        do_HEAD = do_GET

    sapwood = Sapwood(tmp_path)
    (tmp_path / "mnt").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as web:
        web.daemon_threads = True
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_address[1]}#main"
        with subprocess.Popen(
            sapwood.command("mount", address, "mnt"), env=sapwood.environment, cwd=tmp_path, stderr=subprocess.PIPE
        ) as command:
            assert asked.wait(PATIENCE_S)
            [held] = children(command.pid)
            [server] = children(held)
            kill(server)
            _, error = command.communicate(timeout=PATIENCE_S)
        release.set()
        web.shutdown()
    assert command.returncode == 6
    assert b"the mount's server ended with signal 9 before it was ready" in error
    assert not is_mounted(tmp_path / "mnt")
    assert gone(held)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_successor_serves_what_is_cached_while_the_store_is_away(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    # Too large to share a frame with what is read.
    (tree / "3" / "large").write_bytes(os.urandom(3_000_000))
    pushed(tree, store)
    with serving(store) as url, mounted(f"{url}#main", place, cache_dir, prefetch=False) as started:
        assert shell(f"cat {place}/0/file-0 | cmp - {tree}/0/file-0").returncode == 0
        hidden = tmp_path / "hidden"
        store.rename(hidden)
        kill(mount_at(place).server)
        assert shell(f"cat {place}/0/file-0 | cmp - {tree}/0/file-0").returncode == 0
        assert "Input/output error" in shell(f"cat {place}/3/large").stderr
        assert url in started.log.read_text()
        hidden.rename(store)
        assert shell(f"cmp {place}/3/large {tree}/3/large").returncode == 0


def test_an_archive_that_was_replaced_is_given_up_and_the_log_says_why(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    from sapwood import pack

    archive, place = tmp_path / "tree.tar.gz", tmp_path / "mount"
    pack.pack(tree, str(archive))
    with mounted(str(archive), place, cache_dir) as started:
        assert shell(f"diff -r {tree} {place} && echo same").stdout == "same\n"
        server = mount_at(place).server
        kill(server)
        until_served(place, server)
        (tree / "0" / "file-0").write_bytes(b"other")
        pack.pack(tree, str(tmp_path / "other.tar.gz"))
        (tmp_path / "other.tar.gz").rename(archive)
        kill(mount_at(place).server)
        assert started.process.wait(PATIENCE_S) == holder.GAVE_UP
        assert "not connected" in shell(f"stat -f {place}").stderr
        assert "not the archive any more that was mounted" in started.log.read_text()


# Hands over a device that never ends, at first, and dies whenever it is started.
DIES = """
import os, signal, socket, sys
if sys.argv[3] == "-1":
    socket.send_fds(socket.socket(fileno=int(sys.argv[2])), [b"{}"], [os.open("/dev/null", os.O_RDONLY)])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_mount_whose_servers_all_die_is_given_up(tmp_path: Path) -> None:
    package = tmp_path / "sapwood" / "mount"
    package.mkdir(parents=True)
    for made in (package, package.parent):
        (made / "__init__.py").touch()
    (package / "__main__.py").write_text(DIES)
    reading, writing = os.pipe()
    with open(reading, "rb") as messages:
        held = subprocess.Popen(
            [sys.executable, "-I", "-S", holder.__file__, str(writing)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(writing,),
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        os.close(writing)
        assert messages.read() == holder.READY
    _, said = held.communicate(timeout=PATIENCE_S)
    assert held.returncode == holder.GAVE_UP
    assert b"20 servers died early, the last with signal 9: the mount is given up; unmount it\n" in said
    assert said.count(b"takes over") == 19
