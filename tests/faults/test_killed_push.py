"""Pushes that are killed after any of their writes: nothing acknowledged is lost, and nothing is sent again."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.digests import PackName
from sapwood.open import OpenStore
from sapwood.store import Store
from sapwood.store.fragments import LocalState
from sapwood.store.local import LocalObjects
from tests.support.child import Killed, die, in_child
from tests.support.objects import assert_whole, chunks_of
from tests.support.trees import MIB, differences, noise

# Three packs of contents and one of pages; then fragment, file map, snapshot, ref.
PACKS, WRITES = 4, 8
LARGE_BYTES = 18 * 2 * MIB


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    (root / "small").write_text("old")
    (root / "folder" / "kept").write_bytes(noise(3 * MIB, 1))
    return root


@pytest.fixture
def store(tmp_path: Path, tree: Path) -> OpenStore:
    """A store with a first push of the tree, which is then edited so that much is missing."""
    made = open_store(str(tmp_path / "store"), create=True)
    made.push(tree, "main")
    made.pull("main", tmp_path / "old")
    (tree / "small").write_text("new")
    for number in range(LARGE_BYTES // (2 * MIB)):
        (tree / "folder" / f"large-{number}").write_bytes(noise(2 * MIB, 100 + number))
    return made


def count_writes(monkeypatch: pytest.MonkeyPatch, at: Callable[[int], None]) -> None:
    """Call `at` with its number after each write that a local store has acknowledged."""
    count, guard = 0, threading.Lock()

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(self: LocalObjects, key: str, *rest: object) -> Any:
            nonlocal count
            written = write(self, key, *rest)
            with guard:  # packs are put several at a time
                count += 1
                at(count)
            return written

        return wrapped

    monkeypatch.setattr(LocalObjects, "put", counted(LocalObjects.put))
    monkeypatch.setattr(LocalObjects, "swap", counted(LocalObjects.swap))


def push_killed_after(store: OpenStore, tree: Path, writes: int) -> None:
    def push() -> None:
        with pytest.MonkeyPatch.context() as patch:
            count_writes(patch, lambda count: die() if count == writes else None)
            # One at a time, or it would not be known which are noted when the push dies.
            patch.setattr("sapwood.upload._AT_ONCE", 1)
            store.push(tree, "main")

    with pytest.raises(Killed):
        in_child(push)


def test_a_push_makes_the_writes_that_it_is_killed_after_below(
    store: OpenStore, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    count_writes(monkeypatch, counts.append)
    assert store.push(tree, "main").packs_sent == PACKS
    assert counts == list(range(1, WRITES + 1))


@pytest.mark.parametrize("writes", range(1, WRITES + 1))
def test_killed_after_any_write_the_old_tree_is_whole_and_the_next_push_goes_on_from_there(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    push_killed_after(store, tree, writes)
    assert_whole(Path(store.url))
    store.pull("main", tmp_path / "after")
    assert differences(tree if writes == WRITES else tmp_path / "old", tmp_path / "after") == []

    # The push was not told any more that its last pack is stored; of all before it that was noted.
    noted = store.pending()
    assert len(noted) == min(writes - 1, PACKS)
    sent: set[bytes] = set()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "keep_pending", lambda self, name, fragment: sent.update(chunks_of(fragment)))
        pushed = open_store(store.url).push(tree, "main")
    assert all(sent.isdisjoint(chunks_of(fragment)) for fragment in noted.values())
    # At least the outline, unless there is nothing to do.
    assert pushed.packs_sent <= max(1, PACKS - len(noted))
    assert pushed.chunks_sent == 0 or len(noted) < PACKS
    assert pushed.unchanged == (writes == WRITES)

    store.pull("main", tmp_path / "new")
    assert differences(tree, tmp_path / "new") == []
    assert store.pending() == {}
    again = store.push(tree, "main")
    assert (again.unchanged, again.chunks_sent, again.bytes_stored) == (True, 0, 0)


def test_a_push_that_is_killed_several_times_gets_there(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    # What the last one sent is not sent again, so each gets further with as many writes.
    for writes in (1, 2, 3, 3):
        push_killed_after(store, tree, writes)
        assert store.snapshot("main").entries == 4
    assert store.push(tree, "main").chunks_sent == 0
    store.pull("main", tmp_path / "new")
    assert differences(tree, tmp_path / "new") == []


def test_a_pack_that_is_noted_but_gone_is_sent_again(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    push_killed_after(store, tree, PACKS)
    gone = next(iter(store.pending()))
    (Path(store.url) / "packs" / f"{gone}.tar.zst").unlink()
    store.push(tree, "main")
    store.pull("main", tmp_path / "new")
    assert differences(tree, tmp_path / "new") == []


@pytest.mark.parametrize("at", [0, 8, 16, 40, 64 + 1, 64 + 33, 64 + 37, 64 + 41, 64 + 45, 64 + 49, 64 + 53, -1])
def test_a_note_of_a_pack_that_was_damaged_costs_time_and_no_more(
    store: OpenStore, tree: Path, tmp_path: Path, cache_dir: Path, at: int
) -> None:
    push_killed_after(store, tree, PACKS)
    for note in (cache_dir / "stores" / store.id / "pending").iterdir():
        data = bytearray(note.read_bytes())
        data[at] ^= 1
        note.write_bytes(data)
    store.push(tree, "main")
    store.pull("main", tmp_path / "new")
    assert differences(tree, tmp_path / "new") == []
    assert list((cache_dir / "stores" / store.id / "pending").iterdir()) == []


@pytest.mark.parametrize("notes", range(1, PACKS))
def test_of_packs_that_are_sent_together_those_that_are_noted_are_not_sent_again(
    store: OpenStore, tree: Path, tmp_path: Path, cache_dir: Path, notes: int
) -> None:
    keep_pending = LocalState.keep_pending
    numbers = itertools.count(1)

    def noting(self: LocalState, pack: PackName, fragment: bytes) -> None:
        keep_pending(self, pack, fragment)
        if next(numbers) == notes:
            die()

    def push() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LocalState, "keep_pending", noting)
            store.push(tree, "main")

    with pytest.raises(Killed):
        in_child(push)
    noted = {path.name.partition("-")[0] for path in cache_dir.rglob("pending/*.frag")}
    assert len(noted) >= notes
    sizes = {pack: (Path(store.url) / "packs" / f"{pack}.tar.zst").stat().st_size for pack in noted}
    # Pages name the packs of contents, so those of a push that did not store all of them are of no use to the next.
    contents = {pack for pack in noted if sizes[pack] > MIB}
    again = store.push(tree, "main")
    assert contents <= set(store.snapshot("main").packs)
    # What was not noted, and pages; noise is not compressed.
    assert again.chunk_bytes_sent < LARGE_BYTES + MIB - sum(sizes[pack] for pack in contents)
    store.pull("main", tmp_path / "out")
    assert differences(tree, tmp_path / "out") == []
