"""How much of a mount is here while others fill and empty its cache: what is said comes true, and what went returns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sapwood.mount import Mount, mounts
from tests.support.mounting import mounted, pushed, shell

PATIENCE_S = 100
FILES = 6
SIZE = 400_000


def grown(root: Path) -> Path:
    root.mkdir()
    for number in range(FILES):
        (root / f"file-{number}").write_bytes(os.urandom(SIZE))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return grown(tmp_path / "tree")


def mount_at(place: Path) -> Mount:
    [found] = [mount for mount in mounts() if mount.path == place]
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lose_one(cache: Path) -> Path:
    """Remove a file, as another mount of this cache does when it has no room, and return where it was."""
    one = next(path for path in (cache / "objects").rglob("*") if path.is_file() and path.stat().st_size == SIZE)
    one.unlink()
    return one


def test_what_another_mount_brings_and_takes_is_seen(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with mounted(address, place, cache_dir, prefetch=False):
        assert shell(f"find {place}").returncode == 0
        until(lambda: mount_at(place).lacking == FILES * SIZE)
        with mounted(address, tmp_path / "other", cache_dir):
            until(lambda: mount_at(place).lacking == 0)
        lose_one(cache_dir)
        until(lambda: mount_at(place).lacking == SIZE)


def test_what_the_cache_has_lost_of_a_tree_that_is_to_be_here_comes_again(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with mounted(address, place, cache_dir):
        until(lambda: mount_at(place).lacking == 0)
        # That it lacks is said for half a second, or not at all.
        until(lose_one(cache_dir).exists)
        until(lambda: mount_at(place).lacking == 0)


def test_a_tree_that_fits_the_cache_is_all_here_though_another_must_go_for_it(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    first = pushed(tree, tmp_path / "store")
    second = pushed(grown(tmp_path / "second"), tmp_path / "store-2")
    with mounted(first, tmp_path / "one", cache_dir):
        until(lambda: mount_at(tmp_path / "one").lacking == 0)
    for path in (cache_dir / "objects").rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    with mounted(second, tmp_path / "two", cache_dir, cache_size=FILES * SIZE + SIZE):
        until(lambda: mount_at(tmp_path / "two").lacking == 0)
        assert mount_at(tmp_path / "two").whole
    with mounted(first, tmp_path / "three", cache_dir, prefetch=False):
        assert shell(f"find {tmp_path}/three").returncode == 0
        until(lambda: bool(mount_at(tmp_path / "three").lacking))
