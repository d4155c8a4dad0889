"""What goes wrong under a mount: never a wrong byte, never a hang, always a word."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.link import linked
from sapwood.errors import UnavailableError
from sapwood.mount import mounts, unmount
from tests.support.mounting import is_mounted, mounted, pushed, shell, stat_under_signals
from tests.support.webserver import serving

SAPWOOD = Path(sys.executable).with_name("sapwood")
CONTENT = os.urandom(300_000)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "one").write_bytes(CONTENT)
    (root / "two").write_bytes(CONTENT[::-1])
    return root


def content_pack(store: Path) -> Path:
    """The pack of contents: pages of file maps are much smaller."""
    return max((store / "packs").iterdir(), key=lambda pack: pack.stat().st_size)


@contextmanager
def slow(store: Path) -> Iterator[str]:
    """The address of a store behind a link that brings 30 kB a second: a read of 300 kB waits for ten seconds."""
    with serving(store) as url, linked(int(url.rpartition(":")[2]), rtt_ms=1, mbit=0.25) as link:
        yield f"{link.url}#main"


@contextmanager
def waiting(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A reader of `path` that waits in the kernel."""
    with subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.3)
        yield reader


def is_stopped(server: int) -> bool:
    """Whether all its threads are: they hear of it one after the other."""
    threads = Path(f"/proc/{server}/task").glob("*/stat")
    try:
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)
    except (FileNotFoundError, ProcessLookupError):  # one has ended meanwhile
        return False


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_damaged_pack_is_an_error_and_not_wrong_bytes(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    address = pushed(tree, store)
    pack = content_pack(store)
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1  # in the first frame, that of the first file
    pack.chmod(0o644)
    pack.write_bytes(data)
    with mounted(address, place, cache_dir, prefetch=False) as server:
        found = [shell(f"cmp {place}/{name} {tree}/{name}") for name in ("one", "two")]
        assert sorted(done.returncode for done in found) == [0, 2]
        assert "Input/output error" in "".join(done.stderr for done in found)
        assert f"{store}: packs/{pack.name} at " in server.log.read_text()


def test_a_damaged_page_is_an_error_of_the_directory(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    address = pushed(tree, store)
    page = min((store / "packs").iterdir(), key=lambda pack: pack.stat().st_size)
    data = bytearray(page.read_bytes())
    data[20:200] = bytes(180)
    page.chmod(0o644)
    page.write_bytes(data)
    with mounted(address, place, cache_dir):
        done = shell(f"ls {place}")
    assert "Input/output error" in done.stderr


def test_a_missing_pack_is_an_error_and_its_return_the_cure(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    address = pushed(tree, store)
    pack = content_pack(store)
    away = tmp_path / "away"
    with mounted(address, place, cache_dir, prefetch=False) as server:
        pack.rename(away)
        assert "Input/output error" in shell(f"cat {place}/one").stderr
        assert "pack" in server.log.read_text()
        away.rename(pack)
        assert shell(f"cmp {place}/one {tree}/one").returncode == 0


def test_a_damaged_object_of_the_cache_is_fetched_again(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address = pushed(tree, tmp_path / "store")
    with mounted(address, tmp_path / "first", cache_dir):
        assert shell(f"cat {tmp_path}/first/one {tmp_path}/first/two > /dev/null").returncode == 0
    objects = [path for path in (cache_dir / "objects").rglob("*") if path.is_file()]
    assert len(objects) >= 2
    for path in objects:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x40
        path.chmod(0o644)
        path.write_bytes(data)
    with mounted(address, tmp_path / "second", cache_dir):
        assert shell(f"diff -r {tree} {tmp_path}/second && echo same").stdout == "same\n"


def test_an_interrupted_reader_does_not_wait_for_a_silent_store(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    pushed(tree, store)
    with slow(store) as address, mounted(address, place, cache_dir, prefetch=False):
        assert shell(f"ls {place}").stdout == "one\ntwo\n"
        with waiting(place / "one") as reader:
            reader.send_signal(signal.SIGINT)
            assert reader.wait(60) == -signal.SIGINT


def test_a_reader_that_survives_its_signals_gets_what_it_waits_for(tmp_path: Path, cache_dir: Path) -> None:
    tree, store, place = tmp_path / "tree", tmp_path / "store", tmp_path / "mount"
    tree.mkdir()
    # Their page takes ten seconds.
    names = [secrets.token_hex(100) for _ in range(3000)]
    for name in names:
        (tree / name).write_bytes(b"there")
    pushed(tree, store)
    with slow(store) as address, mounted(address, place, cache_dir):
        assert stat_under_signals(place / max(names)) == "5, signalled\n"


def test_a_mount_that_is_taken_away_from_a_waiting_reader_frees_it(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    pushed(tree, store)
    with slow(store) as address, mounted(address, place, cache_dir, prefetch=False) as server:
        assert shell(f"ls {place}").returncode == 0
        with waiting(place / "one") as reader:
            server.process.send_signal(signal.SIGTERM)
            assert reader.wait(60) != 0
        server.process.wait(60)
        assert not is_mounted(place)


def test_run_ends_with_its_command_though_something_still_uses_the_mount(tree: Path, tmp_path: Path) -> None:
    script = 'cd "$SAPWOOD_ROOT" && { sleep 100 > /dev/null 2>&1 & echo $!; } && exit 3'
    done = subprocess.run(
        [SAPWOOD, "run", pushed(tree, tmp_path / "store"), "--", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=90,  # the sleep lasts longer
        check=False,
    )
    os.kill(int(done.stdout), signal.SIGKILL)
    assert (done.returncode, done.stderr) == (3, "")


def test_run_gives_the_code_of_a_command_that_unmounted_its_own_tree(tree: Path, tmp_path: Path) -> None:
    command = [SAPWOOD, "run", pushed(tree, tmp_path / "store"), "--", "sh", "-c", f"{SAPWOOD} umount {{}}; exit 5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (5, "")


def test_a_mount_in_use_is_unmounted_only_lazily(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    with mounted(pushed(tree, tmp_path / "store"), place, cache_dir):
        with subprocess.Popen(["sleep", "100"], cwd=place) as user:
            refused = subprocess.run(
                [SAPWOOD, "umount", place], capture_output=True, text=True, timeout=100, check=False
            )
            assert refused.returncode == 6
            assert refused.stderr.startswith(f"sapwood: {place}: is in use by sleep ({user.pid})\nhint: ")
            assert f"sapwood umount --lazy {place}" in refused.stderr
            with pytest.raises(UnavailableError) as busy:
                unmount(place)
            assert busy.value.kind == "mount-busy"
            subprocess.run([SAPWOOD, "umount", "--lazy", place], check=True, timeout=100)
            user.kill()
        assert not is_mounted(place)


def test_who_only_asks_about_a_mount_does_not_make_it_busy(
    tree: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who is answered may take his time on a busy machine.
    monkeypatch.setattr("sapwood.mount.table._ASKED_ABOUT_S", 60.0)
    place = tmp_path / "mount"
    with mounted(pushed(tree, tmp_path / "store"), place, cache_dir):
        [found] = [mount for mount in mounts() if mount.path == place]
        os.kill(found.server, signal.SIGSTOP)
        try:
            until(lambda: is_stopped(found.server))
            # It has nothing of the mount open, but the kernel waits with it for an answer.
            with subprocess.Popen(["stat", "-f", place], stdout=subprocess.DEVNULL) as asking:
                until(lambda: "request" in Path(f"/proc/{asking.pid}/wchan").read_text())
                answering = threading.Timer(0.3, os.kill, (found.server, signal.SIGCONT))
                answering.start()
                unmount(place)
                answering.join()
        finally:
            with suppress(ProcessLookupError):  # it ended
                os.kill(found.server, signal.SIGCONT)
        assert not is_mounted(place)
