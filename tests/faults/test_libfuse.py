"""What goes wrong under a mount by libfuse: the same as under the FUSE tier, but that nobody takes over."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.link import linked
from sapwood.errors import InvalidInputError, UnavailableError
from sapwood.mount import Mount, mounts, restart, unmount
from tests.support.mounting import is_mounted, mounted, pushed, shell, stat_under_signals
from tests.support.nobody import NOBODY, as_nobody, fuse_for_users, nobodys_directory
from tests.support.webserver import serving

SAPWOOD = Path(sys.executable).with_name("sapwood")
PATIENCE_S = 100
# More than the ten threads that libfuse would take by itself.
READERS = 30
LIBRARIES = ["fuse3", "fuse"]

AS_NOBODY = """
import pathlib, subprocess, sys
from sapwood.mount import serve, unmount
home = pathlib.Path(sys.argv[1])

def ready():
    sys.stdout.write(subprocess.check_output(["cat", home / "mount/hello"], text=True))
    unmount(home / "mount", cache_dir=home / "cache")

serve(f"{home}/store#main", home / "mount", cache_dir=home / "cache", tier="libfuse", ready=ready)
"""


@pytest.fixture(params=LIBRARIES, autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both that Linux has; macFUSE speaks as the older one."""
    monkeypatch.setenv("FUSE_LIBRARY_NAME", request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(READERS):
        (root / f"{number}").write_bytes(os.urandom(300_000))
    return root


@contextmanager
def slow(store: Path, mbit: float = 0.25) -> Iterator[str]:
    """The address of a store behind a link that brings 30 kB a second: a file takes ten seconds."""
    with serving(store) as url, linked(int(url.rpartition(":")[2]), rtt_ms=1, mbit=mbit) as link:
        yield f"{link.url}#main"


@contextmanager
def waiting(*words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that waits in the kernel."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as reader:
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.3)
        yield reader


def mount_at(place: Path) -> Mount:
    [found] = [mount for mount in mounts() if mount.path == place]
    return found


def test_a_damaged_pack_is_an_error_and_not_wrong_bytes(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    address = pushed(tree, store)
    pack = max((store / "packs").iterdir(), key=lambda pack: pack.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1  # in the first frame, that of the first file
    pack.chmod(0o644)
    pack.write_bytes(data)
    with mounted(address, place, cache_dir, prefetch=False, tier="libfuse") as server:
        found = [shell(f"cmp {place}/{number} {tree}/{number}") for number in range(READERS)]
        assert sorted(done.returncode for done in found) == [0] * (READERS - 1) + [2]
        assert "Input/output error" in "".join(done.stderr for done in found)
        assert f"{store}: packs/{pack.name} at " in server.log.read_text()


def test_an_interrupted_reader_does_not_wait_for_a_slow_store(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    pushed(tree, store)
    with slow(store) as address, mounted(address, place, cache_dir, prefetch=False, tier="libfuse"):
        assert shell(f"stat {place}/1").returncode == 0
        with waiting("cat", place / "1") as reader:
            reader.send_signal(signal.SIGINT)
            assert reader.wait(PATIENCE_S) == -signal.SIGINT


def test_who_waits_for_a_name_can_be_interrupted_and_it_comes_for_who_survives_his_signals(
    tmp_path: Path, cache_dir: Path
) -> None:
    tree, store, place = tmp_path / "tree", tmp_path / "store", tmp_path / "mount"
    tree.mkdir()
    names = [secrets.token_hex(100) for _ in range(6000)]
    for name in names:
        (tree / name).touch()
    pushed(tree, store)
    last = max(names)
    # Their page takes twelve seconds, and begins to come as soon as it is mounted.
    with slow(store, mbit=0.45) as address, mounted(address, place, cache_dir, tier="libfuse"):
        with waiting("ls", place) as reader:
            reader.send_signal(signal.SIGINT)
            assert reader.wait(PATIENCE_S) == -signal.SIGINT
        assert stat_under_signals(place / last) == "0, signalled\n"


def test_more_readers_than_libfuse_has_threads_keep_nobody_from_what_is_here(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    pushed(tree, store)
    with slow(store, mbit=1) as address, mounted(address, place, cache_dir, prefetch=False, tier="libfuse"):
        assert len(shell(f"ls {place}").stdout.split()) == READERS
        readers = [
            subprocess.Popen(["cat", place / f"{number}"], stdout=subprocess.DEVNULL) for number in range(READERS)
        ]
        try:
            # The names are on a page that is here.
            assert shell(f"stat -c %s {place}/*").stdout == "300000\n" * READERS
            assert sum(reader.poll() is None for reader in readers) > READERS // 2
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()


def test_a_mount_that_is_taken_away_from_a_waiting_reader_frees_it(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    pushed(tree, store)
    with slow(store) as address, mounted(address, place, cache_dir, prefetch=False, tier="libfuse") as server:
        assert shell(f"ls {place}").returncode == 0
        with waiting("cat", place / "1") as reader:
            server.process.send_signal(signal.SIGTERM)
            assert reader.wait(PATIENCE_S) != 0
        assert server.process.wait(PATIENCE_S) == 0
        assert not is_mounted(place)


def test_a_mount_in_use_is_unmounted_only_lazily_and_its_server_ends(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    with mounted(pushed(tree, tmp_path / "store"), place, cache_dir, tier="libfuse") as server:
        # Who asks on and on, also while the server ends.
        asking = "import os; os.write(1, b'x')\nwhile True:\n try: os.listdir('.')\n except OSError: pass"
        with subprocess.Popen([sys.executable, "-c", asking], cwd=place, stdout=subprocess.PIPE) as user:
            assert user.stdout is not None
            user.stdout.read(1)
            with pytest.raises(UnavailableError) as busy:
                unmount(place)
            assert busy.value.kind == "mount-busy"
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(PATIENCE_S) == 0
            assert not is_mounted(place)
            user.kill()
        assert "Fatal" not in server.log.read_text()


def test_a_server_that_is_killed_leaves_errors_and_umount_mends_it(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = tmp_path / "store", tmp_path / "mount"
    pushed(tree, store)
    with slow(store) as address, mounted(address, place, cache_dir, prefetch=False, tier="libfuse") as server:
        found = mount_at(place)
        assert (found.alive, found.is_held) == (True, False)
        with pytest.raises(UnavailableError) as refused:
            restart(found)
        assert refused.value.kind == "mount-unheld"
        assert shell(f"ls {place}").returncode == 0
        with waiting("cat", place / "1") as reader:
            os.kill(found.server, signal.SIGKILL)
            assert reader.wait(PATIENCE_S) != 0
        assert server.process.wait(PATIENCE_S) == -signal.SIGKILL
        assert "libfuse lets nobody take over" in server.log.read_text()
        assert "Transport endpoint is not connected" in shell(f"ls {place}").stderr
        said = subprocess.check_output([SAPWOOD, "mounts", "--json"], timeout=PATIENCE_S)
        [left] = [mount for mount in json.loads(said) if mount["path"] == str(place)]
        assert left["alive"] is False
        subprocess.run([SAPWOOD, "umount", place], check=True, timeout=PATIENCE_S)
        assert not is_mounted(place)
        assert os.listdir(place) == []


def test_an_ordinary_user_mounts_too(tmp_path: Path) -> None:
    with fuse_for_users(), nobodys_directory() as home:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "hello").write_text("hello\n")
        pushed(tmp_path / "tree", home / "store")
        (home / "mount").mkdir()
        os.chown(home / "mount", NOBODY, NOBODY)
        done = as_nobody(AS_NOBODY, home, first="import mfusepy")
        assert (done.out, done.code) == ("hello\n", 0), done.err
        assert not is_mounted(home / "mount")


@pytest.mark.parametrize(
    ("without", "says", "hint"),
    [
        ("module", "needs mfusepy: no such module", "pip install 'sapwood[libfuse]'"),
        ("library", "finds no libfuse: Unable to find libfuse", "apt install libfuse3-3"),
    ],
)
def test_what_is_not_installed_is_said_with_its_remedy(
    without: str, says: str, hint: str, tree: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without == "module":
        (tmp_path / "mfusepy.py").write_text("raise ModuleNotFoundError('no such module')\n")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    else:
        monkeypatch.setenv("FUSE_LIBRARY_NAME", "none-such")
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with pytest.raises(UnavailableError) as missing, mounted(address, place, cache_dir, tier="libfuse"):
        pass
    assert missing.value.kind == "libfuse-missing"
    assert says in str(missing.value)
    assert hint in str(missing.value.hint)
    assert not is_mounted(place)


def test_a_writable_mount_by_libfuse_is_refused(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    options = {"tier": "libfuse", "writable": True}
    with pytest.raises(InvalidInputError) as refused, mounted(address, place, cache_dir, **options):
        pass
    assert (refused.value.kind, refused.value.hint) == ("bad-argument", "--tier fuse")


def test_what_libfuse_refuses_is_an_error_and_nothing_is_left(
    tree: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a library that knows an option less.
    (tmp_path / "sitecustomize.py").write_text(
        "import sapwood.mount.libfuse as libfuse\n"
        "options = libfuse._options\n"
        "libfuse._options = lambda mfusepy: {**options(mfusepy), 'nonsense': True}\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with pytest.raises(UnavailableError) as failed, mounted(address, place, cache_dir, tier="libfuse"):
        pass
    assert failed.value.kind == "mount-failed"
    assert not is_mounted(place)
