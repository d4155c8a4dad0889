"""Collection of a local store: what goes, what stays, and when; and that nothing goes from a store that is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import CorruptError, NotFoundError
from sapwood.open import OpenStore
from sapwood.upkeep import gc
from sapwood.upkeep.forget import forget, remove
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from tests.support.collecting import age, assert_reads_back, make_tree, objects, place, two_versions


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    """A store with two versions of a tree in ref `main`, of which little is the same."""
    return two_versions(tmp_path)


@pytest.fixture
def tree(store: OpenStore, tmp_path: Path) -> Path:
    return tmp_path / "tree"


def test_an_empty_store_is_collected(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    done = collect(store)
    assert (done.refs, done.condemned, done.deleted, done.finished) == (0, 0, 0, True)
    assert objects(place(store)) == set()


def test_where_everything_is_alive_nothing_changes(store: OpenStore) -> None:
    age(place(store))
    before = objects(place(store))
    done = collect(store)
    assert (done.condemned, done.deleted, done.moved) == (0, 0, 0)
    assert (done.refs, done.snapshots) == (1, 2)
    assert objects(place(store)) == before


def test_what_was_forgotten_is_condemned_then_deleted_then_its_record(
    store: OpenStore, tree: Path, tmp_path: Path
) -> None:
    first = f"main@{list(store.history(store.read_ref('main')))[1].digest}"
    forget(store, Rules(last=1))
    age(place(store))
    before = objects(place(store))
    done = collect(store)
    assert (done.snapshots, done.deleted) == (1, 0)
    assert done.condemned > 2
    assert done.moved == 1
    assert before <= objects(place(store))
    # It is only condemned: pinned addresses still work.
    assert_reads_back(store, first, tmp_path / "first", tmp_path / "out")

    again = collect(store)
    assert (again.deleted, again.condemned, again.waiting) == (0, 0, done.waiting)

    age(place(store))
    last = collect(store)
    assert (last.deleted, last.condemned) == (done.condemned, 0)
    assert last.bytes_deleted == done.bytes_condemned
    assert_reads_back(open_store(store.url), "main", tree, tmp_path / "out")
    with pytest.raises(NotFoundError) as gone:
        store.pull(first, tmp_path / "gone")
    assert gone.value.kind == "snapshot-missing"

    # The record of what was deleted goes a grace later, and the record that names it with it or one later.
    for _ in range(2):
        age(place(store))
        collect(store)
    assert not any(key.startswith("gc/") for key in objects(place(store)))
    assert_reads_back(open_store(store.url), "main", tree, tmp_path / "out")
    store_again = open_store(store.url, cache_dir=tmp_path / "fresh")
    assert store_again.push(tree, "main").chunks_sent == 0


def test_without_grace_all_is_done_at_once(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    forget(store, Rules(last=1))
    done = collect(store, grace_s=0)
    assert done.deleted == done.condemned > 2
    assert not any(key.startswith("gc/") for key in objects(place(store)))
    assert_reads_back(open_store(store.url), "main", tree, tmp_path / "out")
    again = collect(store, grace_s=0)
    assert (again.deleted, again.moved) == (0, 0)


def test_a_store_whose_refs_are_all_removed_ends_empty(store: OpenStore) -> None:
    remove(store, "main")
    collect(store, grace_s=0)
    assert objects(place(store)) == set()


def test_what_is_young_is_not_condemned(store: OpenStore) -> None:
    remove(store, "main")
    assert collect(store).condemned == 0
    age(place(store), 3 * store.grace_s * 10**9 // 4)
    assert collect(store).condemned > 0


def test_fragments_are_made_anew_of_all_that_lives_and_those_of_old_packs_stay(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "_FRAGMENT", 200)

    def fragments() -> set[str]:
        return {path.name for path in (place(store) / "index").iterdir()}

    forget(store, Rules(last=1))
    collect(store, grace_s=0)
    made = fragments()
    assert len(made) == 4
    collect(store, grace_s=0)
    assert fragments() == made
    make_tree(tmp_path / "more", 7, files=5)
    store.push(tmp_path / "more", "more")
    collect(store, grace_s=0)
    # The last one was not full.
    assert len(made - fragments()) <= 1
    for name, root in (("again", tree), ("more-again", tmp_path / "more")):
        fresh = open_store(store.url, cache_dir=tmp_path / "fresh")
        # No file, only pages, where they say that something lies elsewhere.
        assert fresh.push(root, name).chunk_bytes_sent < 20_000


def test_a_dry_run_says_what_a_run_does_and_changes_nothing(store: OpenStore) -> None:
    forget(store, Rules(last=1))
    age(place(store))
    before = objects(place(store))
    said = collect(store, dry_run=True)
    assert objects(place(store)) == before
    done = collect(store)
    assert (said.moved, said.bytes_moved, said.deleted) == (done.moved, done.bytes_moved, 0)
    assert abs(said.condemned - done.condemned) <= 1


DAMAGES = {
    "ref": ("refs/*.ref", CorruptError),
    "snapshot": ("snapshots/*", CorruptError),
    "map": ("maps/*", CorruptError),
    "pages": ("packs/*", CorruptError),
    "record": ("gc/*", CorruptError),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_nothing_is_deleted_from_a_store_that_is_damaged(store: OpenStore, what: str) -> None:
    remove_other(store)
    pattern, error = DAMAGES[what]
    for path in place(store).glob(pattern):
        data = bytearray(path.read_bytes())
        for at in range(0, len(data), 97):
            data[at] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
    age(place(store))
    before = objects(place(store))
    with pytest.raises(error):
        collect(open_store(store.url))
    assert objects(place(store)) == before


@pytest.mark.parametrize("folder", ["snapshots", "maps", "packs"])
def test_nothing_is_deleted_from_a_store_that_lacks_something(store: OpenStore, folder: str) -> None:
    remove_other(store)
    for path in (place(store) / folder).iterdir():
        path.unlink()
    age(place(store))
    before = objects(place(store))
    with pytest.raises(NotFoundError):
        collect(open_store(store.url))
    assert objects(place(store)) == before


def remove_other(store: OpenStore) -> None:
    """Leave something that is condemned, and due."""
    made = Path(store.url).parent / "other"
    make_tree(made, 9, files=3)
    store.push(made, "other")
    remove(store, "other")
    age(place(store))
    assert collect(store).condemned > 0
