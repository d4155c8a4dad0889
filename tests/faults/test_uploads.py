"""Uploads of packs: several at a time, bounded, ended by the first error, noted only when stored."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.digests import PackName
from sapwood.errors import UnavailableError
from sapwood.open import OpenStore
from sapwood.store import Store
from sapwood.store.lease import clock_s
from sapwood.upload import Uploads
from tests.support.objects import assert_whole
from tests.support.requests import settle
from tests.support.trees import MIB, differences, noise

# What the core has memory for, and how many of them may be on their way to the store.
PACKS_IN_MEMORY, AT_ONCE = 6, 4
PACKS = 10


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contents for so many packs, all but incompressible."""
    root = tmp_path_factory.mktemp("tree") / "tree"
    root.mkdir()
    for number in range(8 * PACKS - 4):
        (root / f"large-{number}").write_bytes(noise(2 * MIB, number))
    return root


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


def around_put(monkeypatch: pytest.MonkeyPatch, put: Callable[[Callable[[], None]], None]) -> None:
    """Let `put` call what puts a pack, when and if it likes."""
    whole = Store.put_pack

    def wrapped(self: Store, name: PackName, data: bytes | memoryview) -> None:
        put(lambda: whole(self, name, data))

    monkeypatch.setattr(Store, "put_pack", wrapped)


def count_packs(monkeypatch: pytest.MonkeyPatch) -> list[PackName]:
    """Return a list that gets the name of each pack that the core gives out."""
    given: list[PackName] = []
    add = Uploads.add

    def wrapped(self: Uploads, name: PackName, *rest: Any) -> None:
        given.append(name)
        add(self, name, *rest)

    monkeypatch.setattr(Uploads, "add", wrapped)
    return given


def test_several_packs_are_on_their_way_at_a_time(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(AT_ONCE)
    begun: list[None] = []

    def put(go_on: Callable[[], None]) -> None:
        begun.append(None)
        if len(begun) <= AT_ONCE:
            together.wait(60)
        go_on()

    around_put(monkeypatch, put)
    assert store.push(tree, "main").packs_sent == len(begun) > PACKS
    store.pull("main", tmp_path / "out")
    assert differences(tree, tmp_path / "out") == []


def test_while_no_upload_ends_no_more_packs_are_made_than_there_is_memory_for(
    store: OpenStore, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, others = count_packs(monkeypatch), threading.enumerate()
    ended = threading.Event()

    def put(_: object) -> None:
        assert ended.wait(60)

    around_put(monkeypatch, put)
    seen: list[int] = []

    def progress(_: object) -> None:
        # A tick is a tenth of a second without a pack: ten of them, and none comes any more.
        seen.append(len(given))
        if seen[-10:] == [PACKS_IN_MEMORY] * 10:
            raise Stop

    with pytest.raises(Stop):
        store.push(tree, "main", progress=progress)
    assert len(given) == PACKS_IN_MEMORY
    ended.set()
    settle(others)


@pytest.mark.parametrize("failing", [1, 3, PACKS])
def test_an_upload_that_fails_ends_the_push_which_then_goes_on_from_what_was_stored(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    count = 0
    counting = threading.Lock()
    others = threading.enumerate()
    stored: list[None] = []

    def put(go_on: Callable[[], None]) -> None:
        nonlocal count
        with counting:
            count += 1
            if count == failing:
                raise UnavailableError("no", kind="unavailable")
        go_on()
        stored.append(None)

    with monkeypatch.context() as patch:
        around_put(patch, put)
        with pytest.raises(UnavailableError, match="no"):
            store.push(tree, "main")
        # The others are waited for only so long, and a busy disk takes longer.
        settle(others)
    assert_whole(Path(store.url))
    assert store.refs() == []
    noted = store.pending()
    assert failing - AT_ONCE < len(noted) == len(stored)
    given = count_packs(monkeypatch)
    pushed = store.push(tree, "main")
    assert pushed.packs_sent == len(given)
    assert pushed.chunk_bytes_sent < (PACKS + 1 - len(noted)) * 17 * MIB
    store.pull("main", tmp_path / "out")
    assert differences(tree, tmp_path / "out") == []


def test_a_pack_that_comes_when_all_was_ended_begins_nothing(store: OpenStore) -> None:
    objects, others = Store.open(store.url), threading.enumerate()
    with objects.term("0" * 16, clock_s()) as term:
        uploads = Uploads(objects, term)
        with pytest.raises(Stop), uploads:
            raise Stop
        uploads.add(PackName("1" * 64), memoryview(b"pack"), b"fragment")
    assert uploads.sent == []
    begun = set(threading.enumerate()).difference(others)
    assert not [thread for thread in begun if thread.name == "sapwood-upload"]


def test_of_what_a_busy_disk_has_half_written_nothing_has_a_name_when_the_push_ends(
    store: OpenStore, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, awake = threading.Semaphore(0), threading.Event()
    fsync = os.fsync

    def busy(file: int) -> None:
        if threading.current_thread().name == "sapwood-upload" and stat.S_ISREG(os.fstat(file).st_mode):
            writing.release()
            assert awake.wait(60)
        fsync(file)

    def progress(_: object) -> None:
        if writing.acquire(blocking=False):
            raise Stop

    monkeypatch.setattr(os, "fsync", busy)
    with pytest.raises(Stop):
        store.push(tree, "main", progress=progress)
    writers = [thread for thread in threading.enumerate() if thread.name == "sapwood-upload"]
    assert writers
    assert_whole(Path(store.url))
    assert store.packs() == set()
    awake.set()
    for writer in writers:
        writer.join(60)
    assert_whole(Path(store.url))
