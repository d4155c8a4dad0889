"""What a worker is made of: mounts of blobs that come as they are read, outputs, and its command."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2

from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, StoppedError, UnavailableError
from sapwood.mount.blobs import Blob, BlobMount
from sapwood.reapi.cas import Name, Open
from sapwood.reapi.channel import connect
from sapwood.reapi.protocol import bots_pb2 as bots
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.worker import alone
from sapwood.worker.action import Done
from sapwood.worker.outputs import declared, make_room, send
from sapwood.worker.session import Ending, Session
from tests.support.cli import Sapwood
from tests.support.reapiclient import digest_of


def name_of(data: bytes) -> Blob:
    return hashlib.sha256(data).hexdigest(), len(data)


class Shelf:
    """Blobs that are there, others that come when they are given, and files for those that are large."""

    def __init__(self, directory: Path, *there: bytes) -> None:
        self._directory = directory
        self._given = threading.Condition()
        self.there = {name_of(data): data for data in there}
        self.read_by_name: list[bytes] = []
        self.lost: dict[Blob, BaseException] = {}
        self.waits = 0
        self._closed = False

    def give(self, data: bytes) -> None:
        with self._given:
            self.there[name_of(data)] = data
            self._given.notify_all()

    def lose(self, data: bytes, error: BaseException) -> None:
        with self._given:
            self.lost[name_of(data)] = error
            self._given.notify_all()

    def wait_for_readers(self, number: int) -> None:
        with self._given:
            assert self._given.wait_for(lambda: self.waits >= number, 60)

    def read(self, blob: Blob) -> bytes | Path:
        with self._given:
            self.waits += 1
            self._given.notify_all()
            self._given.wait_for(lambda: blob in self.there or blob in self.lost or self._closed)
            if self._closed:
                raise StoppedError("closed", kind="stopped")
            if blob in self.lost:
                raise self.lost[blob]
            data = self.there[blob]
            self.read_by_name.append(data)
        if len(data) < 1 << 20:
            return data
        path = self._directory / f"{blob[0]}-{len(self.read_by_name)}"
        path.write_bytes(data)
        return path

    def present(self, blobs: Sequence[Blob]) -> list[Blob]:
        return [blob for blob in blobs if blob in self.there]

    def read_many(self, blobs: Sequence[Blob]) -> dict[Blob, bytes]:
        return {blob: self.there[blob] for blob in blobs}

    def close(self) -> None:
        with self._given:
            self._closed = True
            self._given.notify_all()


class Tree:
    """A tree of one directory of files, mounted."""

    def __init__(self, home: Path, **files: bytes) -> None:
        nodes = [
            reapi.FileNode(name=name.replace("_", "."), digest=digest_of(data)) for name, data in sorted(files.items())
        ]
        message = reapi.Directory(files=nodes).SerializeToString()
        for name in ("place", "changes", "tmp"):
            (home / name).mkdir()
        self.shelf = Shelf(home / "cache" / "tmp")
        self.told = threading.Event()
        (home / "cache" / "tmp").mkdir(parents=True)
        self.mount = BlobMount(
            name_of(message), message, self.shelf, home / "place", changes=home / "changes",
            cache_dir=home / "cache", lost=self.told.set,
        )  # fmt: skip
        self.place = home / "place"

    def __enter__(self) -> Tree:
        self.mount.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.mount.end()


class Reading(threading.Thread):
    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self.data: bytes | OSError = b""
        self.start()

    def run(self) -> None:
        try:
            self.data = self._path.read_bytes()
        except OSError as error:
            self.data = error

    def result(self) -> bytes | OSError:
        self.join(60)
        assert not self.is_alive()
        return self.data


def test_a_blob_that_has_not_come_holds_up_no_other_and_what_nobody_reads_is_not_asked_for(tmp_path: Path) -> None:
    large = os.urandom(5 << 20)
    with Tree(tmp_path, a=b"a", b_x=b"b", c_y=b"c", large=large) as tree:
        waiting = Reading(tree.place / "a")
        tree.shelf.wait_for_readers(1)
        tree.shelf.give(b"b")
        tree.shelf.give(large)
        assert (tree.place / "b.x").read_bytes() == b"b"
        assert (tree.place / "large").read_bytes() == large
        tree.shelf.give(b"a")
        assert waiting.result() == b"a"
        assert tree.mount.blocked_s > 0
        (tree.place / "b.x").write_bytes(b"changed")
        os.rename(tree.place / "a", tree.place / "c.y")
        assert (tree.place / "c.y").read_bytes() == b"a"
        # Nothing of `c`, which was only replaced.
        assert tree.mount.stats()["bytes_fetched"] == len(large) + 2
    assert os.listdir(tree.place) == []
    assert not any(path.is_file() for path in (tmp_path / "cache" / "tmp").iterdir())


def test_what_is_there_is_fetched_ahead_of_who_reads_and_of_another_mount_not_at_all(tmp_path: Path) -> None:
    files = {name: name.encode() * 100 for name in "abcdef"}
    with Tree(tmp_path, **files) as tree:
        for data in files.values():
            tree.shelf.give(data)
        for name, data in files.items():
            assert (tree.place / name).read_bytes() == data
        assert tree.mount.stats()["bytes_fetched"] == 600
    again = tmp_path / "again"
    again.mkdir()
    os.symlink(tmp_path / "cache", again / "cache")
    (tmp_path / "cache" / "tmp").rmdir()
    with Tree(again, **files) as tree:
        assert (tree.place / "a").read_bytes() == files["a"]
        assert tree.mount.stats()["bytes_fetched"] == 0


def test_what_is_only_promised_is_asked_for_ahead_of_who_reads_if_it_is_little(tmp_path: Path) -> None:
    little, large = os.urandom(1000), os.urandom(200_000)
    with Tree(tmp_path, a=b"a", b=little, c=large) as tree:
        waiting = Reading(tree.place / "a")
        tree.shelf.wait_for_readers(2)
        tree.shelf.give(b"a")
        tree.shelf.give(little)
        assert waiting.result() == b"a"
        assert (tree.place / "b").read_bytes() == little
        assert tree.shelf.waits == 2
        assert sorted(tree.shelf.read_by_name, key=len) == [b"a", little]
        # From now on it is there, and may come with others before somebody reads it.
        tree.shelf.give(large)
        assert (tree.place / "c").read_bytes() == large


def test_a_lost_input_is_eio_for_who_waits_for_it_and_is_told_once(tmp_path: Path) -> None:
    with Tree(tmp_path, a=b"a", b=b"b") as tree:
        waiting = Reading(tree.place / "a")
        tree.shelf.wait_for_readers(1)
        tree.shelf.lose(b"a", NotFoundError("nobody has it", kind="executor-lacks"))
        assert isinstance(waiting.result(), OSError)
        assert tree.told.wait(60)
        assert str(tree.mount.lost) == "nobody has it"
        tree.shelf.give(b"b")
        assert (tree.place / "b").read_bytes() == b"b"


def test_what_arrives_damaged_is_asked_for_once_more_and_then_lost(tmp_path: Path) -> None:
    with Tree(tmp_path, a=b"right") as tree:
        tree.shelf.there[name_of(b"right")] = b"wrong"
        assert isinstance(Reading(tree.place / "a").result(), OSError)
        assert isinstance(tree.mount.lost, CorruptError)
    assert set(tree.shelf.read_by_name) == {b"wrong"}
    assert len(tree.shelf.read_by_name) >= 2


def test_a_root_that_no_directory_can_be_is_damaged_and_not_the_mount(tmp_path: Path) -> None:
    tree = Tree(tmp_path, __=b"outside")
    tree.shelf.give(
        reapi.Directory(files=[reapi.FileNode(name="..", digest=digest_of(b"outside"))]).SerializeToString()
    )
    with pytest.raises(CorruptError) as refused, tree:
        pass
    assert refused.value.kind == "damaged"
    assert os.listdir(tree.place) == []


def test_a_mount_ends_though_somebody_waits_in_it(tmp_path: Path) -> None:
    with Tree(tmp_path, a=b"a") as tree:
        waiting = Reading(tree.place / "a")
        tree.shelf.wait_for_readers(1)
    assert isinstance(waiting.result(), OSError)
    assert tree.mount.lost is None


class Kept:
    """A CAS that keeps what it is given."""

    def __init__(self) -> None:
        self.blobs: dict[Name, bytes] = {}

    def missing(self, blobs: Sequence[Name]) -> list[Name]:
        return [name for name in blobs if name not in self.blobs]

    def give(self, blobs: Mapping[Name, Open]) -> None:
        for name, opened in blobs.items():
            self.blobs[name] = b"".join(opened())
            assert name == name_of(self.blobs[name])


def sent(root: Path, *paths: str) -> tuple[reapi.ActionResult, Kept]:
    command = reapi.Command(output_paths=paths)
    kept: Any = Kept()
    return send(str(root), declared(command), command, kept, threading.Event()), kept


def test_a_large_output_is_not_read_to_its_end_when_its_lease_has_ended(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as large:
        large.truncate(1 << 42)
    command = reapi.Command(output_paths=["large"])
    kept: Any = Kept()
    ended = threading.Event()
    ended.set()
    with pytest.raises(StoppedError) as stopped:
        send(str(tmp_path), declared(command), command, kept, ended)
    assert stopped.value.kind == "stopped"
    assert kept.blobs == {}


def test_nothing_behind_a_link_is_read_on_the_way_to_an_output_or_in_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_bytes(b"of the machine")
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    os.symlink(secret, root / "way")
    os.symlink(secret / "key", root / "d" / "key")
    os.symlink(secret / "key", root / "key")
    result, kept = sent(root, "way/key", "d", "key")
    assert [file.path for file in result.output_files] == []
    assert [link.target for link in result.output_symlinks] == [str(secret / "key")]
    assert len(result.output_directories) == 1
    assert b"of the machine" not in kept.blobs.values()
    make_room(str(root), [b"way", b"made"])
    assert os.listdir(secret) == ["key"]


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a//b", "./a"])
def test_a_path_that_leads_out_of_the_input_root_is_refused(path: str) -> None:
    for command in (reapi.Command(output_paths=[path]), reapi.Command(working_directory=path, output_paths=["x"])):
        with pytest.raises(InvalidInputError) as refused:
            declared(command)
        assert refused.value.kind == "bad-action"


def test_more_files_and_directories_than_a_client_takes_are_no_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/b", "c/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "c" / "d" / "file").touch()
    monkeypatch.setattr("sapwood.worker.outputs._ENTRIES", 3)
    sent(tmp_path, "a", "c")
    monkeypatch.setattr("sapwood.worker.outputs._ENTRIES", 2)
    with pytest.raises(InvalidInputError, match="more than 2 files and directories") as refused:
        sent(tmp_path, "a", "c")
    assert refused.value.kind == "output-unusable"


def test_a_device_and_a_name_that_is_not_utf8_are_no_outputs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / os.fsdecode(b"\xff")).write_bytes(b"")
    deep = tmp_path / "deep"
    deep.mkdir()
    above = os.open(deep, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=above)
        below = os.open("d", os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)
    for path in ("fifo", "d", "deep"):
        with pytest.raises(InvalidInputError) as refused:
            sent(tmp_path, path)
        assert refused.value.kind == "output-unusable"


def test_who_may_not_mount_is_told_what_a_worker_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As the system refuses it, in this process, which must not have mounts of its own.
    monkeypatch.setattr(alone, "_NEWNS", 1 << 4)
    with pytest.raises(UnavailableError) as refused:
        alone.mount_alone()
    assert refused.value.kind == "worker-unfit"
    # Where no namespaces of users are to be had.
    words = ["unshare", "-r", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"', "sh"]
    run = Sapwood(tmp_path).without_powers()
    command = [*words, *run.command("worker", "--scheduler", "grpc://127.0.0.1:9")]
    said = subprocess.run(command, env=run.environment, capture_output=True, text=True, timeout=100)
    assert said.returncode == 6, said
    assert "run it as root" in said.stderr


@pytest.mark.parametrize("words", [("--jobs", "none"), ("--platform", "OSFamily"), ("--scheduler", "http://grid")])
def test_what_cannot_be_meant_is_refused(tmp_path: Path, words: tuple[str, str]) -> None:
    said = Sapwood(tmp_path)("worker", "--scheduler", "grpc://127.0.0.1:9", *words)
    assert said.code == 2, said
    assert words[1] in said.err


def test_a_worker_without_bubblewrap_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sapwood.reapi.channel import connect
    from sapwood.worker.worker import Options, Worker

    monkeypatch.setenv("PATH", str(tmp_path))
    peer = connect("grpc://127.0.0.1:9")
    with pytest.raises(UnavailableError) as refused:
        Worker(peer, peer, Options(), tmp_path / "room", tmp_path / "cache", lambda _: None)
    peer.close()
    assert refused.value.kind == "sandbox-missing"


def test_whatever_comes_of_a_lease_it_is_answered() -> None:
    peer = connect("grpc://127.0.0.1:1")
    session = Session(peer, "", "one", {}, lambda *_: Done(13, "no \udcff"), Ending(), lambda _: None)
    digest, broken = any_pb2.Any(), any_pb2.Any()
    digest.Pack(reapi.Digest())
    broken.Pack(reapi.Action())
    broken.value = b"\xff"
    for payload, code in ((digest, 13), (broken, 3), (any_pb2.Any(), 3)):
        session._begin(bots.Lease(id="one", payload=payload))
        assert session._wake.wait(60)
        session._wake.clear()
        assert session._work is not None
        assert (session._work.lease.state, session._work.lease.status.code) == (bots.COMPLETED, code)
    peer.close()
