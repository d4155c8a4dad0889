"""The walker of a mount brings names before they are asked for, holds up nobody, and is missed by nobody."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sapwood.mount import mounts
from tests.faults.test_killed_mount import gone, kill, mount_at, until_served
from tests.support.kernelcaches import dropped, kept
from tests.support.mounting import is_mounted, mounted, pushed, shell

DIRECTORIES = 40
FILES = 30

# Whether the kernel knows all of these names, which asks nobody: openat2 with RESOLVE_CACHED and O_PATH.
KNOWN = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
how = (ctypes.c_uint64 * 3)(os.O_PATH, 0, 0x20)
sys.exit(any(libc.syscall(437, -100, os.fsencode(path), how, 24) < 0 for path in sys.argv[1:]))
"""


@pytest.fixture
def address(tmp_path: Path) -> str:
    tree = tmp_path / "tree"
    for number in range(DIRECTORIES):
        directory = tree / f"d{number:02}"
        directory.mkdir(parents=True)
        for file in range(FILES):
            (directory / f"f{file:02}").touch()
    return pushed(tree, tmp_path / "store")


def files(place: Path, number: int) -> list[Path]:
    return [place / f"d{number:02}" / f"f{file:02}" for file in range(FILES)]


def look_up(place: Path, number: int) -> None:
    """Look up three names of a directory, by a program, for the mount may hang."""
    subprocess.run(["stat", *files(place, number)[:3]], check=True, capture_output=True, timeout=60)


def until(what: Callable[[], bool], started: subprocess.Popen[bytes]) -> None:
    while not what():
        assert started.poll() is None, "the watchdog ended it"
        time.sleep(0.01)


def until_whole(place: Path, started: subprocess.Popen[bytes]) -> None:
    """Wait until all pages of the file map are here: before, nothing is listed."""
    until(lambda: mount_at(place).lacking == 0, started)


def are_known(paths: list[Path]) -> bool:
    return subprocess.run([sys.executable, "-S", "-c", KNOWN, *paths], check=False, timeout=60).returncode == 0


def walkers(server: int) -> list[int]:
    found, children = set[int](), list[str]()
    ended = (FileNotFoundError, ProcessLookupError)  # meanwhile
    for task in Path(f"/proc/{server}/task").iterdir():
        with suppress(*ended):
            children += (task / "children").read_text().split()
    for child in children:
        with suppress(*ended):
            if "walker.py" in Path(f"/proc/{child}/cmdline").read_text():
                found.add(int(child))
    return list(found)


def held(process: int) -> list[str]:
    """What a process has open."""
    found = []
    for number in os.listdir(f"/proc/{process}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"/proc/{process}/fd/{number}"))
    return found


def test_names_are_known_before_they_are_asked_for(address: str, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    with kept(), mounted(address, place, cache_dir) as started:
        until_whole(place, started.process)
        look_up(place, 3)
        until(lambda: are_known(files(place, 3)), started.process)
        assert not are_known(files(place, 4))
        # Who goes on has all that follows brought.
        look_up(place, 4)
        following = [path for number in range(7, 15) for path in files(place, number)]
        until(lambda: are_known(following), started.process)
        assert not are_known(files(place, 2))
        [walker] = walkers(mount_at(place).server)

        def holds_nothing() -> bool:
            """Neither the mount nor its device."""
            paths = held(walker)
            return len(paths) == 3 and not [path for path in paths if "fuse" in path or str(place) in path]

        until(holds_nothing, started.process)
    assert gone(walker)


def test_a_walker_that_is_killed_is_followed_by_another(address: str, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    with kept(), mounted(address, place, cache_dir) as started:
        until_whole(place, started.process)
        dead = set()
        # Backwards, for who goes on has what follows listed.
        for number in (33, 23, 3):
            look_up(place, number)
            until(lambda of=number: are_known(files(place, of)), started.process)  # type: ignore[misc]
            [walker] = walkers(mount_at(place).server)
            kill(walker)
            dead.add(walker)
        assert len(dead) == 3


def test_a_walker_that_is_stopped_while_it_lists_keeps_nobody_from_unmounting(
    address: str, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with kept(), mounted(address, place, cache_dir) as started:
        until_whole(place, started.process)
        look_up(place, 3)
        until(lambda: are_known(files(place, 3)), started.process)
        [walker] = walkers(mount_at(place).server)
        os.kill(walker, signal.SIGSTOP)
        look_up(place, 13)
        # Another test may just ask about the mount; who lists it would keep it for a minute.
        deadline = time.monotonic() + 10
        while shell(f"umount {place}").returncode:
            assert time.monotonic() < deadline
        assert not is_mounted(place)
        # It has what it was to list, and the mount with that, for a minute were the mount still there.
        assert started.process.wait(30) == 0
        assert gone(walker)
    assert place not in [mount.path for mount in mounts()]


def test_a_walker_that_is_stopped_ends_with_a_server_that_is_killed(
    address: str, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with kept(), mounted(address, place, cache_dir) as started:
        until_whole(place, started.process)
        look_up(place, 3)
        until(lambda: are_known(files(place, 3)), started.process)
        server = mount_at(place).server
        [walker] = walkers(server)
        ended = os.pidfd_open(walker)
        os.kill(walker, signal.SIGSTOP)
        kill(server)
        assert select.select([ended], [], [], 30)[0]
        os.close(ended)
        until_served(place, server)


def test_a_server_that_is_killed_has_its_walker_followed_too(address: str, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    with dropped(), mounted(address, place, cache_dir) as started:
        until_whole(place, started.process)
        look_up(place, 3)
        until(lambda: are_known(files(place, 3)), started.process)
        server = mount_at(place).server
        [walker] = walkers(server)
        walk = subprocess.Popen(
            ["stat", *(path for number in range(DIRECTORIES) for path in files(place, number))],
            stdout=subprocess.DEVNULL,
        )
        kill(server)
        until_served(place, server)
        assert walk.wait(60) == 0
        assert gone(walker)
        until_whole(place, started.process)
        shell("echo 2 > /proc/sys/vm/drop_caches")
        for number in range(DIRECTORIES):
            look_up(place, number)
        until(lambda: any(are_known(files(place, number)) for number in range(DIRECTORIES)), started.process)
