"""Collection meets others: pushers, readers, taggers, collectors, at the worst moment; damage, and the end of its time.

The moment is chosen by acting before a certain request of the collection is made, so each story is always the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store, open_tree
from sapwood.errors import UnavailableError
from sapwood.open import OpenStore
from sapwood.upkeep import gc
from sapwood.upkeep.forget import forget, remove, tag
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from tests.support.collecting import age, assert_reads_back, objects, place, two_versions
from tests.support.mounting import mounted, shell
from tests.support.racing import race
from tests.support.requests import Asked, meddling


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    """A store a day old; of two versions of a tree, of which little is the same, the first is forgotten."""
    made = two_versions(tmp_path)
    forget(made, Rules(last=1))
    age(place(made))
    return made


@pytest.fixture
def tree(store: OpenStore, tmp_path: Path) -> Path:
    return tmp_path / "tree"


def packs(store: OpenStore) -> set[str]:
    return {key for key in objects(place(store)) if key.endswith(".tar.zst") and key.startswith("packs/")}


def before(
    verb: str, folder: str, act: Callable[[], object], *, nth: int = 1
) -> Callable[[Asked, Callable[[], Any]], Any]:
    """Do something once, before the nth request of this verb in this folder is made."""
    numbers = itertools.count(1)

    def meddle(asked: Asked, call: Callable[[], Any]) -> Any:
        if asked.verb == verb and asked.key.startswith(folder) and next(numbers) == nth:
            act()
        return call()

    return meddle


def anew(store: OpenStore) -> OpenStore:
    """The store as another process opens it."""
    return open_store(store.url)


# Damage


def test_a_pack_whose_living_frames_are_damaged_stays_where_it_is(store: OpenStore, tree: Path) -> None:
    kept = (tree / "folder-0" / "file-0").read_bytes()
    [path] = [path for path in (place(store) / "packs").iterdir() if kept[:64] in path.read_bytes()]
    data = bytearray(path.read_bytes())
    data[data.index(kept[:64])] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    age(place(store))
    done = collect(store)
    assert done.moved == 0
    assert f"packs/{path.name}" in packs(store)
    assert not [key for key in objects(place(store)) if key.endswith(".moved")]


def test_what_arrives_damaged_once_is_moved_as_it_is_stored(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    def meddle(asked: Asked, call: Callable[[], Any]) -> Any:
        reply = call()
        if asked.verb == "get_ranges" and max(map(len, reply)) > 100_000 and next(sound, False):
            reply = [bytes(len(part)) for part in reply]
        return reply

    sound = iter([True])
    with meddling(meddle):
        assert collect(anew(store)).moved == 1
    assert not next(sound, False)
    age(place(store))
    assert collect(store).deleted > 0
    assert_reads_back(anew(store), "main", tree, tmp_path / "out")


def test_what_lives_in_a_moved_pack_can_be_tagged_at_once(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    assert collect(store).moved == 1
    tag(store, store.read_snapshot(store.read_ref("main").snapshot), "kept", of="main")
    remove(store, "main")
    for _ in range(3):
        age(place(store))
        collect(store)
    assert_reads_back(anew(store), "kept", tree, tmp_path / "out")


# The time of a collection


def test_a_listing_that_does_not_show_what_was_put_ends_the_run(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "_PAUSE_S", 0.0)
    kept = objects(place(store))

    def meddle(asked: Asked, call: Callable[[], Any]) -> Any:
        return [] if asked.verb == "listed" and asked.key == "gc" else call()

    with meddling(meddle), pytest.raises(UnavailableError) as late:
        collect(anew(store))
    assert late.value.kind == "listing-late"
    assert objects(place(store)) == kept


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_what_a_run_has_no_time_for_is_left_to_the_next(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    now_s = 0.0
    monkeypatch.setattr(gc, "clock_s", lambda: now_s)

    def sleep() -> None:
        nonlocal now_s
        now_s += share * store.grace_s

    kept = objects(place(store))
    with meddling(before("get", "snapshots", sleep)):
        done = collect(anew(store))
    assert (done.finished, done.moved) == (False, 0)
    assert kept <= objects(place(store))
    condemned = collect(store).waiting
    age(place(store))
    now_s = 0.0
    with meddling(before("get", "snapshots", sleep)):
        done = collect(anew(store))
    assert (done.finished, done.deleted > 0) == (False, share < 1 / 2)
    assert done.deleted + collect(store).deleted == condemned
    assert_reads_back(anew(store), "main", tree, tmp_path / "out")


# Collectors


def test_two_collectors_at_once_lose_nothing(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    for _ in range(5):
        for ended in race(3, lambda _: collect(anew(store))):
            # One may find a record of another gone between listing and reading it; that is no error.
            assert not isinstance(ended, Exception), ended
        assert_reads_back(anew(store), "main", tree, tmp_path / "out")
        age(place(store))
    assert not any(key.startswith("gc/") for key in objects(place(store)))
    assert len([key for key in objects(place(store)) if key.startswith("snapshots/")]) == 1


MOMENTS = {
    "clock put": ("put", "gc"),
    "refs listed": ("list", "refs"),
    "before the redirect": ("swap", "packs"),
    "before the fragment": ("put", "index"),
    "before the record": ("put", "gc/", 2),
    "before the first deletion": ("delete", ""),
}


@pytest.mark.parametrize("when", MOMENTS)
def test_a_collector_that_comes_between_the_steps_of_another_loses_nothing(
    store: OpenStore, tree: Path, tmp_path: Path, when: str
) -> None:
    verb, folder, *nth = MOMENTS[when]
    for _ in range(4):
        with meddling(before(verb, folder, lambda: collect(open_store(store.url)), nth=(nth or [1])[0])):
            collect(anew(store))
        assert_reads_back(anew(store), "main", tree, tmp_path / "out")
        age(place(store))
    collect(store)
    assert_reads_back(anew(store), "main", tree, tmp_path / "out")


# Pushers


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("machine", ["the same", "another"])
def test_a_push_of_what_is_being_condemned_is_whole_for_ever(
    store: OpenStore, tree: Path, tmp_path: Path, when: str, machine: str
) -> None:
    verb, folder, *nth = MOMENTS[when]
    first = tmp_path / "first"

    def push() -> None:
        cache = tmp_path / "elsewhere" if machine == "another" else None
        # What was forgotten comes back: all its chunks are in packs that are about to be moved or deleted.
        open_store(store.url, cache_dir=cache).push(first, "back")

    with meddling(before(verb, folder, push, nth=(nth or [1])[0])):
        collect(anew(store))
    if "back" not in [ref.name for ref in store.refs()]:
        push()
    for _ in range(4):
        assert_reads_back(anew(store), "main", tree, tmp_path / "out")
        assert_reads_back(anew(store), "back", first, tmp_path / "out")
        age(place(store))
        collect(anew(store))
    assert_reads_back(anew(store), "back", first, tmp_path / "out")


def test_a_push_that_began_before_what_it_re_uses_was_condemned_wins(
    store: OpenStore, tree: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    # It has listed what is condemned, and puts its snapshot only after a whole collection.
    with meddling(before("put", "snapshots", lambda: collect(open_store(store.url)))):
        pushed = anew(store).push(first, "back")
    assert pushed.chunks_sent < 4
    for _ in range(4):
        age(place(store))
        collect(anew(store))
        assert_reads_back(anew(store), "main", tree, tmp_path / "out")
        assert_reads_back(anew(store), "back", first, tmp_path / "out")


def test_what_is_condemned_is_sent_again(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    collect(store)
    first = tmp_path / "first"
    pushed = open_store(store.url, cache_dir=tmp_path / "elsewhere").push(first, "back")
    assert pushed.chunks_sent > 9
    age(place(store))
    assert collect(anew(store)).deleted > 0
    assert_reads_back(anew(store), "back", first, tmp_path / "out")


# Readers


def test_mounts_and_pulls_go_on_while_what_they_read_is_moved_and_deleted(
    store: OpenStore, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    reader = anew(store)
    pinned = open_tree(f"{store.url}#main@{store.read_ref('main').snapshot}")
    with mounted(f"{store.url}#main", tmp_path / "mount", cache_dir):
        kept = packs(store)
        assert shell(f"cmp {tree}/folder-0/file-0 {tmp_path}/mount/folder-0/file-0 && echo same").stdout == "same\n"
        for _ in range(2):
            collect(store)
            age(place(store))
        assert kept - packs(store)
        assert shell(f"diff -r {tree} {tmp_path}/mount && echo same").stdout == "same\n"
        assert [*pinned.items] == [b"folder-0", b"folder-1", b"folder-2"]
    assert_reads_back(reader, "main", tree, tmp_path / "out")


def test_a_pull_goes_on_when_packs_are_deleted_in_the_middle_of_it(
    store: OpenStore, tree: Path, tmp_path: Path
) -> None:
    collect(store)
    age(place(store))
    with meddling(before("get_ranges", "packs", lambda: collect(open_store(store.url)), nth=2)):
        reader = anew(store)
        kept = packs(store)
        assert_reads_back(reader, "main", tree, tmp_path / "out")
    assert kept - packs(store)
