"""Passthrough: of a tree of large files, what is complete is read by the kernel, past the server."""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sapwood.mount import mounts
from sapwood.mount.process import Started
from sapwood.mount.table import record_path
from tests.support.mounting import mounted, pushed, shell

SIZE = 5_000_001
# Opens the file once more for each line, and says what it reads by each handle that it has.
_OPENER = """
import hashlib, mmap, os, sys
files = []
for _ in sys.stdin:
    files.append(os.open(sys.argv[1], os.O_RDONLY))
    sums = {hashlib.sha256(os.pread(file, 1 << 30, 0)).hexdigest() for file in files}
    sums |= {hashlib.sha256(mmap.mmap(file, 0, prot=mmap.PROT_READ)).hexdigest() for file in files}
    print(len(files), *sums, flush=True)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("one", "two"):
        (root / name).write_bytes(os.urandom(SIZE))
    (root / "small").write_text("small")
    return root


@contextmanager
def mount_of(tree: Path, tmp_path: Path, cache_dir: Path, **options: object) -> Iterator[tuple[Path, Started]]:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with mounted(address, place, cache_dir, prefetch=False, **options) as started:
        yield place, started


def server_of(place: Path, cache_dir: Path) -> int:
    return next(mount.server for mount in mounts(cache_dir) if mount.path == place)


def kill_and_await_the_next(place: Path, cache_dir: Path) -> None:
    server = server_of(place, cache_dir)
    os.kill(server, signal.SIGKILL)
    assert shell(f"stat -f {place}").returncode == 0
    assert server_of(place, cache_dir) != server


class Opener:
    """A program that opens a file again and again, and keeps it open."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OPENER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.opened = 0

    def opens(self) -> str:
        """Open it once more; the one digest that all handles give."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.opened += 1
        number, *sums = self.process.stdout.readline().split()
        assert int(number) == self.opened
        [found] = sums
        return found

    def close(self) -> None:
        self.process.communicate(timeout=100)
        assert self.process.returncode == 0


def await_closed(place: Path, cache_dir: Path) -> None:
    """Wait until the server has heard that every file was closed, of which the kernel tells it behind everybody."""
    record = record_path(cache_dir, place)
    while any(count for *_, count in struct.iter_unpack("=QII", record.read_bytes()[16:])):
        os.sched_yield()


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Holds a file open, lets the kernel forget its bytes while the server is stopped, and reads it all the same.
_READER = """
import hashlib, os, signal, sys
file = os.open(sys.argv[1], os.O_RDONLY)
os.kill(int(sys.argv[2]), signal.SIGSTOP)
try:
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    print(hashlib.sha256(os.pread(file, 1 << 30, 0)).hexdigest())
finally:
    os.kill(int(sys.argv[2]), signal.SIGCONT)
"""


def test_a_complete_file_is_read_while_the_server_is_stopped(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    with mount_of(tree, tmp_path, cache_dir) as (place, _):
        assert shell(f"cmp {place}/one {tree}/one").returncode == 0
        # Else the next open is as this one is: served.
        await_closed(place, cache_dir)
        reader = [sys.executable, "-c", _READER, place / "one", str(server_of(place, cache_dir))]
        assert subprocess.check_output(reader, text=True, timeout=100).strip() == sum_of(tree / "one")


def test_all_opens_of_a_file_at_a_time_are_alike_though_it_is_complete_meanwhile(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    with mount_of(tree, tmp_path, cache_dir) as (place, _):
        early, late = Opener(place / "one"), Opener(place / "one")
        expected = sum_of(tree / "one")
        # The first open is served, for nothing was here; the kernel would refuse another one that is passed through.
        assert [early.opens(), late.opens(), early.opens()] == [expected] * 3
        early.close()
        assert late.opens() == expected
        late.close()
        again, other = Opener(place / "one"), Opener(place / "one")
        assert [again.opens(), other.opens()] == [expected] * 2
        again.close()
        assert other.opens() == expected
        other.close()


@pytest.mark.parametrize("complete", [False, True])
def test_what_is_open_stays_so_when_servers_die(complete: bool, tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    expected = sum_of(tree / "one")
    with mount_of(tree, tmp_path, cache_dir) as (place, started):
        if complete:
            assert shell(f"cat {place}/one >/dev/null").returncode == 0
        opener = Opener(place / "one")
        assert opener.opens() == expected
        for _ in range(3):
            kill_and_await_the_next(place, cache_dir)
            other = Opener(place / "one")
            assert [other.opens(), opener.opens()] == [expected] * 2
            other.close()
        opener.close()
        kill_and_await_the_next(place, cache_dir)
        assert shell(f"cmp {place}/one {tree}/one && cmp {place}/two {tree}/two").returncode == 0
        assert started.process.poll() is None


def test_a_file_that_is_open_is_read_on_when_the_cache_gives_it_up(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    expected = sum_of(tree / "one")
    with mount_of(tree, tmp_path, cache_dir, cache_size=SIZE) as (place, _):
        assert shell(f"cat {place}/one >/dev/null").returncode == 0
        opener = Opener(place / "one")
        assert opener.opens() == expected
        for name in ("objects", "proved"):
            shell(f"find {cache_dir}/{name} -type f -delete")
        assert opener.opens() == expected
        assert shell(f"cmp {place}/two {tree}/two && cmp {place}/one {tree}/one").returncode == 0
        opener.close()
        assert shell(f"cmp {place}/one {tree}/one").returncode == 0


def test_what_was_fetched_by_an_earlier_mount_is_proved_before_it_is_passed_through(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    with mount_of(tree, tmp_path, cache_dir) as (place, _):
        assert shell(f"cmp {place}/one {tree}/one").returncode == 0
    [damaged] = [path for path in cache_dir.glob("objects/*/*") if path.stat().st_size == SIZE]
    with damaged.open("r+b") as file:
        file.seek(SIZE - 1)
        file.write(bytes([(tree / "one").read_bytes()[-1] ^ 1]))
    place = tmp_path / "again"
    with mounted(f"{tmp_path / 'store'}#main", place, cache_dir, prefetch=False):
        for _ in range(3):
            assert shell(f"cmp {place}/one {tree}/one").returncode == 0


@pytest.mark.parametrize(
    ("options", "passed"), [({}, True), ({"passthrough": False}, False), ({"tier": "native"}, False)]
)
def test_only_trees_of_large_files_are_opened_file_by_file(
    options: dict[str, object], passed: bool, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    with mount_of(tree, tmp_path, cache_dir, **options) as (place, _):
        assert shell(f"cat {place}/one >/dev/null").returncode == 0
        assert record_path(cache_dir, place).exists() is passed


def test_a_tree_of_small_files_is_read_without_opening(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    for number in range(20):
        (tree / str(number)).touch()
    with mount_of(tree, tmp_path, cache_dir) as (place, _):
        assert shell(f"cmp {place}/one {tree}/one").returncode == 0
        assert not record_path(cache_dir, place).exists()
