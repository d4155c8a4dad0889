"""What `sapwood worker --no-lazy` does before a command starts: all of a tree is here, whatever it looks like."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sapwood.errors import CorruptError, NotFoundError, StoppedError, UnavailableError
from sapwood.mount.blobs import BlobMount
from sapwood.reapi.cas import Name
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.worker.complete import bring_all
from sapwood.worker.inputs import Directories
from sapwood.worker.pins import Pins, let_go
from tests.support.reapiclient import digest_of


class Storage:
    """A CAS whose blobs are there, or come when they are asked for one by one, or never."""

    def __init__(self) -> None:
        self.there: dict[Name, bytes] = {}
        self.promised: dict[Name, bytes] = {}
        self.never: set[Name] = set()
        self.closed = threading.Event()
        self.waits = threading.Event()
        # What was read by itself, and how many in each call for many.
        self.alone: list[Name] = []
        self.together: list[int] = []

    def add(self, data: bytes, *, promised: bool = False) -> reapi.Digest:
        (self.promised if promised else self.there)[hashlib.sha256(data).hexdigest(), len(data)] = data
        return digest_of(data)

    def read_small(self, names: Sequence[Name]) -> dict[Name, bytes]:
        return {name: self.there[name] for name in names}

    def read_many(self, names: Sequence[Name]) -> dict[Name, bytes]:
        self.together.append(len(names))
        return self.read_small(names)

    def present(self, names: Sequence[Name]) -> list[Name]:
        return [name for name in names if name in self.there]

    def read(self, name: Name) -> bytes:
        self.alone.append(name)
        if name in self.never:
            self.waits.set()
            self.closed.wait()
            raise StoppedError("closed", kind="stopped")
        found = self.there.get(name) or self.promised.get(name)
        if found is None:
            raise NotFoundError("it is not there", kind="executor-lacks", missing=[name])
        return found

    def close(self) -> None:
        self.closed.set()


@contextmanager
def bringing(home: Path, storage: Any, directory: reapi.Directory) -> Iterator[Any]:
    """What brings all of a tree, and the mount that has it."""
    message = directory.SerializeToString()
    digest = storage.add(message)
    root = digest.hash, digest.size_bytes
    for name in ("place", "changes", "cache"):
        (home / name).mkdir()
    cancel = threading.Event()
    place, changes, cache = home / "place", home / "changes", home / "cache"
    with (
        Pins(cache, "room", "one") as pins,
        BlobMount(root, message, storage, place, changes=changes, cache_dir=cache, lost=cancel.set) as mount,
    ):
        directories = Directories(storage)
        yield lambda: bring_all(root, directories, storage, mount, place, pins, cancel), mount, cancel


def test_a_tree_that_has_a_directory_without_number_is_looked_at_once(tmp_path: Path) -> None:
    storage = Storage()
    below = storage.add(
        reapi.Directory(
            files=[reapi.FileNode(name="file", digest=storage.add(b"data"))],
            symlinks=[reapi.SymlinkNode(name="link", target="/nowhere")],
        ).SerializeToString(),
        promised=True,
    )
    for _ in range(60):
        nodes = [reapi.DirectoryNode(name=name, digest=below) for name in "ab"]
        above = reapi.Directory(directories=nodes)
        below = storage.add(above.SerializeToString())
    with bringing(tmp_path, storage, above) as (bring, mount, _):
        bring()
        storage.there.clear()
        # Where nobody has been, too.
        path = tmp_path / "place"
        for number in range(60):
            path /= "ab"[number % 3 == 0]
        assert (path / "file").read_bytes() == b"data"
        assert mount.lost is None


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    storage = Storage()
    for number, name in enumerate(["..", "", "a/b", "a\0b"]):
        bad = reapi.Directory(files=[reapi.FileNode(name=name, digest=storage.add(b"data"))]).SerializeToString()
        home = tmp_path / str(number)
        home.mkdir()
        top = reapi.Directory(directories=[reapi.DirectoryNode(name="sub", digest=storage.add(bad))])
        with bringing(home, storage, top) as (bring, *_), pytest.raises(CorruptError, match="a name that is none"):
            bring()


def test_a_directory_that_comes_and_is_another_one_is_refused(tmp_path: Path) -> None:
    storage = Storage()
    storage.promised[digest_of(b"one").hash, 3] = b"two"
    top = reapi.Directory(directories=[reapi.DirectoryNode(name="sub", digest=digest_of(b"one"))])
    with bringing(tmp_path, storage, top) as (bring, *_), pytest.raises(CorruptError, match="not what its name says"):
        bring()


def test_it_ends_when_an_input_is_lost_and_when_the_lease_is(tmp_path: Path) -> None:
    storage = Storage()
    top = reapi.Directory(files=[reapi.FileNode(name="file", digest=digest_of(b"nowhere"))])
    (tmp_path / "lost").mkdir()
    with bringing(tmp_path / "lost", storage, top) as (bring, *_), pytest.raises(NotFoundError) as lost:
        bring()
    assert lost.value.kind == "executor-lacks"
    storage.closed.clear()
    storage.never.add((digest_of(b"nowhere").hash, 7))
    (tmp_path / "ended").mkdir()
    with bringing(tmp_path / "ended", storage, top) as (bring, _, cancel):
        threading.Thread(target=lambda: storage.waits.wait() and cancel.set()).start()
        with pytest.raises(StoppedError):
            bring()


def test_what_was_brought_stays_in_the_cache_as_long_as_the_action_runs(tmp_path: Path) -> None:
    storage = Storage()
    datas = [bytes([number]) * 100_000 for number in range(20)]
    deep = reapi.Directory(files=[reapi.FileNode(name="deep", digest=storage.add(datas[0]))]).SerializeToString()
    top = reapi.Directory(
        files=[reapi.FileNode(name=f"f{number:02}", digest=storage.add(data)) for number, data in enumerate(datas)],
        directories=[reapi.DirectoryNode(name="sub", digest=storage.add(deep))],
    )
    cache, other = tmp_path / "cache", tmp_path / "other"

    def kept() -> int:
        return len([path for path in (cache / "objects").rglob("*") if path.is_file() and path.stat().st_size > 50_000])

    with bringing(tmp_path, storage, top) as (bring, *_):
        bring()
        assert kept() == len(datas)
        assert (cache / "mounts" / "worker-room-one.pin").stat().st_size == 37 + 8 * len(datas)
        _hold_to_nothing(cache, other)
        assert kept() == len(datas)
    assert not list((cache / "mounts").glob("*.pin"))
    _hold_to_nothing(cache, other)
    assert kept() < len(datas)


def test_small_files_that_are_there_come_many_in_a_call_and_what_is_kept_is_not_fetched(tmp_path: Path) -> None:
    storage = Storage()
    datas = [b"%d" % number * 1000 for number in range(1200)]
    large, promised = bytes(300_000), b"promised"

    def folder(*files: bytes) -> reapi.Directory:
        nodes = [
            reapi.FileNode(name=f"f{number:04}", digest=storage.add(data, promised=data is promised))
            for number, data in enumerate(files)
        ]
        return reapi.Directory(files=nodes)

    top = folder(*datas)
    for name, data in (("large", large), ("promised", promised)):
        top.directories.add(name=name, digest=storage.add(folder(data).SerializeToString()))
    with bringing(tmp_path, storage, top) as (bring, mount, _):
        assert bring() == sum(map(len, datas))
        assert sorted(storage.alone) == sorted([_name(large), _name(promised)])
        assert len(storage.together) == 3
        storage.alone.clear()
        assert bring() == 0  # all of it is in the cache
        assert (len(storage.together), storage.alone, mount.lost) == (3, [], None)
        assert (tmp_path / "place" / "f0700").read_bytes() == datas[700]


def test_what_cannot_be_fetched_with_others_is_fetched_by_itself(tmp_path: Path) -> None:
    storage = Storage()
    datas = [b"%d" % number for number in range(10)]

    def refuse(_: Sequence[Name]) -> dict[Name, bytes]:
        raise UnavailableError("not now", kind="executor-unreachable")

    storage.read_many = refuse  # type: ignore[method-assign]
    nodes = [reapi.FileNode(name=f"f{number}", digest=storage.add(data)) for number, data in enumerate(datas)]
    with bringing(tmp_path, storage, reapi.Directory(files=nodes)) as (bring, mount, _):
        assert bring() == 0
        assert sorted(storage.alone) == sorted(map(_name, datas))
        assert mount.lost is None


def _name(data: bytes) -> Name:
    return hashlib.sha256(data).hexdigest(), len(data)


def test_pins_of_a_worker_that_was_killed_are_let_go(tmp_path: Path) -> None:
    killed, alive = (Pins(tmp_path, room, "one") for room in ("killed", "alive"))
    killed.__enter__()
    with alive:
        let_go(tmp_path, "killed")
        assert [path.name for path in (tmp_path / "mounts").iterdir()] == ["worker-alive-one.pin"]


def _hold_to_nothing(cache: Path, home: Path) -> None:
    """Let somebody else who uses the cache hold it to nearly nothing."""
    for name in ("place", "changes"):
        (home / name).mkdir(parents=True, exist_ok=True)
    storage, message = Storage(), reapi.Directory(symlinks=[reapi.SymlinkNode(name="a", target="b")])
    root = storage.add(message.SerializeToString())
    with BlobMount(
        (root.hash, root.size_bytes),
        message.SerializeToString(),
        storage,
        home / "place",
        changes=home / "changes",
        cache_dir=cache,
        lost=int,
    ) as mount:
        mount._server.tidy(1)
