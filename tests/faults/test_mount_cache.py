"""What others do to the cache of a live mount: nobody reads a wrong byte, and what was spoiled is fetched again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sapwood.mount import mounts, unmount
from tests.support.mounting import mounted, pushed, shell

LARGE = 6_000_000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(8):
        (root / f"small-{number}").write_bytes(os.urandom(5000))
    (root / "large").write_bytes(os.urandom(LARGE))
    return root


def files(cache: Path, *rooms: str) -> list[Path]:
    return [path for room in rooms for path in (cache / room).rglob("*") if path.is_file()]


def each(cache: Path, harm: Callable[[Path], None]) -> None:
    """Do it to each file that stays: a server goes on, and what is complete leaves `partial`."""
    for path in files(cache, "objects", "partial"):
        with contextlib.suppress(FileNotFoundError):
            harm(path)


def flip(cache: Path, where: float) -> None:
    def one(path: Path) -> None:
        path.chmod(0o600)
        with path.open("r+b") as file:
            at = int((path.stat().st_size - 1) * where)
            byte = os.pread(file.fileno(), 1, at)
            os.pwrite(file.fileno(), bytes([byte[0] ^ 1]), at)

    each(cache, one)


def cut(cache: Path) -> None:
    each(cache, lambda path: os.truncate(path, path.stat().st_size // 3))


def empty(cache: Path) -> None:
    each(cache, Path.unlink)


def remove(cache: Path) -> None:
    # What a server is just writing gets into directories that are already empty.
    while cache.exists():
        with contextlib.suppress(OSError):
            shutil.rmtree(cache)


HARMS: dict[str, Callable[[Path], None]] = {
    "the first byte": lambda cache: flip(cache, 0),
    "a byte in the midst": lambda cache: flip(cache, 0.5),
    "the last byte": lambda cache: flip(cache, 1),
    "cut": cut,
    "objects removed": empty,
    "all of it removed": remove,
}


@pytest.mark.parametrize("whole", [True, False], ids=["objects", "partials"])
@pytest.mark.parametrize("harm", HARMS)
def test_harm_to_what_is_open_is_found_before_it_is_read(
    harm: str, whole: bool, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    if whole:
        with mounted(address, tmp_path / "before", cache_dir, prefetch=False):
            assert shell(f"cat {tmp_path}/before/* > /dev/null").returncode == 0
    with mounted(address, place, cache_dir, prefetch=False):
        # From here on it is open, and the rest not in the page cache of the kernel.
        assert shell(f"dd if={place}/large bs=4096 count=1 iflag=direct status=none | wc -c").stdout.strip() == "4096"
        HARMS[harm](cache_dir)
        assert shell(f"diff -r {tree} {place} && echo same").stdout == "same\n"
    with mounted(address, tmp_path / "after", cache_dir, prefetch=False):
        assert shell(f"diff -r {tree} {tmp_path}/after && echo same").stdout == "same\n"


def test_a_cache_that_was_removed_is_made_again(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with mounted(address, place, cache_dir, prefetch=False):
        assert shell(f"cat {place}/small-0 > /dev/null").returncode == 0
        remove(cache_dir)
        assert shell(f"diff -r {tree} {place} && echo same").stdout == "same\n"
        assert files(cache_dir, "objects")
        unmount(place, cache_dir=cache_dir)


def test_mounts_and_a_pull_share_a_cache_though_one_is_killed(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    from sapwood import open_store

    address = pushed(tree, tmp_path / "store")
    places = [tmp_path / name for name in ("one", "two")]
    with mounted(address, places[0], cache_dir), mounted(address, places[1], cache_dir):
        readers = [
            subprocess.Popen(["diff", "-r", tree, place], stdout=subprocess.PIPE) for place in places for _ in range(2)
        ]
        [server] = [mount.server for mount in mounts() if mount.path == places[0]]
        os.kill(server, signal.SIGKILL)
        open_store(str(tmp_path / "store")).pull("main", tmp_path / "pulled")
        assert [reader.communicate(timeout=100)[0] for reader in readers] == [b""] * 4
        assert [reader.returncode for reader in readers] == [0] * 4
    assert shell(f"diff -r {tree} {tmp_path}/pulled && echo same").stdout == "same\n"
