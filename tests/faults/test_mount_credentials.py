"""Credentials that run out under a live mount: readers wait for the next, which are found where the first were."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.mount import mounts
from tests.support import peers
from tests.support.mounting import mounted, shell

OLD, NEW = ("key-of-before", "secret-of-before"), ("key-of-after", "secret-of-after")
VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
PATIENCE_S = 100


class Server:
    """versitygw over one directory at one port, which knows one pair of keys at a time."""

    def __init__(self, data: Path, home: Path) -> None:
        self._data, self._home = data, home
        self._running = ExitStack()
        self.port = peers.free_port()

    def trust(self, keys: tuple[str, str]) -> None:
        """From now on know these keys only."""
        self._running.close()
        self._running.enter_context(peers.versitygw(self._data, port=self.port, keys=keys))

    def hand_out(self, keys: tuple[str, str]) -> None:
        """Let the user have these keys, as a tool that renews them does: by a new file in place of the old."""
        new = self._home / "credentials.new"
        new.write_text(f"[default]\naws_access_key_id = {keys[0]}\naws_secret_access_key = {keys[1]}\n")
        new.rename(self._home / "credentials")

    def close(self) -> None:
        self._running.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("one", "two"):
        # So large that the reading of one brings nothing of the other.
        (root / name).write_bytes(os.urandom(6_000_000))
    return root


@pytest.fixture
def server(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    home, data = tmp_path / ".aws", tmp_path / "data"
    home.mkdir()
    (data / "bucket").mkdir(parents=True)
    server = Server(data, home)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    try:
        server.hand_out(OLD)
        server.trust(OLD)
        open_store("s3://bucket/store", create=True).push(tree, "main")
        yield server
    finally:
        server.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def problem(place: Path) -> str:
    [found] = [mount for mount in mounts() if mount.path == place]
    return found.problem


def test_new_credentials_are_found_when_the_old_are_refused(
    server: Server, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with mounted("s3://bucket/store#main", place, cache_dir, prefetch=False) as started:
        assert shell(f"cmp {place}/one {tree}/one").returncode == 0
        server.trust(NEW)
        server.hand_out(NEW)
        assert shell(f"cmp {place}/two {tree}/two").returncode == 0
        assert started.log.read_text() == ""


def test_a_reader_waits_for_credentials_that_come_late(
    server: Server, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with mounted("s3://bucket/store#main", place, cache_dir, prefetch=False):
        assert shell(f"cmp {place}/one {tree}/one").returncode == 0
        server.trust(NEW)
        with subprocess.Popen(["cmp", place / "two", tree / "two"]) as reader:
            until(lambda: bool(problem(place)))
            assert reader.poll() is None
            server.hand_out(NEW)
            assert reader.wait(PATIENCE_S) == 0
        until(lambda: not problem(place))


def test_credentials_that_never_come_are_an_error_at_the_deadline_and_later_reads_work(
    server: Server, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with mounted("s3://bucket/store#main", place, cache_dir, prefetch=False, deadline_s=12) as started:
        assert shell(f"cmp {place}/one {tree}/one").returncode == 0
        server.trust(NEW)
        assert "Input/output error" in shell(f"cat {place}/two > /dev/null").stderr
        assert "s3://bucket/store" in started.log.read_text()
        server.hand_out(NEW)
        assert shell(f"cmp {place}/two {tree}/two").returncode == 0
