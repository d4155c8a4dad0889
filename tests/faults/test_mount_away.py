"""A mount whose store is away: what is cached is served, the rest waits or fails with a reason, and comes back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sapwood.errors import SapwoodError
from sapwood.mount import mounts
from tests.support.cli import Sapwood
from tests.support.mounting import mounted, pushed, shell
from tests.support.peers import free_port

PATIENCE_S = 100


class Web:
    """A web server over `root` as a process of its own, that can be away and come back at the same port."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._process: subprocess.Popen[str] | None = None
        self.port = free_port()

    def start(self) -> None:
        words = [sys.executable, "-m", "tests.support.webserver", str(self._root), str(self.port)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"listening on http://127.0.0.1:{self.port}\n"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    # These share a frame; the third, before them, has its own.
    (root / "read").write_bytes(os.urandom(1000))
    (root / "read-beside").write_bytes(os.urandom(1000))
    # More than a reading of another file brings along.
    (root / "large").write_bytes(os.urandom(6_000_000))
    return root


@pytest.fixture
def web(tree: Path, tmp_path: Path) -> Iterator[Web]:
    pushed(tree, tmp_path / "store")
    web = Web(tmp_path / "store")
    web.start()
    try:
        yield web
    finally:
        web.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def problem(place: Path) -> str:
    [found] = [mount for mount in mounts() if mount.path == place]
    return found.problem


def test_what_is_cached_is_served_and_the_rest_fails_at_the_deadline_until_the_store_is_back(
    web: Web, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place, address = tmp_path / "mount", f"http://127.0.0.1:{web.port}#main"
    # Longer than the store, once it is back, and this machine may keep a reader waiting.
    with mounted(address, place, cache_dir, prefetch=False, deadline_s=12) as started:
        assert shell(f"cmp {place}/read {tree}/read").returncode == 0
        web.stop()
        assert shell(f"cmp {place}/read-beside {tree}/read-beside").returncode == 0
        assert "Input/output error" in shell(f"cat {place}/large").stderr
        until(lambda: f"127.0.0.1:{web.port}" in problem(place))
        assert f"127.0.0.1:{web.port}" in started.log.read_text()
        web.start()
        assert shell(f"cmp {place}/large {tree}/large").returncode == 0
        until(lambda: not problem(place))


def test_a_reader_waits_for_a_store_that_is_away_and_gets_right_bytes(
    web: Web, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place, address = tmp_path / "mount", f"http://127.0.0.1:{web.port}#main"
    with mounted(address, place, cache_dir, prefetch=False):
        assert shell(f"cmp {place}/read {tree}/read").returncode == 0
        web.stop()
        with subprocess.Popen(["cmp", place / "large", tree / "large"]) as reader:
            until(lambda: bool(problem(place)))
            assert reader.poll() is None
            web.start()
            assert reader.wait(PATIENCE_S) == 0


def test_a_store_that_never_answers_is_an_error_at_the_deadline(
    web: Web, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place, address = tmp_path / "mount", f"http://127.0.0.1:{web.port}#main"
    with mounted(address, place, cache_dir, prefetch=False, deadline_s=5) as started:
        assert shell(f"cmp {place}/read {tree}/read").returncode == 0
        web.stop()
        with socket.create_server(("127.0.0.1", web.port)):
            assert "Input/output error" in shell(f"cat {place}/large").stderr
        assert "nothing came within 5 s" in started.log.read_text()


def test_the_command_shows_what_is_wrong(web: Web, tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    (tmp_path / "mnt").mkdir()
    url = f"http://127.0.0.1:{web.port}"
    sapwood.good("mount", "--no-prefetch", "--deadline", "1", f"{url}#main", "mnt")
    try:
        web.stop()
        assert "Input/output error" in shell(f"cat {tmp_path}/mnt/large {tmp_path}/mnt/read").stderr

        def shown() -> str:
            found = sapwood.good("mounts", "--json").document
            return str(next(mount["problem"] for mount in found if mount["path"] == f"{tmp_path}/mnt"))

        until(lambda: url in shown())
        [line] = [line for line in sapwood.good("mounts").out.splitlines() if line.startswith(f"{tmp_path}/mnt ")]
        assert line.startswith(f"{tmp_path}/mnt  {url}#main  (")
    finally:
        sapwood.good("umount", "mnt")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_deadline_is_a_time(seconds: str, tmp_path: Path) -> None:
    said = Sapwood(tmp_path)("mount", "--deadline", seconds, "main", "mnt")
    assert said.code == 2
    assert "--deadline" in said.err


def test_a_store_on_a_mount_is_served_though_both_servers_are_killed(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    (tmp_path / "outer").mkdir()
    pushed(tree, tmp_path / "outer" / "store")
    outer = pushed(tmp_path / "outer", tmp_path / "outer-store")
    below, place = tmp_path / "below", tmp_path / "mount"
    with (
        mounted(outer, below, cache_dir / "one", prefetch=False) as one,
        mounted(f"{below}/store#main", place, cache_dir / "two", prefetch=False) as two,
    ):
        for started in (one, two):
            shell(f"pkill -KILL -P {started.pid}")
        assert shell(f"diff -r {tree} {place} && echo same").stdout == "same\n"


def test_a_cache_on_a_mount_is_refused(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, below = pushed(tree, tmp_path / "store"), tmp_path / "below"
    with (
        mounted(address, below, cache_dir),
        pytest.raises(SapwoodError, match="Read-only file system"),
        mounted(address, tmp_path / "mount", below / "cache"),
    ):
        pass
