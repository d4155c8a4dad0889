"""Pulls into a directory with something in it that are killed, stopped, out of disk, refused or fooled."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from sapwood import fetch, open_store
from sapwood import pull as module
from sapwood.errors import DeniedError, SapwoodError, UnavailableError
from sapwood.open import OpenStore
from sapwood.store import Store
from tests.support.child import Killed, die, in_child
from tests.support.cli import Sapwood
from tests.support.smalldisk import read_only, small_disk
from tests.support.trees import MIB, differences, make_links, noise

PARTIAL = ".sapwood-partial-"


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


@pytest.fixture
def tree(tmp_path: Path, store: OpenStore) -> Path:
    """A tree, pushed as `old` and edited and pushed as `main`; `out` holds the old one."""
    root = tmp_path / "tree"
    make_links(root)
    for folder in range(8):
        (root / f"folder-{folder}").mkdir()
        for file in range(20):
            (root / f"folder-{folder}" / f"file-{file}").write_bytes(noise(5000, folder * 60 + file))
    for number in range(6):
        (root / f"large-{number}").write_bytes(noise(4 * MIB, 5000 + number))
    store.push(root, "old")
    store.pull("old", tmp_path / "out")
    for folder in range(0, 8, 2):
        for file in range(0, 20, 3):
            (root / f"folder-{folder}" / f"file-{file}").write_bytes(noise(5000, 9000 + folder * 60 + file))
        (root / f"folder-{folder}" / "file-1").unlink()
    for number in range(3):
        (root / f"large-{number}").write_bytes(noise(4 * MIB, 7000 + number))
    store.push(root, "main")
    return root


def partial(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.startswith(PARTIAL)]


def assert_each_file_is_of_one_tree(store: OpenStore, out: Path, scratch: Path) -> None:
    """Every file is as the old tree or the new one has it: no half-written one has a name."""
    scratch.mkdir()
    for ref in ("old", "main"):
        store.pull(ref, scratch / ref)
    for path in out.rglob("*"):
        if not path.is_symlink() and path.is_file() and not path.name.startswith(PARTIAL):
            name = path.relative_to(out)
            candidates = [scratch / ref / name for ref in ("old", "main")]
            assert path.read_bytes() in [one.read_bytes() for one in candidates if one.exists()], name


@pytest.mark.parametrize("at", range(1, 8))
def test_a_killed_pull_leaves_whole_files_and_the_next_ends_right(
    store: OpenStore, tree: Path, tmp_path: Path, at: int
) -> None:
    out = tmp_path / "out"

    def killed() -> None:
        numbers, deliver = itertools.count(1), fetch._deliver

        def counted(*arguments: object) -> None:
            if next(numbers) == 3 * at:
                die()
            deliver(*arguments)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fetch, "_deliver", counted)
            store.pull("main", out, delete=True)
        die()  # after the last one

    with pytest.raises(Killed):
        in_child(killed)
    assert_each_file_is_of_one_tree(store, out, tmp_path / "scratch")
    store.pull("main", out, delete=True)
    assert differences(tree, out) == []
    assert partial(out) == []


@pytest.mark.parametrize("moment", range(6))
def test_a_pull_killed_at_any_moment_is_ended_by_the_next(
    store: OpenStore, tree: Path, tmp_path: Path, moment: int
) -> None:
    run, out = Sapwood(tmp_path), tmp_path / "out"
    process = subprocess.Popen(
        run.command("pull", f"{store.url}#main", str(out), "--delete"),
        env=run.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with process:
        try:
            # The moment is what is tried, nothing waits for anything.
            process.wait(0.15 + 0.06 * (moment + random.Random(moment).random()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
    assert_each_file_is_of_one_tree(store, out, tmp_path / "scratch")
    store.pull("main", out, delete=True)
    assert differences(tree, out) == []
    assert partial(out) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, UnavailableError("gone", kind="store-unreachable")])
def test_a_pull_that_is_stopped_leaves_nothing_half_written(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    out = tmp_path / "out"
    numbers, read_ranges = itertools.count(1), Store.read_ranges

    def stopped(*arguments: object) -> object:
        if next(numbers) == 8:
            raise error
        return read_ranges(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SapwoodError)):
        patch.setattr(Store, "read_ranges", stopped)
        store.pull("main", out)
    assert partial(out) == []
    assert_each_file_is_of_one_tree(store, out, tmp_path / "scratch")
    store.pull("main", out, delete=True)
    assert differences(tree, out) == []


def test_a_full_disk_leaves_whole_files_and_is_told(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 44 * MIB) as disk:
        out = disk / "out"
        store.pull("old", out)
        ballast = disk / "ballast"
        # For the small files, and for no large one: whatever the order they come in.
        ballast.write_bytes(b"\0" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 3 * MIB))
        with pytest.raises(UnavailableError) as full:
            store.pull("main", out)
        assert full.value.kind == "disk-full"
        assert str(out) in str(full.value)
        assert partial(out) == []
        assert_each_file_is_of_one_tree(store, out, tmp_path / "scratch")
        ballast.unlink()
        store.pull("main", out, delete=True)
        assert differences(tree, out) == []


def test_a_read_only_place_is_told_and_not_touched(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 48 * MIB) as disk:
        store.pull("old", disk / "out")
        read_only(disk)
        with pytest.raises(DeniedError) as refused:
            store.pull("main", disk / "out", delete=True)
        assert refused.value.kind == "read-only"
        assert store.pull("old", disk / "out").left_alone > 100
    assert tree.exists()


def test_a_link_that_appears_in_the_way_is_not_followed(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (outside / "file-1").write_text("mine")
    load_map = module.load_map

    def loaded(*arguments: object, **named: object) -> object:
        file_map = load_map(*arguments, **named)  # type: ignore[arg-type]
        (out / "folder-0").rename(out / "moved")
        (out / "folder-0").symlink_to(outside)
        return file_map

    with monkeypatch.context() as patch, pytest.raises(SapwoodError) as refused:
        patch.setattr(module, "load_map", loaded)
        store.pull("main", out, delete=True)
    assert refused.value.kind in ("io", "path-missing", "not-a-directory")
    assert "folder-0" in str(refused.value)
    assert os.listdir(outside) == ["file-1"]
    assert (outside / "file-1").read_text() == "mine"
    store.pull("main", out, delete=True)
    assert differences(tree, out) == []
    assert os.listdir(outside) == ["file-1"]


def test_what_a_killed_pull_left_is_no_part_of_the_directory(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    left = [out / f"{PARTIAL}0123456789abcdef-7", out / "folder-1" / f"{PARTIAL}0123456789abcdef-12"]
    mine = [out / f"{PARTIAL}mine", out / f"{PARTIAL}0123456789abcdef-"]
    for path in left + mine:
        path.write_text("x")
    pulled = store.pull("main", out)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in mine)
    assert pulled.extra == 4 + len(mine)
