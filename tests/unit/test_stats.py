"""What stats count, against what was pushed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import NotFoundError
from sapwood.open import OpenStore
from sapwood.upkeep.forget import remove
from sapwood.upkeep.stats import stats, stats_of
from tests.support.cli import Sapwood
from tests.support.trees import MIB, noise
from tests.support.webserver import serving


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    """A store with two versions of a tree, of which one file was copied and one changed."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "text").write_bytes(b"words " * 50_000)
    (tree / "noise").write_bytes(noise(MIB, 1))
    (tree / "large").write_bytes(noise(3 * MIB, 2))
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(tree, "main")
    (tree / "copied").write_bytes(noise(MIB, 1))
    (tree / "text").write_bytes(b"Words " * 50_000)
    store.push(tree, "main")
    return store


def test_every_chunk_counts_once_and_every_snapshot_in_full(store: OpenStore) -> None:
    found = stats(store)
    assert (found.refs, found.snapshots, found.entries) == (1, 2, 4 + 5)
    assert found.tree_bytes == 2 * (300_000 + 4 * MIB) + MIB
    assert found.chunk_bytes == 2 * 300_000 + 4 * MIB
    assert found.deduplication == found.tree_bytes / found.chunk_bytes
    # The noise stays as long as it is, and the text nearly goes.
    assert 4 * MIB < found.chunk_bytes_stored < 4.1 * MIB
    sizes = [path.stat().st_size for path in Path(store.url, "packs").iterdir()]
    assert (found.packs, found.packs_there, found.pack_bytes) == (len(sizes), len(sizes), sum(sizes))
    assert found.dead_bytes in range(5_000)
    folders = ("packs", "maps", "snapshots", "index")
    files = [path for folder in folders for path in Path(store.url, folder).iterdir()]
    assert found.bytes_stored == sum(path.stat().st_size for path in files)


def test_an_address_is_one_tree(store: OpenStore) -> None:
    found = stats_of(store, store.snapshot("main"))
    assert (found.refs, found.snapshots, found.entries) == (None, 1, 5)
    assert found.tree_bytes == 300_000 + 5 * MIB
    assert found.chunk_bytes == 300_000 + 4 * MIB
    assert found.compression == found.chunk_bytes / found.chunk_bytes_stored


def test_what_no_ref_needs_is_dead(store: OpenStore, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "noise").write_bytes(noise(MIB, 3))
    store.push(other, "other")
    before = stats(store)
    remove(store, "other")
    after = stats(store)
    assert (before.dead_bytes, after.dead_bytes) != (None, None)
    assert MIB < (after.dead_bytes or 0) - (before.dead_bytes or 0) < MIB + 10_000
    assert (after.refs, after.packs_there) == (1, before.packs_there)


def test_an_empty_store_has_no_ratios(tmp_path: Path) -> None:
    found = stats(open_store(str(tmp_path / "empty"), create=True))
    assert (found.snapshots, found.pack_bytes, found.deduplication, found.compression) == (0, 0, None, None)


def test_something_missing_is_named_and_not_counted_as_nothing(store: OpenStore) -> None:
    for path in Path(store.url, "maps").iterdir():
        path.unlink()
    with pytest.raises(NotFoundError) as missing:
        stats(store)
    assert missing.value.kind == "map-missing"


def test_the_command_tells_people_the_same(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a" * 1000)
    run.good("push", "tree", "main")
    lines = run.good("stats").out.splitlines()
    assert lines[0] == "trees:    1 snapshot of 1 ref: 2 entries, 1.0 kB (1,000 B)"
    assert lines[1] == "chunks:   1, 1.0 kB (1,000 B), a byte used 1.00 times"
    assert lines[4].startswith("packs:    2 needed of 2, ")
    one = run.good("stats", "main").out.splitlines()
    assert one[0] == "trees:    1 snapshot: 2 entries, 1.0 kB (1,000 B)"
    assert one[4] == "packs:    2"
    assert run("stats", "none").code == 3


def test_a_tree_behind_a_web_server_can_be_looked_at_and_a_store_there_cannot(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    run.good("push", "tree", "main")
    with serving(run.store) as url:
        assert run.good("stats", "--json", f"{url}#main").document["entries"] == 1
        said = run("stats", url)
        assert (said.code, "can only be read" in said.err) == (2, True)
