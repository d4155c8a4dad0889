"""Writable mounts: what is changed is kept by its place, laid over nothing but its own tree, and never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.errors import CorruptError, UnavailableError
from sapwood.mount.changes import all_changes, begin, claim, release
from tests.support.cli import Sapwood
from tests.support.mounting import is_mounted, mounted, pushed, shell
from tests.support.nobody import NOBODY, as_nobody, nobodys_directory

TIERS = ["fuse", "native"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "d" / "below").mkdir(parents=True)
    (root / "a").write_text("a\n")
    (root / "d" / "b").write_text("b\n")
    (root / "d" / "below" / "c").write_text("c\n")
    os.link(root / "a", root / "d" / "also a")
    root.chmod(0o1755)
    os.setxattr(root, "user.note", b"of the root")
    os.utime(root, ns=(0, 1_500_000_000_123_456_789))
    return root


@pytest.fixture
def run(tree: Path, tmp_path: Path) -> Iterator[Sapwood]:
    """A sapwood whose ref `main` is the tree, and a place to mount at, which is taken away at the end."""
    run = Sapwood(tmp_path)
    run.good("push", tree, "main")
    (tmp_path / "mnt").mkdir()
    yield run
    if is_mounted(tmp_path / "mnt"):
        run.good("umount", "--lazy", "mnt")


def mine(run: Sapwood) -> list[Any]:
    return [one for one in run.good("mounts", "--json").document if one["path"].startswith(str(run.home))]


@pytest.mark.parametrize("tier", TIERS)
def test_everything_can_be_changed_and_is_as_on_a_disk(tier: str, tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    script = """
        set -e; cd $1
        echo more >> a; mv d e; echo new > e/new; rm e/below/c; rmdir e/below; mkdir e/below; ln a z; ln -s z link
        chmod 600 e/b; mkfifo pipe; echo over > t; mv t e/b; mkdir d; echo d > d/d
        truncate -s 1M sparse
    """
    with mounted(pushed(tree, tmp_path / "store"), place, cache_dir, tier=tier, writable=True):
        listing = (
            "find . ! -type d -printf '%P %y %m %U %G %s %n %l\\n' | sort; find . -type f | sort | xargs sha256sum"
        )
        root = "stat -c '%a %u %g %Y' ."
        assert shell(f"cd {place}; {root}").stdout == shell(f"cd {tree}; {root}").stdout
        assert os.getxattr(place, "user.note") == b"of the root"
        # The kernel breaks a hard link of a layer below when one of its names is changed.
        for each in (tree, place):
            (each / "d" / "also a").unlink()
        for each in (tree, place):
            assert shell(f"set -- {each}; {script}").returncode == 0
            for name in ("d/d", "e/b"):
                os.setxattr(each / name, "user.x", b"y")
            assert (os.listxattr(each / "e" / "b"), os.getxattr(each / "e" / "b", "user.x")) == (["user.x"], b"y")
        assert shell(f"cd {place}; {listing}").stdout == shell(f"cd {tree}; {listing}").stdout


def test_changes_are_kept_by_their_place_until_they_are_thrown_away(run: Sapwood) -> None:
    place = run.home / "mnt"
    run.good("mount", "--writable", "main", "mnt")
    (place / "a").write_text("other\n")
    [shown] = mine(run)
    assert (shown["mounted"], shown["alive"]) == (True, True)
    assert f"changes go to {shown['changes']})" in run.good("mounts").out
    said = run.good("umount", "mnt")
    assert f"what was changed there is kept in {shown['changes']};" in said.err
    assert f"sapwood umount --discard {place}" in said.err

    [left] = mine(run)
    assert (left["path"], left["changes"]) == (shown["path"], shown["changes"])
    assert (left["mounted"], left["alive"], left["pid"]) == (False, False, None)
    assert left["address"].startswith(f"{run.store}#main@sha256:")
    assert f"(not mounted; its changes are in {shown['changes']})" in run.good("mounts").out
    assert "with what was changed here before" in run.good("mount", "--writable", left["address"], "mnt").err
    assert (place / "a").read_text() == "other\n"
    run.good("umount", "--discard", "mnt")
    assert mine(run) == []
    assert not Path(shown["changes"]).exists()

    run.good("mount", "--writable", "main", "mnt")
    assert (place / "a").read_text() == "a\n"
    (place / "a").unlink()
    run.good("umount", "mnt")
    # They need not be mounted.
    run.good("umount", "--discard", "mnt")
    assert mine(run) == []


def test_a_mount_in_which_nothing_was_changed_leaves_nothing(run: Sapwood) -> None:
    for _ in range(2):
        run.good("mount", "--writable", "main", "mnt")
        assert (run.home / "mnt" / "d" / "b").read_text() == "b\n"
        assert run.good("umount", "mnt").err == ""
        # A slow server may be at it still.
        release(run.home / "mnt", claim(run.home / "mnt", 60))
        assert os.listdir(os.environ["SAPWOOD_CHANGES"]) == []


def test_a_change_of_the_root_alone_is_a_change(run: Sapwood) -> None:
    run.good("mount", "--writable", "main", "mnt")
    (run.home / "mnt").chmod(0o700)
    run.good("umount", "mnt")
    run.good("mount", "--writable", "main", "mnt")
    assert (run.home / "mnt").stat().st_mode & 0o7777 == 0o700
    run.good("umount", "--discard", "mnt")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: os.setxattr(root, "user.note", b"changed"),
        lambda root: os.removexattr(root, "user.note"),
        lambda root: os.setxattr(root, "user.other", b""),
    ],
)
def test_a_change_of_an_attribute_of_the_root_alone_is_a_change(change: Callable[[Path], None], run: Sapwood) -> None:
    place = run.home / "mnt"
    run.good("mount", "--writable", "main", "mnt")
    change(place)
    changed = {name: os.getxattr(place, name) for name in os.listxattr(place)}
    assert "what was changed there is kept" in run.good("umount", "mnt").err
    run.good("mount", "--writable", "main", "mnt")
    assert {name: os.getxattr(place, name) for name in os.listxattr(place)} == changed
    run.good("umount", "--discard", "mnt")


@pytest.mark.parametrize("note", [None, b"", b"[1]", b'{"place": "/mnt"}'])
def test_changes_whose_note_is_damaged_are_removed_by_discard_alone(note: bytes | None, run: Sapwood) -> None:
    run.good("mount", "--writable", "main", "mnt")
    (run.home / "mnt" / "a").write_text("changed\n")
    run.good("umount", "mnt")
    [left] = mine(run)
    kept = Path(left["changes"])
    if note is None:
        (kept / "note.json").unlink()
    else:
        (kept / "note.json").write_bytes(note)
    [untold] = [one for one in run.good("mounts", "--json").document if one["changes"] == str(kept)]
    assert (untold["path"], untold["address"], untold["mounted"]) == (None, None, False)
    assert f"{kept}  (changes of a place that nothing tells" in run.good("mounts").out
    for _ in range(2):
        refused = run("mount", "--writable", "main", "mnt")
        assert refused.code == 5
        assert f"nothing tells of which tree the changes in {kept} are" in refused.err
        assert f"sapwood umount --discard {run.home}/mnt" in refused.err
        assert (kept / "upper" / "a").read_text() == "changed\n"
    with pytest.raises(CorruptError) as error:
        begin(run.home / "mnt", "main", {"map": ""})
    assert error.value.kind == "changes-unreadable"
    run.good("umount", "--discard", "mnt")
    assert str(kept) not in run.good("mounts").out
    run.good("mount", "--writable", "main", "mnt")
    assert (run.home / "mnt" / "a").read_text() == "a\n"


def test_of_a_mount_whose_server_ends_slowly_nothing_is_said_to_be_kept(run: Sapwood) -> None:
    run.good("mount", "--writable", "main", "mnt")
    [mount] = mine(run)
    processes = (mount["pid"], mount["server"])
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        said = run.good("umount", "mnt").err
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    assert said == ""
    release(run.home / "mnt", claim(run.home / "mnt", 60))
    assert os.listdir(os.environ["SAPWOOD_CHANGES"]) == []


# Says when it waits, and does so for as long as a busy machine needs.
WAITING = """
import sys, time
from types import SimpleNamespace
from sapwood.cli.main import main
from sapwood.mount import changes, process
def sleep(seconds):
    print("waits", flush=True)
    time.sleep(seconds)
changes.time = SimpleNamespace(**vars(time) | {"sleep": sleep})
process._PATIENCE_FOR_CHANGES_S = 60.0
sys.exit(main())
"""


def test_a_mount_waits_for_those_who_are_about_to_end_changes(run: Sapwood) -> None:
    place = run.home / "mnt"
    ending = claim(place)
    command = [sys.executable, "-c", WAITING, "mount", "--writable", "main", "mnt"]
    with subprocess.Popen(
        command, cwd=run.home, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as mount:
        assert mount.stdout is not None
        assert mount.stdout.readline() == "waits\n"
        release(place, ending)
        _, said = mount.communicate(timeout=100)
    assert (mount.returncode, is_mounted(place)) == (0, True), said
    run.good("umount", "mnt")


@pytest.mark.parametrize("tier", TIERS)
def test_changes_are_written_by_one_mount_at_a_time(tier: str, run: Sapwood) -> None:
    place = run.home / "mnt"
    run.good("mount", "--tier", tier, "--writable", "main", "mnt")
    (place / "a").write_text("changed\n")
    with open(place / "d" / "b", "a") as used:
        run.good("umount", "--lazy", "mnt")
        for words in (["mount", "--writable", "main"], ["umount", "--discard"]):
            refused = run(*words, "mnt")
            assert refused.code == 6
            assert "its changes are in use" in refused.err
        with pytest.raises(UnavailableError) as error:
            claim(place)
        assert error.value.kind == "changes-in-use"
        # Of what is mounted read-only there is nothing to be in use.
        run.good("mount", "main", "mnt")
        assert (place / "a").read_text() == "a\n"
        run.good("umount", "mnt")
        used.write("written at last\n")
    release(place, claim(place, 60))
    run.good("mount", "--writable", "main", "mnt")
    assert (place / "d" / "b").read_text() == "b\nwritten at last\n"
    assert (place / "a").read_text() == "changed\n"
    run.good("umount", "--discard", "mnt")
    assert os.listdir(os.environ["SAPWOOD_CHANGES"]) == []


@pytest.mark.parametrize("tier", TIERS)
def test_of_two_mounts_that_are_made_at_once_one_is(tier: str, run: Sapwood) -> None:
    words = run.command("mount", "--tier", tier, "--writable", "main", "mnt")
    racing = [
        subprocess.Popen(words, cwd=run.home, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [(one.communicate(timeout=100)[1], one.returncode) for one in racing]
    assert sorted(code == 0 for _, code in said) == [False, False, True], said
    [shown] = mine(run)
    assert (shown["mounted"], shown["alive"]) == (True, True)
    (run.home / "mnt" / "a").write_text("changed\n")
    assert run.good("umount", "--discard", "mnt").err == ""
    assert not is_mounted(run.home / "mnt")


def test_changes_are_never_laid_over_another_tree(run: Sapwood, tree: Path) -> None:
    run.good("mount", "--writable", "main", "mnt")
    (run.home / "mnt" / "a").write_text("changed\n")
    run.good("umount", "mnt")
    (tree / "new").write_text("new\n")
    run.good("push", tree, "main")
    refused = run("mount", "--writable", "main", "mnt")
    assert refused.code == 4
    assert "has changes that were made there in another tree" in refused.err
    assert "hint: go on with them: sapwood mount --writable" in refused.err
    [left] = mine(run)
    # Without them it is mounted, and they stay.
    run.good("mount", "main", "mnt")
    assert (run.home / "mnt" / "new").read_text() == "new\n"
    run.good("umount", "mnt")
    run.good("mount", "--writable", left["address"], "mnt")
    assert (run.home / "mnt" / "a").read_text() == "changed\n"
    run.good("umount", "--discard", "mnt")


def test_two_mounts_of_one_snapshot_change_nothing_of_each_other(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, one, two = pushed(tree, tmp_path / "store"), tmp_path / "one", tmp_path / "two"
    with mounted(address, one, cache_dir, writable=True), mounted(address, two, cache_dir, writable=True):
        (one / "a").write_text("one\n")
        (two / "d" / "b").unlink()
        assert (two / "a").read_text() == "a\n"
        assert (one / "d" / "b").read_text() == "b\n"
    assert [kept.place for kept in all_changes()] == [one, two]


def test_a_command_may_change_its_tree_and_push_it_and_nothing_is_left(run: Sapwood) -> None:
    script = f"echo built > $SAPWOOD_ROOT/out && {' '.join(run.command('push', '$SAPWOOD_ROOT', 'built'))}"
    run.good("run", "--writable", "main", "--", "sh", "-c", script)
    assert run.good("cat", "built", "out").out == "built\n"
    assert run.good("ls", "main").out == "a\nd\n"
    assert os.listdir(os.environ["SAPWOOD_CHANGES"]) == []
    assert mine(run) == []


def test_a_mount_that_takes_no_changes_says_so(run: Sapwood) -> None:
    run.good("mount", "main", "mnt")
    assert "Read-only file system" in shell(f"echo x > {run.home}/mnt/a").stderr


AS_NOBODY = """
import os, sys
from pathlib import Path
from sapwood.errors import UnavailableError
from sapwood.mount import serve
home = Path(sys.argv[1])
os.environ["SAPWOOD_CHANGES"] = str(home / "changes")
try:
    serve(f"{home}/store#main", home / "mount", cache_dir=home / "cache", writable=True)
except UnavailableError as error:
    print(error.kind, error)
"""


def test_an_ordinary_user_is_told_that_it_needs_root(tree: Path) -> None:
    with nobodys_directory() as home:
        pushed(tree, home / "store")
        (home / "mount").mkdir()
        os.chown(home / "mount", NOBODY, NOBODY)
        refused = as_nobody(AS_NOBODY, home)
        assert refused.err == ""
        assert refused.out.startswith("mount-failed")
        assert "only root can make a mount that takes changes" in refused.out


def test_the_root_of_a_namespace_of_users_is_told_so(tree: Path, tmp_path: Path, run: Sapwood) -> None:
    """What it changes could not be told from the tree when it is stored."""
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    command = run.command("mount", "--writable", address, place)
    said = subprocess.run(["unshare", "-rm", *command], env=run.environment, capture_output=True, text=True)
    assert said.returncode == 6, said
    assert "only the machine's root can make a mount that takes changes" in said.stderr


def test_where_changes_cannot_lie_the_error_says_what_to_set(
    tree: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, outer = pushed(tree, tmp_path / "store"), tmp_path / "outer"
    with mounted(address, outer, cache_dir, writable=True):
        monkeypatch.setenv("SAPWOOD_CHANGES", str(outer / "changes"))
        with pytest.raises(UnavailableError) as refused, mounted(address, tmp_path / "inner", cache_dir, writable=True):
            pass
        assert refused.value.kind == "mount-failed"
        assert "set SAPWOOD_CHANGES to a directory of another" in str(refused.value)
        assert os.listdir(outer / "changes") == []


def test_the_api_makes_a_mount_that_takes_changes(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(tree, "main")
    (tmp_path / "place").mkdir()
    with store.mount("main", tmp_path / "place", writable=True):
        (tmp_path / "place" / "new").write_text("new")
        store.push(tmp_path / "place", "changed")
    assert store.tree("changed").find(b"new") is not None
