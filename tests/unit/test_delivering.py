"""Announcing and delivering: the wanted goes first, the rest behind it or never, and nothing is sent that changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from sapwood.errors import NotFoundError, UnavailableError
from sapwood.reapi import delivering, sending
from sapwood.reapi.blobs import Name
from sapwood.reapi.cas import Cas
from sapwood.reapi.channel import connect
from sapwood.reapi.delivering import Delivery
from sapwood.reapi.protocol import deliveries_pb2_grpc
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.serve import announced
from sapwood.serve.server import Options, Server
from sapwood.store import open_store
from tests.support.announcing import name_of
from tests.support.peers import free_port
from tests.support.reapiclient import Client, digest_of, some


@pytest.fixture(autouse=True)
def no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy everybody is slow."""
    for bound in ("GRACE_S", "SLOW_S", "SILENT_S"):
        monkeypatch.setattr(announced, bound, 600.0)


@contextmanager
def serving(home: Path, listen: str = "127.0.0.1:0") -> Iterator[Server]:
    with Server(open_store(str(home / "store"), create=True), Options(listen=listen), home / "staging") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture
def cas(server: Server) -> Iterator[Cas]:
    peer = connect(f"grpc://127.0.0.1:{server.port}")
    yield Cas(peer, "", threading.Event())
    peer.close()


@pytest.fixture
def begin() -> Iterator[Callable[..., Future[Any]]]:
    """Runs calls beside the test."""
    with ThreadPoolExecutor(40) as pool:
        yield pool.submit


class Blobs:
    """A source: what was opened is in `opened`; nothing is, before `open` is set."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {name_of(blob): blob for blob in blobs}
        self.opened: list[Name] = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, name: Name) -> Iterable[bytes]:
        self.open.wait(60)
        if (data := self.blobs.get(name)) is None:
            raise NotFoundError("no such blob", kind="blob-missing")
        self.opened.append(name)
        return (data[at : at + 100_000] for at in range(0, len(data), 100_000))


def test_only_what_is_read_is_sent(cas: Cas, client: Client, begin: Any) -> None:
    blobs = [some(1000, seed) for seed in range(50)] + [some(5_000_000)]
    source = Blobs(*blobs)
    with Delivery(cas, source, complete=False) as delivery:
        assert delivery.takes_announcements
        delivery.announce(map(name_of, blobs))
        assert client.read(blobs[7]) == blobs[7]
        assert client.read(blobs[50]) == blobs[50]
        assert client.read(blobs[50], 4_000_000, 10) == blobs[50][4_000_000:4_000_010]
        assert sorted(source.opened) == sorted(map(name_of, (blobs[7], blobs[50])))
        progress = delivery.progress
        assert (progress.needed, progress.total) == (5_001_000, 5_050_000)
    assert client.missing(blobs) == [blob for blob in blobs if blob not in (blobs[7], blobs[50])]


def test_what_is_sent_at_once_is_there_when_its_tree_is_announced(cas: Cas, client: Client) -> None:
    file = some(1000)
    root = reapi.Directory(files=[reapi.FileNode(name="file", digest=digest_of(file))]).SerializeToString()
    source = Blobs(root, file, b"action", b"command")
    with Delivery(cas, source, complete=False) as delivery:
        first = [name_of(blob) for blob in (b"action", b"command", root)]
        delivery.announce([], trees=[name_of(root)], at_once=first)
        assert client.missing([b"action", b"command", root, file]) == [file]
        assert client.read(file) == file
        assert source.opened[:3] == first


def test_all_is_sent_in_the_end_and_what_is_wanted_first(cas: Cas, client: Client, begin: Any) -> None:
    blobs = [some(300_000, seed) for seed in range(40)]
    source = Blobs(*blobs)
    source.open.clear()
    with Delivery(cas, source) as delivery:
        delivery.announce(map(name_of, blobs))
        read = client.stream.Read(read_request(blobs[39]))
        assert dict(read.initial_metadata()) == {"sapwood-waits": "1"}
        while not delivery.progress.needed:  # what is wanted is on its way here, too
            pass
        source.open.set()
        assert b"".join(piece.data for piece in read) == blobs[39]
        # What was begun before it was asked for, and little more.
        assert source.opened.index(name_of(blobs[39])) < 12
        delivery.wait()
        progress = delivery.progress
        assert (progress.sent, progress.needed, progress.total) == (12_000_000, 300_000, 12_000_000)
        assert progress.wire >= 12_000_000
    assert client.missing(blobs) == []


def read_request(blob: bytes) -> Any:
    from sapwood.reapi.protocol import bytestream_pb2 as bytestream

    digest = digest_of(blob)
    return bytestream.ReadRequest(resource_name=f"blobs/{digest.hash}/{digest.size_bytes}")


def test_a_tree_is_announced_by_its_root_and_sent_in_the_end(cas: Cas, client: Client) -> None:
    files = {f"{folder}/{number}": some(number * 1000, folder) for folder in range(5) for number in range(1, 20)}
    folders = []
    for folder in range(5):
        nodes = [
            reapi.FileNode(name=path.partition("/")[2], digest=digest_of(content))
            for path, content in sorted(files.items())
            if path.startswith(f"{folder}/")
        ]
        folders.append(reapi.Directory(files=nodes).SerializeToString())
    root = reapi.Directory(
        directories=[reapi.DirectoryNode(name=str(at), digest=digest_of(one)) for at, one in enumerate(folders)]
    ).SerializeToString()
    source = Blobs(root, *folders, *files.values())
    client.put(files["3/4"])
    with Delivery(cas, source, complete=False) as delivery:
        delivery.announce([], trees=[name_of(root)])
        [page] = client.cas.GetTree(reapi.GetTreeRequest(root_digest=digest_of(root)))
        assert len(page.directories) == 6
        assert client.read(files["1/7"]) == files["1/7"]
    assert len(client.missing(list(files.values()))) == len(files) - 2
    with Delivery(cas, source) as delivery:
        delivery.announce([], trees=[name_of(root)])
        delivery.wait()
        assert client.missing([root, *folders, *files.values()]) == []
        total = sum(map(len, files.values()))
        assert delivery.progress.total == total
        assert delivery.progress.sent == total - len(files["1/7"]) - len(files["3/4"])
    # And when nothing is missing.
    with Delivery(cas, source) as delivery:
        delivery.announce([], trees=[name_of(root)])
        delivery.wait()
        assert delivery.progress.sent == 0


@pytest.mark.parametrize("is_complete", [True, False], ids=["all", "what is read"])
def test_of_a_tree_directories_may_be_at_the_server_alone(cas: Cas, client: Client, is_complete: bool) -> None:
    made, ours = some(30_000, 1), some(30_000, 2)
    there = reapi.Directory(files=[reapi.FileNode(name="made", digest=digest_of(made))]).SerializeToString()
    client.put(made, there)
    root = reapi.Directory(
        files=[reapi.FileNode(name="ours", digest=digest_of(ours))],
        directories=[reapi.DirectoryNode(name="there", digest=digest_of(there))],
    ).SerializeToString()
    with Delivery(cas, Blobs(root, ours), complete=is_complete) as delivery:
        delivery.announce([], trees=[name_of(root)])
        [page] = client.cas.GetTree(reapi.GetTreeRequest(root_digest=digest_of(root)))
        assert len(page.directories) == 2
        assert client.read(ours) == ours
        delivery._examiner.submit(lambda: None).result()  # it has been walked through
        assert delivery.error is None
        if is_complete:
            delivery.wait()
            assert client.missing([root, ours]) == []


def test_behind_what_is_wanted_comes_what_lies_beside_it(cas: Cas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_BATCHED", 2)
    folders = [[name_of(b"%d in %d" % (file, folder)) for file in range(6)] for folder in range(4)]
    names = [name for folder in folders for name in folder]
    source = Blobs(*(b"%d in %d" % (file, folder) for folder in range(4) for file in range(6)))
    source.open.clear()
    came, is_all = set[Name](), threading.Event()

    def present(some: list[Name]) -> None:
        came.update(some)
        if len(came) == len(names):
            is_all.set()

    sender = sending.Sender(cas, source, (), present, lambda *_: None, lambda _: None)
    try:
        for at, folder in enumerate(folders):
            sender.arrange(folder, [f"{at}-{number}" for number in range(len(folder))])
        sender.want(names[:1])
        while names[0] not in sender._going:  # it waits at the source
            pass
        sender.offer(names)
        sender.want([folders[2][3]])
        source.open.set()
        assert is_all.wait(60)
    finally:
        sender.close()
    beside = [name for name in folders[2] if name != folders[2][3]]
    assert source.opened == [names[0], folders[2][3], *beside, *folders[3], *names[1:12]]


def test_what_is_sent_is_there_for_good(cas: Cas, client: Client) -> None:
    blobs = [b"", b"one", some(2_000_000), some(3_500_000), bytes(9_000_000)]
    with Delivery(cas, Blobs(*blobs), complete=False) as delivery:
        delivery.send(map(name_of, blobs))
        assert client.missing(blobs) == []
        assert delivery.progress.wire < 6_000_000  # zeros travel compressed
    assert [client.read(blob) for blob in blobs] == blobs


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_a_source_that_changed_is_taken_back_and_never_sent(cas: Cas, client: Client, begin: Any, size: int) -> None:
    good, bad = some(1000, 1), some(size, 2)
    source = Blobs(good, bad)
    source.blobs[name_of(bad)] = bad[:-1] + b"x"
    with Delivery(cas, source) as delivery:
        delivery.announce(map(name_of, (good, bad)))
        with pytest.raises(UnavailableError) as changed:
            delivery.wait()
        assert changed.value.kind == "source-changed"
        assert delivery.error is not None
        with pytest.raises(UnavailableError):
            delivery.send([name_of(bad)])
        delivery.send([name_of(good)])
        with pytest.raises(Exception, match=r"NOT_FOUND|announcer-lost|is not here"):
            client.read(bad)
    assert client.missing([good, bad]) == [bad]


def test_what_another_has_sent_is_not_sent_again(cas: Cas, client: Client) -> None:
    blobs = [some(1000, seed) for seed in range(10)]
    client.put(*blobs[:5])
    source = Blobs(*blobs)
    with Delivery(cas, source) as delivery:
        delivery.announce(map(name_of, blobs))
        delivery.wait()
    assert sorted(source.opened) == sorted(map(name_of, blobs[5:]))


def test_a_server_that_comes_back_is_told_again(tmp_path: Path) -> None:
    blobs = [some(1000, seed) for seed in range(10)]
    source = Blobs(*blobs)
    port = free_port()
    with serving(tmp_path, f"127.0.0.1:{port}"):
        peer = connect(f"grpc://127.0.0.1:{port}")
        delivery = Delivery(Cas(peer, "", threading.Event()), source, complete=False)
        delivery.__enter__()
        delivery.announce(map(name_of, blobs))
        with Client(f"127.0.0.1:{port}") as client:
            assert client.read(blobs[0]) == blobs[0]
    with serving(tmp_path, f"127.0.0.1:{port}"), Client(f"127.0.0.1:{port}") as client:
        client.wait_until_ready()
        delivery.announce([])  # behind all that was announced before
        assert client.read(blobs[1]) == blobs[1]
        delivery.send(map(name_of, blobs[2:4]))
        delivery.close()
        assert client.missing(blobs) == blobs[4:]
    peer.close()


def test_a_server_that_ends_every_delivery_before_it_begins_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Ending(deliveries_pb2_grpc.DeliveriesServicer):
        def Deliver(self, _requests: Any, _context: Any) -> Iterator[Any]:
            return iter(())

    monkeypatch.setattr(delivering, "_NOBODY_S", 0.5)
    server = grpc.server(ThreadPoolExecutor(2))
    stub: Any = deliveries_pb2_grpc
    stub.add_DeliveriesServicer_to_server(Ending(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    peer = connect(f"grpc://127.0.0.1:{port}")
    try:
        with (
            Delivery(Cas(peer, "", threading.Event()), Blobs()) as delivery,
            pytest.raises(UnavailableError, match="before it begins") as caught,
        ):
            delivery.announce([])
        assert caught.value.kind == "executor-unreachable"
    finally:
        peer.close()
        server.stop(None).wait()


def test_of_many_trees_what_they_have_in_common_is_walked_through_once(cas: Cas, client: Client) -> None:
    files = [some(1000, seed) for seed in range(30)]
    common = reapi.Directory(
        files=[reapi.FileNode(name=f"{at:02}", digest=digest_of(files[at])) for at in range(20)]
    ).SerializeToString()
    roots = [
        reapi.Directory(
            files=[reapi.FileNode(name="own", digest=digest_of(own))],
            directories=[reapi.DirectoryNode(name="common", digest=digest_of(common))],
        ).SerializeToString()
        for own in files[20:]
    ]
    source = Blobs(common, *roots, *files)
    with Delivery(cas, source, complete=False) as delivery:
        for root in roots:
            delivery.announce([], trees=[name_of(root)])
        delivery.wait()
        assert sorted(source.opened) == sorted(map(name_of, [common, *roots]))
        assert delivery.progress.total == 30_000
        client.put(common, *roots)
        assert client.read(files[25]) == files[25]
    with Delivery(cas, source) as delivery:
        for root in roots:
            delivery.announce([], trees=[name_of(root)])
        delivery.wait()
        assert client.missing(files) == []
