"""Local stores when processes die, disks fill and permissions are missing."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sapwood.digests import MapDigest, PackName, SnapshotDigest
from sapwood.errors import ConflictError, DeniedError, UnavailableError
from sapwood.store import Ref, Store, open_store
from sapwood.store.local import LocalObjects
from tests.support.child import Killed, die, drop_privileges, in_child
from tests.support.snapshots import digest, make_snapshot
from tests.support.storeplaces import LocalPlace

A, B = (digest(SnapshotDigest, text) for text in "AB")
PACK = PackName("0" * 64)

WRITES: dict[str, Callable[[Store], object]] = {
    "put_pack": lambda store: store.put_pack(PACK, b"pack" * 10_000),
    "put_map": lambda store: store.put_map(digest(MapDigest, "map"), b"map" * 10_000),
    "write_snapshot": lambda store: store.write_snapshot(make_snapshot(source="/" * 20_000)),
    "move_ref": lambda store: store.move_ref("main", B, store.read_ref("main")),
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


@pytest.fixture
def store(local_place: LocalPlace) -> Store:
    store = open_store(local_place.url, create=True)
    store.move_ref("main", A, None)
    return store


def contents(root: Path) -> dict[str, bytes]:
    """Return every file that has a name in the store; what is in tmp/ has none."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files if path.parent != root / "tmp"}


def die_at(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr(os, call, die)


@pytest.fixture(params=["nameless", "named"])
def half_written(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a file is while it is being written: nameless, or, as some file systems know only those, named."""
    if request.param == "named":
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # a directory opened to be written: EISDIR, as they say
    return str(request.param)


@every_write
@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
def test_killed_before_the_name_is_given_the_store_is_as_it_was(
    store: Store, local_place: LocalPlace, half_written: str, write: Callable[[Store], object], moment: str
) -> None:
    before = contents(local_place.root)

    def killed() -> None:
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, moment)
            write(store)

    with pytest.raises(Killed) as killing:
        in_child(killed)
    assert killing.value.args == (-signal.SIGKILL,)
    assert contents(local_place.root) == before
    if half_written == "nameless" and moment != "rename":
        assert list((local_place.root / "tmp").iterdir()) == []
    # And the next one is not in its way.
    write(open_store(local_place.url))
    assert contents(local_place.root) != before


def test_killed_while_making_a_store_leaves_a_place_where_one_can_be_made(local_place: LocalPlace) -> None:
    def killed() -> None:
        with pytest.MonkeyPatch.context() as patch:
            die_at(patch, "rename")
            open_store(local_place.url, create=True)

    with pytest.raises(Killed):
        in_child(killed)
    assert list((local_place.root / "tmp").iterdir())
    assert open_store(local_place.url, create=True).refs() == []


def test_a_tmp_of_somebody_else_is_not_taken_for_ours(local_place: LocalPlace) -> None:
    local_place.overwrite("tmp/thesis.txt", b"all my work")
    assert not LocalObjects(local_place.root).is_empty()


def test_what_killed_writers_left_is_swept_away_after_a_day(store: Store, local_place: LocalPlace) -> None:
    temporary = local_place.root / "tmp"
    old, new, foreign = temporary / f"1-{'a' * 16}", temporary / f"1-{'b' * 16}", temporary / "notes"
    for path in (old, new, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (0, 0))
    open_store(local_place.url).put_pack(PACK, b"pack")
    assert sorted(temporary.iterdir()) == sorted([new, foreign])


@every_write
def test_bytes_are_synced_before_they_have_a_name_and_the_name_before_it_is_told(
    local_place: LocalPlace, half_written: str, monkeypatch: pytest.MonkeyPatch, write: Callable[[Store], object]
) -> None:
    open_store(local_place.url, create=True).move_ref("main", A, None)
    store = open_store(local_place.url)
    calls: list[tuple[str, int]] = []
    targets: list[Path] = []
    fsync, rename = os.fsync, os.rename

    def traced_fsync(file: int) -> None:
        calls.append(("sync", os.fstat(file).st_ino))
        fsync(file)

    def traced_rename(source: Path, target: Path) -> None:
        targets.append(target)
        calls.append(("name", source.stat().st_ino))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "rename", traced_rename)
    write(store)
    (target,) = targets
    written = target.stat().st_ino
    assert calls.index(("sync", written)) < calls.index(("name", written))
    assert calls[calls.index(("name", written)) + 1 :] == [("sync", target.parent.stat().st_ino)]
    # The folder's own name, and those above it, are durable as well.
    for folder in (target.parent, *target.parent.parents):
        if folder == local_place.root.parent:
            break
        assert ("sync", folder.parent.stat().st_ino) in calls


def test_every_folder_that_a_new_store_needs_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[Path] = set()
    fsync = os.fsync

    def traced(file: int) -> None:
        synced.add(Path(os.readlink(f"/proc/self/fd/{file}")))
        fsync(file)

    monkeypatch.setattr(os, "fsync", traced)
    open_store(str(tmp_path / "a/b/store"), create=True)
    assert {tmp_path, tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/store"} <= synced


def test_a_store_below_a_folder_that_may_only_be_crossed_is_written(tmp_path: Path) -> None:
    above = tmp_path / "above"
    url = str(above / "store")
    open_store(url, create=True)

    def unprivileged() -> Ref:
        drop_privileges()
        return open_store(url).move_ref("main", A, None)

    above.chmod(0o111)
    try:
        assert in_child(unprivileged).snapshot == A
    finally:
        above.chmod(0o755)


def test_folders_are_not_synced_again_with_each_object(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put_pack(PACK, b"one")
    synced = 0
    fsync = os.fsync

    def counted(file: int) -> None:
        nonlocal synced
        synced += 1
        fsync(file)

    monkeypatch.setattr(os, "fsync", counted)
    for number in range(10):
        store.put_pack(PackName(f"{number:064}"[::-1]), b"pack")
    assert synced <= 20  # the object and its folder


@every_write
def test_a_place_that_may_not_be_written_is_denied(
    store: Store, local_place: LocalPlace, write: Callable[[Store], object]
) -> None:
    before = contents(local_place.root)

    def unprivileged() -> None:
        drop_privileges()
        write(open_store(local_place.url))

    folders = [local_place.root, *(path for path in local_place.root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    (local_place.root / "refs.lock").chmod(0o444)
    try:
        with pytest.raises(DeniedError) as denied:
            in_child(unprivileged)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert denied.value.kind == "store-denied"
    assert local_place.url in str(denied.value)
    assert contents(local_place.root) == before


def test_a_place_that_may_not_be_read_is_denied(store: Store, local_place: LocalPlace) -> None:
    def unprivileged() -> None:
        drop_privileges()
        open_store(local_place.url)

    (local_place.root / "sapwood.json").chmod(0)
    with pytest.raises(DeniedError, match=r"sapwood\.json"):
        in_child(unprivileged)


@every_write
def test_a_full_disk_is_said_to_be_full_and_changes_nothing(
    store: Store, local_place: LocalPlace, write: Callable[[Store], object]
) -> None:
    before = contents(local_place.root)

    def limited() -> None:
        # The limit on a file's size fails a write in its middle, as a full disk does, and needs no disk to fill.
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
        write(store)

    with pytest.raises(UnavailableError) as full:
        in_child(limited)
    assert full.value.kind == "disk-full"
    assert full.value.hint == f"df -h {store.url}"
    assert contents(local_place.root) == before
    assert list((local_place.root / "tmp").iterdir()) == []


def test_a_lock_that_is_never_given_back_is_named(
    store: Store, local_place: LocalPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sapwood.store.local._LOCK_PATIENCE_S", 0.05)
    with LocalObjects(local_place.root)._locked("refs/main.ref"), pytest.raises(UnavailableError) as locked:
        WRITES["move_ref"](store)
    assert locked.value.kind == "ref-locked"
    assert store.read_ref("main").snapshot == A


def test_of_racing_processes_one_moves_the_ref(store: Store, local_place: LocalPlace) -> None:
    old = store.read_ref("main")
    racers = 8
    forking = multiprocessing.get_context("fork")
    start, said = forking.Barrier(racers), forking.SimpleQueue()

    def move() -> None:
        own = open_store(local_place.url)
        start.wait()
        try:
            said.put(own.move_ref("main", B, old).nonce)
        except ConflictError as error:
            said.put(error.kind)

    processes = [forking.Process(target=move) for _ in range(racers)]
    for process in processes:
        process.start()
    outcomes = [said.get() for _ in processes]
    for process in processes:
        process.join()
    winners = [outcome for outcome in outcomes if outcome != "ref-moved"]
    assert winners == [store.read_ref("main").nonce]
