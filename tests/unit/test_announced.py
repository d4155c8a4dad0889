"""Blobs that are announced: who reads them waits, and learns when they come or that they never will."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from sapwood.reapi.blobs import Name
from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.serve import announced, session
from sapwood.serve.server import Options, Server
from sapwood.store import open_store
from tests.support.announcing import Announcer, name_of
from tests.support.reapiclient import Client, digest_of


@pytest.fixture(autouse=True)
def no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy everybody is slow."""
    for bound in ("GRACE_S", "SLOW_S", "SILENT_S"):
        monkeypatch.setattr(announced, bound, 600.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    options = Options(listen="127.0.0.1:0")
    with Server(open_store(str(tmp_path / "store"), create=True), options, tmp_path / "staging") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture
def announcer(client: Client) -> Iterator[Announcer]:
    announcer = Announcer(client)
    yield announcer
    announcer.end()


@pytest.fixture
def begin() -> Iterator[Callable[..., Future[Any]]]:
    """Runs calls beside the test."""
    with ThreadPoolExecutor(40) as pool:
        yield pool.submit


def refusal(call: Future[Any]) -> tuple[grpc.StatusCode, str]:
    """The status that a call ends with, and the kind in its text."""
    with pytest.raises(grpc.RpcError) as refused:
        call.result(60)
    text = refused.value.details()
    return refused.value.code(), text[text.index("(") + 1 : text.index(")")]


LOST = (grpc.StatusCode.UNAVAILABLE, "announcer-lost")


def test_a_read_waits_until_the_blob_is_delivered(client: Client, announcer: Announcer, begin: Any) -> None:
    assert announcer.announce(b"one", b"two") == [b"one", b"two"]
    reads = [begin(client.read, b"one"), begin(client.get, b"two", b"one")]
    wanted: list[Name] = []
    while len(wanted) < 2:
        wanted += announcer.told("wanted")
    assert sorted(wanted) == sorted([name_of(b"one"), name_of(b"two")])
    announcer.deliver(b"two")
    assert announcer.told("arrived") == [name_of(b"two")]
    assert not any(read.done() for read in reads)
    announcer.deliver(b"one")
    assert reads[0].result(60) == b"one"
    assert reads[1].result(60) == [(0, b"two", 0), (0, b"one", 0)]


def test_a_read_that_waits_says_so_before_it_is_answered(client: Client, announcer: Announcer) -> None:
    announcer.announce(b"one")
    name = f"blobs/{digest_of(b'one').hash}/3"
    read = client.stream.Read(bytestream.ReadRequest(resource_name=name))
    assert ("sapwood-waits", "1") in [tuple(pair) for pair in read.initial_metadata()]
    announcer.deliver(b"one")
    assert b"".join(piece.data for piece in read) == b"one"
    assert not read.cancelled()
    assert dict(client.stream.Read(bytestream.ReadRequest(resource_name=name)).initial_metadata()) == {}


def test_an_announced_blob_is_missing_to_who_asks(client: Client, announcer: Announcer) -> None:
    client.put(b"here")
    assert announcer.announce(b"here", b"one", *(b"%d" % number for number in range(20))) == [
        b"one", *(b"%d" % number for number in range(20)),
    ]  # fmt: skip
    assert client.missing([b"one", b"here"]) == [b"one"]
    client.set_result(
        b"action", reapi.ActionResult(output_files=[reapi.OutputFile(path="o", digest=digest_of(b"one"))])
    )
    with pytest.raises(grpc.RpcError) as refused:
        client.result(b"action")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_what_nobody_announced_is_not_waited_for(client: Client, announcer: Announcer) -> None:
    announcer.announce(b"one")
    with pytest.raises(grpc.RpcError) as refused:
        client.read(b"another")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_reader_that_goes_away_wants_nothing_any_more(client: Client, announcer: Announcer) -> None:
    announcer.announce(b"one")
    read = client.stream.Read(bytestream.ReadRequest(resource_name=f"blobs/{digest_of(b'one').hash}/3"))
    assert announcer.told("wanted") == [name_of(b"one")]
    read.cancel()
    assert announcer.told("unwanted") == [name_of(b"one")]


def test_a_reader_waits_no_longer_than_its_deadline(client: Client, announcer: Announcer) -> None:
    announcer.announce(b"one")
    request = bytestream.ReadRequest(resource_name=f"blobs/{digest_of(b'one').hash}/3")
    # So long that what is wanted is told before, however slow this machine is: of what is unwanted by then it is not.
    read = client.stream.Read(request, timeout=10)
    assert announcer.told("wanted") == [name_of(b"one")]
    with pytest.raises(grpc.RpcError) as refused:
        list(read)
    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert announcer.told("unwanted") == [name_of(b"one")]


@pytest.mark.parametrize("way", ["ends", "withdraws"])
def test_reads_end_when_nobody_can_deliver_any_more(client: Client, begin: Any, way: str) -> None:
    announcer = Announcer(client)
    announcer.announce(b"one", b"two")
    reads = [begin(client.read, b"one"), begin(client.read, b"two")]
    wanted: list[Name] = []
    while len(wanted) < 2:
        wanted += announcer.told("wanted")
    if way == "withdraws":
        from sapwood.reapi.blobs import packed

        announcer.say(withdrawn=packed([name_of(b"one")]))
        assert refusal(reads[0]) == LOST
        announcer.deliver(b"two")
        assert reads[1].result(60) == b"two"
        announcer.end()
    else:
        announcer.end()
        assert [refusal(read) for read in reads] == [LOST, LOST]
        assert list(announcer.rest()) == []
    with pytest.raises(grpc.RpcError) as refused:
        client.read(b"one")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_batch_gives_what_has_come_and_says_what_will_not(client: Client, begin: Any) -> None:
    announcer = Announcer(client)
    announcer.announce(b"one", b"two")
    read = begin(client.get, b"one", b"two", b"three")
    wanted: list[Name] = []
    while len(wanted) < 2:
        wanted += announcer.told("wanted")
    announcer.deliver(b"two")
    announcer.end()
    codes = [code for code, _, _ in read.result(60)]
    assert codes == [grpc.StatusCode.UNAVAILABLE.value[0], 0, grpc.StatusCode.NOT_FOUND.value[0]]


def tree() -> dict[str, bytes]:
    """Directories of a small tree by their paths."""
    deep = reapi.Directory(files=[reapi.FileNode(name="c", digest=digest_of(b"sea"))]).SerializeToString()
    low = reapi.Directory(
        files=[reapi.FileNode(name="b", digest=digest_of(b"bee"))],
        directories=[reapi.DirectoryNode(name="deep", digest=digest_of(deep))],
    ).SerializeToString()
    root = reapi.Directory(
        files=[reapi.FileNode(name=name, digest=digest_of(b"eh")) for name in ("a", "again")],
        directories=[
            reapi.DirectoryNode(name="low", digest=digest_of(low)),
            reapi.DirectoryNode(name="same", digest=digest_of(low)),
        ],
    ).SerializeToString()
    return {"": root, "low": low, "deep": deep}


def test_a_tree_is_announced_by_its_root_and_by_what_comes_of_it(
    client: Client, announcer: Announcer, begin: Any
) -> None:
    folders = tree()
    announcer.announce(trees=[folders[""]])
    whole = begin(lambda: list(client.cas.GetTree(reapi.GetTreeRequest(root_digest=digest_of(folders[""])))))
    for folder in ("", "low", "deep"):
        assert announcer.told("wanted") == [name_of(folders[folder])]
        announcer.deliver(folders[folder])
        assert announcer.told("arrived") == [name_of(folders[folder])]
    [page] = whole.result(60)
    assert len(page.directories) == 3
    for content in (b"eh", b"bee", b"sea"):
        read = begin(client.read, content)
        assert announcer.told("wanted") == [name_of(content)]
        announcer.deliver(content)
        assert read.result(60) == content
        assert announcer.told("arrived") == [name_of(content)]
    with pytest.raises(grpc.RpcError):
        client.read(b"not in it")


def test_who_asks_while_a_tree_is_walked_through_is_not_told_that_there_is_nothing(
    client: Client, announcer: Announcer, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tree()
    announcer.announce(trees=[folders[""]])
    walking, go_on = threading.Event(), threading.Event()
    directory_of = session.directory_of

    def slowly(data: bytes, name: Name) -> Any:
        walking.set()
        assert go_on.wait(60)
        return directory_of(data, name)

    monkeypatch.setattr(session, "directory_of", slowly)
    client.put(folders[""])
    first = begin(client.read, folders["low"])
    assert walking.wait(60)
    second = begin(client.read, folders["low"])
    with pytest.raises(TimeoutError):  # in the while it would be told of nothing
        second.result(0.5)
    go_on.set()
    announcer.told("wanted")
    announcer.deliver(folders["low"])
    assert first.result(60) == second.result(60) == folders["low"]


def test_a_tree_that_is_examined_tells_which_files_are_missing(client: Client, announcer: Announcer) -> None:
    folders = tree()
    announcer.announce(trees=[folders[""]])
    announcer.say(number=7, examined=digest_of(folders[""]))
    order = announcer.next()
    assert (order.answers, order.HasField("missing")) == (7, False)
    client.put(b"bee", *folders.values())
    announcer.say(number=8, examined=digest_of(folders[""]))
    order = announcer.next()
    assert (order.answers, order.missing) == (8, bytes([0b101]))


def test_either_of_two_delivers_and_the_next_is_asked_when_one_is_lost(
    server: Server, client: Client, announcer: Announcer, begin: Any
) -> None:
    announcer.announce(b"one", b"two")
    other = Announcer(client)
    other.announce(b"one", b"two")
    read = begin(client.read, b"one")
    assert announcer.told("wanted") == [name_of(b"one")]
    other.deliver(b"one")  # unasked
    assert read.result(60) == b"one"
    assert announcer.told("arrived") == [name_of(b"one")]
    read = begin(client.read, b"two")
    assert announcer.told("wanted") == [name_of(b"two")]
    announcer.end()
    assert other.told("wanted") == [name_of(b"two")]
    other.deliver(b"two")
    assert read.result(60) == b"two"
    other.end()


def test_who_is_slow_is_not_the_only_one_asked(
    client: Client, announcer: Announcer, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "SLOW_S", 0.1)
    announcer.announce(b"one")
    other = Announcer(client)
    other.announce(b"one")
    read = begin(client.read, b"one")
    assert announcer.told("wanted") == [name_of(b"one")]
    assert other.told("wanted") == [name_of(b"one")]
    other.deliver(b"one")
    assert read.result(60) == b"one"
    assert announcer.told("arrived") == [name_of(b"one")]
    other.end()


@pytest.mark.parametrize("way", ["batch", "stream"])
def test_who_delivers_something_else_is_cut_off_and_the_other_asked(client: Client, begin: Any, way: str) -> None:
    announcer = Announcer(client)
    announcer.announce(b"one")
    other = Announcer(client)
    other.announce(b"one")
    read = begin(client.read, b"one")
    assert announcer.told("wanted") == [name_of(b"one")]
    metadata = [("sapwood-session", announcer.session)]
    if way == "batch":
        one = reapi.BatchUpdateBlobsRequest.Request(digest=digest_of(b"one"), data=b"own")
        client.cas.BatchUpdateBlobs(reapi.BatchUpdateBlobsRequest(requests=[one]), metadata=metadata)
    else:
        piece = bytestream.WriteRequest(resource_name=client.upload_name(b"one"), data=b"own", finish_write=True)
        with pytest.raises(grpc.RpcError):
            client.stream.Write(iter([piece]), metadata=metadata)
    with pytest.raises(grpc.RpcError) as cut:
        list(announcer.rest())
    assert cut.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "wrong-delivery" in cut.value.details()
    assert other.told("wanted") == [name_of(b"one")]
    assert client.missing([b"one"]) == [b"one"]
    with pytest.raises(grpc.RpcError) as again:
        Announcer(client, announcer.session).next()
    assert "wrong-delivery" in again.value.details()
    other.deliver(b"one")
    assert read.result(60) == b"one"
    other.end()


def test_who_was_lost_comes_back_and_goes_on(server: Server, client: Client, begin: Any) -> None:
    with Client(f"127.0.0.1:{server.port}") as first:
        announcer = Announcer(first)
        announcer.announce(b"one")
        read = begin(client.read, b"one")
        assert announcer.told("wanted") == [name_of(b"one")]
    again = Announcer(client, announcer.session)
    assert again.told("wanted") == [name_of(b"one")]
    assert not read.done()
    again.deliver(b"one")
    assert read.result(60) == b"one"
    again.end()


def test_who_was_lost_for_longer_is_forgotten(
    server: Server, client: Client, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "GRACE_S", 0.2)
    with Client(f"127.0.0.1:{server.port}") as first:
        announcer = Announcer(first)
        announcer.announce(b"one")
        read = begin(client.read, b"one")
        assert announcer.told("wanted") == [name_of(b"one")]
    assert refusal(read) == LOST


def test_who_was_asked_and_sends_nothing_is_lost(client: Client, begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announced, "SILENT_S", 0.2)
    announcer = Announcer(client)
    announcer.announce(b"one")
    read = begin(client.read, b"one")
    assert refusal(read) == LOST
    with pytest.raises(grpc.RpcError) as cut:
        list(announcer.rest())
    assert "delivery-stalled" in cut.value.details()


def test_a_thousand_readers_wait_and_others_are_served_meanwhile(server: Server, client: Client) -> None:
    announcer = Announcer(client)
    announcer.announce(b"one")
    name = f"blobs/{digest_of(b'one').hash}/3"
    reads = [client.stream.Read(bytestream.ReadRequest(resource_name=name)) for _ in range(1000)]
    assert announcer.told("wanted") == [name_of(b"one")]
    for read in reads:
        assert dict(read.initial_metadata()) == {"sapwood-waits": "1"}
    client.put(b"other")
    assert client.read(b"other") == b"other"
    announcer.deliver(b"one")
    assert all(b"".join(piece.data for piece in read) == b"one" for read in reads)
    announcer.end()


def test_the_end_of_the_server_ends_all_that_wait(tmp_path: Path, begin: Any) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    with Server(store, Options(listen="127.0.0.1:0"), tmp_path / "staging") as server:
        client = Client(f"127.0.0.1:{server.port}")
        announcer = Announcer(client)
        announcer.announce(b"one")
        read = begin(client.read, b"one")
        assert announcer.told("wanted") == [name_of(b"one")]
    assert refusal(read) == LOST
    client.channel.close()


def test_what_one_client_may_announce_is_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ONE_CLIENT", 2)
    announcer = Announcer(client)
    with pytest.raises(grpc.RpcError) as refused:
        announcer.announce(b"one", b"two", b"three")
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "too-many-announced" in refused.value.details()
    with pytest.raises(grpc.RpcError) as unknown:
        client.read(b"one")
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_so_many_reads_wait_and_no_more(
    client: Client, announcer: Announcer, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announced, "READERS_OF_ONE", 1)
    announcer.announce(b"one")
    read = begin(client.read, b"one")
    assert announcer.told("wanted") == [name_of(b"one")]
    assert refusal(begin(client.read, b"one")) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too-many-readers")
    announcer.deliver(b"one")
    assert read.result(60) == b"one"


@pytest.mark.parametrize("name", ["", "short", "x" * 200])
def test_a_session_has_a_name_that_nobody_guesses(client: Client, name: str) -> None:
    announcer = Announcer(client, "x" * 16)
    announcer.say()
    other = Announcer(client)
    other.session = name
    with pytest.raises(grpc.RpcError) as refused:
        from sapwood.reapi.protocol import deliveries_pb2, deliveries_pb2_grpc

        stub: Any = deliveries_pb2_grpc
        next(stub.DeliveriesStub(client.channel).Deliver(iter([deliveries_pb2.Announcement(session=name)])))
    assert "bad-session" in refused.value.details()
    announcer.end()
    other.end()


def test_calls_that_wait_keep_no_other_from_work() -> None:
    from sapwood.serve.calls import Calls

    calls = Calls(2)
    come, all_wait = threading.Event(), threading.Barrier(21)
    at_work, most, lock = 0, 0, threading.Lock()

    def wait() -> None:
        nonlocal at_work, most
        with calls.waiting():
            all_wait.wait(60)
            come.wait(60)
        with lock:
            at_work += 1
            most = max(most, at_work)
        with lock:
            at_work -= 1

    waiting = [calls.submit(wait) for _ in range(20)]
    all_wait.wait(60)
    assert [calls.submit(int, str(number)).result(60) for number in range(10)] == list(range(10))
    come.set()
    for one in waiting:
        one.result(60)
    assert most <= 2
    calls.shutdown()
