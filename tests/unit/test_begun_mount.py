"""The processes of a mount that are begun early: told nothing, they end, and nothing was mounted."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import InvalidInputError, NotFoundError, UnavailableError
from sapwood.mount import process
from sapwood.mount.begun import Begun, begin
from tests.support.faultyproxy import Proxy, proxying
from tests.support.mounting import is_mounted, pushed
from tests.support.webserver import serving

PATIENCE_S = 60
# Begins a mount, says of which holder, and waits to be killed.
BEGIN = """
import sys
from sapwood.mount.begun import begin

begun = begin(tied=True)
print(begun.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    path.mkdir()
    (path / "hello").write_text("hello\n")
    return path


def ended(pidfd: int) -> bool:
    """Wait until a process has ended."""
    return bool(select.select([pidfd], [], [], PATIENCE_S)[0])


def session_ended(pid: int) -> bool:
    """Wait until holder and server are no more; one that was killed is gone when whoever inherited it has seen that."""
    until = time.monotonic() + PATIENCE_S
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(pid, 0)
        return False
    return True


def test_what_is_told_nothing_ends_with_the_block() -> None:
    with begin(tied=True) as begun:
        pid = begun.process.pid
    assert begun.process.returncode is not None
    assert session_ended(pid)


def test_what_is_told_nothing_ends_with_who_began_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout
        holder = os.pidfd_open(int(starter.stdout.readline()))
        starter.kill()
    assert ended(holder)
    os.close(holder)


def test_a_mount_that_is_refused_before_it_is_told_leaves_nothing(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    first = process.start(address, place, cache_dir=cache_dir)
    with begin(tied=False) as begun, pytest.raises(InvalidInputError):
        process.start(address, place, cache_dir=cache_dir, begun=begun)
    assert begun.process.returncode is not None
    assert is_mounted(place)
    first.end()


def test_what_was_begun_serves_what_it_is_told(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    with begin(tied=True) as begun:
        started = process.start(address, place, cache_dir=cache_dir, tied=True, begun=begun)
    assert (place / "hello").read_text() == "hello\n"
    started.end()
    assert not is_mounted(place)


@pytest.fixture
def web(tree: Path, tmp_path: Path) -> Iterator[Proxy]:
    """A store on a server, where `main` is a tree and `other` another one."""
    store = tmp_path / "store"
    pushed(tree, store)
    (tree / "hello").write_text("another\n")
    open_store(str(store)).push(tree, "other")
    with serving(store) as url, proxying(url) as proxy:
        yield proxy


def asked_for(web: Proxy, what: str) -> int:
    return sum(f"/{what}" in seen for seen in web.seen)


def test_a_store_is_asked_ahead_and_not_again(web: Proxy, tmp_path: Path, cache_dir: Path) -> None:
    address, place = f"{web.url}#main", tmp_path / "mount"
    place.mkdir()
    with begin(tied=True, ahead=address) as begun:
        until = time.monotonic() + PATIENCE_S
        while not asked_for(web, "maps/"):  # and it was told nothing yet
            assert time.monotonic() < until
        started = process.start(address, place, cache_dir=cache_dir, tied=True, begun=begun)
    assert (place / "hello").read_text() == "hello\n"
    started.end()
    assert [asked_for(web, what) for what in ("sapwood.json", "refs/main.ref", "snapshots/", "maps/")] == [1, 1, 1, 1]


def test_what_was_asked_ahead_counts_for_no_other_address(web: Proxy, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    place.mkdir()
    with begin(tied=True, ahead=f"{web.url}#main") as begun:
        started = process.start(f"{web.url}#other", place, cache_dir=cache_dir, tied=True, begun=begun)
    assert (place / "hello").read_text() == "another\n"
    started.end()


def test_what_was_asked_ahead_in_vain_says_what_is_wrong(web: Proxy, tmp_path: Path, cache_dir: Path) -> None:
    address, place = f"{web.url}#not", tmp_path / "mount"
    place.mkdir()
    with begin(tied=True, ahead=address) as begun, pytest.raises(NotFoundError) as refused:
        process.start(address, place, cache_dir=cache_dir, tied=True, begun=begun)
    assert (refused.value.kind, asked_for(web, "refs/not.ref")) == ("ref-missing", 1)


def test_what_was_begun_says_what_is_wrong(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    with begin(tied=True) as begun, pytest.raises(NotFoundError) as refused:
        process.start(f"{address}-not", place, cache_dir=cache_dir, tied=True, begun=begun)
    assert refused.value.kind == "ref-missing"
    assert not is_mounted(place)


def test_a_server_that_cannot_start_says_why_in_the_log_only(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken" / "sapwood"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('half installed')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    place = tmp_path / "mount"
    place.mkdir()
    with begin(tied=True) as begun, pytest.raises(UnavailableError) as died:
        process.start(str(tmp_path / "store#main"), place, cache_dir=cache_dir, tied=True, begun=begun)
    assert (died.value.kind, str(died.value).endswith(": ImportError: half installed")) == ("mount-died", True)
    assert capfd.readouterr() == ("", "")


def test_ctrl_c_while_it_is_told_leaves_nothing(
    tree: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    tell = Begun.tell

    def before(*_: object) -> None:
        raise KeyboardInterrupt

    def behind(begun: Begun, log: str | None, call: str) -> None:
        tell(begun, log, call)
        raise KeyboardInterrupt

    for stopped in (before, behind):
        monkeypatch.setattr(Begun, "tell", stopped)
        # Not what it is for to end with its starter, which goes on.
        with begin(tied=False) as begun, pytest.raises(KeyboardInterrupt):
            process.start(address, place, cache_dir=cache_dir, begun=begun)
        assert begun.process.returncode is not None
        assert session_ended(begun.process.pid)
        assert not is_mounted(place)
