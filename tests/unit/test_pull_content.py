"""How a pull writes content: shared blocks, holes, files of many chunks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.open import OpenStore
from tests.support.diskimage import cloning_disk
from tests.support.smalldisk import free
from tests.support.trees import MIB, differences, noise, write_sparse


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


def make_copies(root: Path) -> None:
    """Make eight files of one content, some with other modes, one with attributes, one of them in pieces with holes."""
    (root / "folder").mkdir(parents=True)
    for number in range(7):
        path = root / ("folder" if number % 2 else ".") / f"copy-{number}"
        path.write_bytes(noise(6 * MIB, 1))
        path.chmod([0o644, 0o000, 0o555][number % 3])
    os.setxattr(root / "copy-6", "user.k", b"v")
    for number in range(3):
        (root / f"small-{number}").write_bytes(noise(70_000, 2))
        write_sparse(root / f"sparse-{number}", 8 * MIB, {0: noise(4096, 3), 5 * MIB: noise(300_000, 4)})


def blocks(path: Path) -> list[str]:
    """Where the file system says that the content lies; each extent must be one that others have, too."""
    told = subprocess.run(["filefrag", "-v", path], check=True, capture_output=True, text=True).stdout
    extents = [line.split(":") for line in told.splitlines() if line.strip()[:1].isdigit()]
    assert all("shared" in extent[-1] for extent in extents), told
    return [extent[2].strip() for extent in extents]


def test_files_of_the_same_content_are_fetched_once_and_share_their_blocks(store: OpenStore, tmp_path: Path) -> None:
    make_copies(tmp_path / "tree")
    store.push(tmp_path / "tree", "main")
    with cloning_disk(tmp_path / "xfs") as disk:
        subprocess.run(["sync", "-f", disk], check=True)
        before = free(disk)
        for again in ("out", "out"):
            pulled = store.pull("main", disk / again)
            assert pulled.bytes_fetched < 8 * MIB
        subprocess.run(["sync", "-f", disk], check=True)
        assert before - free(disk) < 14 * MIB
        for names in (["copy-0", "folder/copy-1", "copy-6"], ["small-0", "small-2"], ["sparse-0", "sparse-1"]):
            first, *others = [blocks(disk / "out" / name) for name in names]
            assert first
            assert all(other == first for other in others)
        assert differences(tmp_path / "tree", disk / "out", but=frozenset({"holes"})) == []
        # Into a directory with something in it, too.
        (disk / "other").mkdir()
        (disk / "other" / "file").touch()
        store.pull("main", disk / "other", delete=True)
        subprocess.run(["sync", "-f", disk], check=True)
        assert before - free(disk) < 28 * MIB
        assert differences(tmp_path / "tree", disk / "other", but=frozenset({"holes"})) == []


def test_where_blocks_cannot_be_shared_they_are_copied(store: OpenStore, tmp_path: Path) -> None:
    make_copies(tmp_path / "tree")
    store.push(tmp_path / "tree", "main")
    pulled = store.pull("main", tmp_path / "out")
    assert pulled.bytes_fetched < 8 * MIB
    assert differences(tmp_path / "tree", tmp_path / "out") == []
    (tmp_path / "out" / "copy-0").write_bytes(b"other")
    (tmp_path / "out" / "sparse-1").unlink()
    assert store.pull("main", tmp_path / "out").written == 2
    assert differences(tmp_path / "tree", tmp_path / "out") == []


def test_a_file_that_is_all_hole_takes_no_room(store: OpenStore, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number, size in enumerate((1, 4096, 3 * MIB, 40 * MIB)):
        write_sparse(tmp_path / "tree" / f"hole-{number}", size, {})
    store.push(tmp_path / "tree", "main")
    for _ in range(2):
        store.pull("main", tmp_path / "out")
        assert differences(tmp_path / "tree", tmp_path / "out") == []
        assert sum(path.stat().st_blocks for path in (tmp_path / "out").iterdir()) * 512 < 64 * 1024
        (tmp_path / "out" / "hole-2").write_bytes(b"x")
