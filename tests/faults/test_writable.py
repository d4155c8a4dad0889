"""Writable mounts when something is wrong: a killed server, a full disk, a store that is away; no change is lost."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.mount import process, unmount
from sapwood.mount.changes import all_changes, changes_at
from tests.faults.test_killed_mount import gone, kill, mount_at, until_served
from tests.support.cli import Sapwood
from tests.support.mounting import is_mounted, mounted, pushed, shell
from tests.support.smalldisk import fill, small_disk, writable
from tests.support.webserver import serving

TIERS = ["fuse", "native"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "d").mkdir(parents=True)
    for number in range(20):
        # Too large to share a frame.
        (root / "d" / f"file-{number}").write_bytes(os.urandom(400_000))
    return root


@pytest.mark.parametrize("tier", TIERS)
def test_changes_outlive_servers_that_are_killed_and_the_tree_below_is_read_on(
    tier: str, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    address = pushed(tree, tmp_path / "store")
    with mounted(address, place, cache_dir, tier=tier, writable=True, prefetch=False):
        for number in range(4):
            assert shell(f"echo {number} > {place}/new-{number}; mv {place}/d/file-{number} {place}").returncode == 0
            server = mount_at(place).server
            kill(server)
            # Of what is below something is read, and copied up, by the next one.
            copied = f"{place}/d/file-{10 + number}"
            assert shell(f"echo more >> {copied} && cmp {place}/file-{number} {tree}/d/file-{number}").returncode == 0
            until_served(place, server)
        assert shell(f"cat {place}/new-*").stdout == "0\n1\n2\n3\n"
        now = open_store(str(tmp_path / "store")).push(place, "now")
        assert now.files_hashed == 8
    with mounted(f"{tmp_path}/store#now", tmp_path / "again", cache_dir):
        for number in range(4):
            name = f"file-{10 + number}"
            assert shell(f"tail -c 5 {tmp_path}/again/d/{name}").stdout == "more\n"
            assert shell(f"head -c 400000 {tmp_path}/again/d/{name} | cmp - {tree}/d/{name}").returncode == 0


@pytest.mark.parametrize("tier", TIERS)
def test_without_holder_and_server_umount_mends_and_the_changes_are_kept(
    tier: str, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    process.start(address, place, cache_dir=cache_dir, tier=tier, writable=True, prefetch=False)
    found = mount_at(place)
    (place / "new").write_text("new")
    kill(found.pid)
    kill(found.server)
    try:
        assert shell(f"cat {place}/new; cat {place}/d/file-0").stdout == "new"
        assert not mount_at(place).alive
    finally:
        unmount(place, lazy=True, cache_dir=cache_dir)
    assert not is_mounted(place)
    assert list(place.iterdir()) == []
    with mounted(address, tmp_path / "other", cache_dir, writable=True):
        assert not (tmp_path / "other" / "new").exists()
    place.rmdir()
    with mounted(address, place, cache_dir, tier=tier, writable=True):
        assert (place / "new").read_text() == "new"
        assert shell(f"diff -r {place}/d {tree}/d").returncode == 0


def test_a_holder_that_is_asked_to_end_while_it_has_no_server_throws_away_what_is_not_to_be_kept(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    address = pushed(tree, tmp_path / "store")
    with mounted(address, place, cache_dir, writable=True, discard=True) as started:
        (place / "new").write_text("new")
        server = mount_at(place).server
        os.kill(started.pid, signal.SIGSTOP)
        kill(server)
        os.kill(started.pid, signal.SIGTERM)
        os.kill(started.pid, signal.SIGCONT)
        assert started.process.wait(60) == 0
        assert not is_mounted(place)
    assert changes_at(place) is None


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("tier", TIERS)
def test_who_uses_a_mount_that_was_ended_sees_errors_never_empty_directories(
    tier: str, killed: bool, discard: bool, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place, changes = tmp_path / "mount", Path(os.environ["SAPWOOD_CHANGES"])
    address = pushed(tree, tmp_path / "store")
    with mounted(address, place, cache_dir, tier=tier, writable=True, discard=discard, prefetch=False) as started:
        if discard:
            (place / "d" / "new").write_text("new")
        script = f"cd {place}; echo in; read -r go; find . -printf '%y'; echo; test -e d/new && cat d/new"
        with subprocess.Popen(["sh", "-c", script], stdin=-1, stdout=-1, stderr=-1, text=True) as user:
            assert user.stdout
            assert user.stdout.readline() == "in\n"
            if killed:
                os.kill(started.pid, signal.SIGSTOP)
                kill(mount_at(place).server)
            os.kill(started.pid, signal.SIGTERM)
            os.kill(started.pid, signal.SIGCONT)
            assert started.process.wait(60) == 0
            said, complaints = user.communicate("\n", 60)
        assert not is_mounted(place)
        names = said.splitlines()[0]
        # The native tier's names need no server; its contents do.
        assert names == ("dd" + "f" * (21 if discard else 20) if tier == "native" else "d"), complaints
        assert ("Transport endpoint is not connected" in complaints) is (tier != "native")
    # Its users have ended, so that the next mount that ends leaves nothing of either.
    assert list(changes.glob("*.gone"))
    with mounted(address, tmp_path / "next", cache_dir, writable=True):
        pass
    assert os.listdir(changes) == []


def test_a_command_that_is_killed_with_its_changes_leaves_none(tree: Path, tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", tree, "main")
    command = sapwood.command(
        "run", "--writable", "main", "--", "sh", "-c", "echo x > $SAPWOOD_ROOT/x; echo $$ $SAPWOOD_ROOT; exec sleep 60"
    )
    with subprocess.Popen(command, env=sapwood.environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        child, name = running.stdout.readline().split()
        place = Path(name)
        found = next(one for one in sapwood.good("mounts", "--json").document if one["path"] == str(place))
        kill(running.pid)
        kill(int(child))
    assert gone(found["pid"], found["server"])
    assert not is_mounted(place)
    assert os.listdir(os.environ["SAPWOOD_CHANGES"]) == []
    place.rmdir()
    place.parent.rmdir()


def test_a_full_disk_is_an_error_of_who_writes_and_nothing_is_lost(
    tree: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with small_disk(tmp_path / "disk", 3 << 20) as disk:
        monkeypatch.setenv("SAPWOOD_CHANGES", str(disk / "changes"))
        with mounted(address, place, cache_dir, writable=True):
            (place / "before").write_text("written before")
            fill(disk)
            said = shell(f"head -c 1000000 /dev/zero > {place}/large")
            assert "No space left on device" in said.stderr
            # To open it for writing copies it up.
            assert "No space left on device" in shell(f"echo more >> {place}/d/file-0").stderr
            assert shell(f"cmp {place}/d/file-0 {tree}/d/file-0; cat {place}/before").stdout == "written before"
            writable(disk)
            assert shell(f"echo more >> {place}/d/file-0 && rm -f {place}/large").returncode == 0
            pushed_now = open_store(str(tmp_path / "store")).push(place, "now")
    tree_now = open_store(str(tmp_path / "store")).tree("now")
    assert b"".join(tree_now.read_blob(b"before")) == b"written before"
    assert pushed_now.files_hashed == 2


def test_a_disk_that_is_full_from_the_start_makes_no_mount(
    tree: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sapwood.errors import UnavailableError

    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        monkeypatch.setenv("SAPWOOD_CHANGES", str(disk / "changes"))
        fill(disk)
        with pytest.raises(UnavailableError) as refused, mounted(address, place, cache_dir, writable=True):
            pass
        assert refused.value.kind == "disk-full"
        assert not is_mounted(place)
        writable(disk)
        assert all_changes() == []


def test_while_the_store_is_away_one_goes_on_writing(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place, hidden = tmp_path / "store", tmp_path / "mount", tmp_path / "hidden"
    pushed(tree, store)
    with (
        serving(store) as url,
        mounted(f"{url}#main", place, cache_dir, writable=True, prefetch=False, deadline_s=12.0),
    ):
        assert shell(f"cat {place}/d/file-0 | cmp - {tree}/d/file-0").returncode == 0
        store.rename(hidden)
        writing = f"cd {place} && echo new > new && mv d/file-1 moved && chmod 600 d/file-2 && echo more >> d/file-0"
        assert shell(writing).returncode == 0
        # To be copied up it must be fetched.
        assert "Input/output error" in shell(f"echo more >> {place}/d/file-3").stderr
        hidden.rename(store)
        assert shell(f"echo more >> {place}/d/file-3").returncode == 0
        assert shell(f"cmp {place}/moved {tree}/d/file-1").returncode == 0
        now = open_store(str(store)).push(place, "now")
    assert now.files_hashed == 3


def test_a_push_that_is_killed_changes_nothing_and_the_next_one_ends(
    tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", tree, "main")
    (tmp_path / "mnt").mkdir()
    sapwood.good("mount", "--writable", "main", "mnt")
    try:
        (tmp_path / "mnt" / "large").write_bytes(os.urandom(60_000_000))
        before = sapwood.good("log", "main").out
        packs = sapwood.store / "packs"
        had = set(packs.rglob("*"))
        command = sapwood.command("push", "mnt", "main")
        with open(sapwood.store / "refs.lock", "rb") as refs:
            # Without it no ref is moved, however long it takes until it is killed.
            fcntl.flock(refs, fcntl.LOCK_EX)
            with subprocess.Popen(command, cwd=tmp_path, env=sapwood.environment, stderr=subprocess.DEVNULL) as running:
                while set(packs.rglob("*")) == had and running.poll() is None:
                    time.sleep(0.005)
                running.kill()
        assert sapwood.good("log", "main").out == before
        sapwood.good("push", "mnt", "main")
        assert sapwood.good("verify").code == 0
        sapwood.good("pull", "main", "pulled")
        assert shell(f"cmp {tmp_path}/mnt/large {tmp_path}/pulled/large").returncode == 0
    finally:
        sapwood.good("umount", "--discard", "mnt")
