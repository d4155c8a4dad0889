"""A mount whose cache lies on a full disk: what it fetches is read, its server lives, and another one can take over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sapwood.errors import UnavailableError
from sapwood.mount import Mount, mounts, process, restart
from tests.support.mounting import is_mounted, mounted, pushed, shell
from tests.support.smalldisk import fill, small_disk, writable

PATIENCE_S = 100
FILES = 6


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(FILES):
        (root / f"file-{number}").write_bytes(os.urandom(400_000))
    return root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 24 << 20) as disk:
        yield disk


def mount_at(place: Path) -> Mount:
    [found] = [mount for mount in mounts(place.parent / "disk" / "cache") if mount.path == place]
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def same(tree: Path, place: Path) -> bool:
    return shell(f"diff -r {tree} {place} && echo same").stdout == "same\n"


def test_a_server_whose_disk_is_full_serves_on_and_notes_later_what_it_could_not(
    tree: Path, tmp_path: Path, disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address, place, cache = pushed(tree, tmp_path / "store"), tmp_path / "mount", disk / "cache"
    with mounted(address, place, cache, prefetch=False, talking=True):
        server = mount_at(place).server
        fill(disk)
        assert same(tree, place)
        until(lambda: "No space left" in capfd.readouterr().err)
        assert mount_at(place).server == server
        [note] = (cache / "mounts").glob("*.json")
        before = note.stat().st_mtime_ns
        writable(disk)
        until(lambda: note.stat().st_mtime_ns != before)
        assert same(tree, place)
        assert mount_at(place).server == server


def test_a_server_that_is_killed_on_a_full_disk_has_a_successor(tree: Path, tmp_path: Path, disk: Path) -> None:
    address, place, cache = pushed(tree, tmp_path / "store"), tmp_path / "mount", disk / "cache"
    with mounted(address, place, cache, prefetch=False) as started:
        first = mount_at(place).server
        assert shell(f"cmp {place}/file-0 {tree}/file-0").returncode == 0
        fill(disk)
        os.kill(first, signal.SIGKILL)
        assert same(tree, place)
        assert started.process.poll() is None
        writable(disk)
        until(lambda: mount_at(place).server != first)
        assert same(tree, place)
    assert not is_mounted(place)


def test_a_mount_that_a_full_disk_keeps_from_being_made_leaves_none(
    tree: Path, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = process.Started.end

    def ended(started: process.Started) -> None:
        started.process.wait(PATIENCE_S)  # by itself: who is asked to end takes the mount along
        end(started)

    monkeypatch.setattr(process.Started, "end", ended)
    address, place, cache = pushed(tree, tmp_path / "store"), tmp_path / "mount", disk / "cache"
    with mounted(address, tmp_path / "before", cache, prefetch=False):
        assert same(tree, tmp_path / "before")
    fill(disk)
    # What is open of it could not be written down for a successor.
    with pytest.raises(UnavailableError) as full, mounted(address, place, cache, passthrough=True):
        pass
    assert full.value.kind == "disk-full"
    assert not is_mounted(place)
    writable(disk)
    place.rmdir()
    with mounted(address, place, cache, passthrough=True):
        assert same(tree, place)


def test_a_restart_on_a_full_disk_ends(tree: Path, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, place, cache = pushed(tree, tmp_path / "store"), tmp_path / "mount", disk / "cache"
    monkeypatch.setenv("SAPWOOD_CACHE", str(cache))
    with mounted(address, place, cache, prefetch=False):
        fill(disk)
        restart(mount_at(place))
        assert same(tree, place)
