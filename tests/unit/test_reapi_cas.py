"""The client of a CAS, with `sapwood serve` on the other side, and with servers that do what none should."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from sapwood.errors import (
    CorruptError,
    DeniedError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    StoppedError,
    UnavailableError,
)
from sapwood.reapi import channel
from sapwood.reapi.cas import Cas, Name
from sapwood.reapi.channel import connect, read_token
from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.reapi.protocol import bytestream_pb2_grpc as bytestream_grpc
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc
from sapwood.serve.server import Options, Server
from sapwood.store import open_store
from tests.support.peers import free_port

MIB = 1 << 20


def name(data: bytes) -> Name:
    return hashlib.sha256(data).hexdigest(), len(data)


def given(*blobs: bytes) -> dict[Name, Any]:
    return {name(blob): lambda blob=blob: [blob] for blob in blobs}


def client(url: str, **options: Any) -> Cas:
    return Cas(connect(url, **options), "", threading.Event())


@pytest.fixture
def cas(tmp_path: Path) -> Iterator[Cas]:
    store = open_store(str(tmp_path / "store"), create=True)
    with Server(store, Options(listen="127.0.0.1:0"), tmp_path / "staging") as server:
        yield client(f"grpc://127.0.0.1:{server.port}")


def some(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_blobs_of_all_sizes_go_and_come_back(cas: Cas) -> None:
    blobs = [some(size) for size in (0, 1, 5_000, MIB, 3 * MIB - 1, 3 * MIB, 9 * MIB + 1)] + [b"a" * 4 * MIB]
    many = [b"%d" % number for number in range(2_500)]
    heard: list[int] = []
    assert set(cas.missing(map(name, [*blobs, *many]))) == {name(blob) for blob in [*blobs, *many] if blob}
    cas.give(given(*blobs, *many), heard.append)
    assert sum(heard) == sum(map(len, [*blobs, *many]))
    assert cas.missing(map(name, [*blobs, *many])) == []
    for blob in blobs:
        assert b"".join(cas.read(name(blob))) == blob
    assert cas.read_small([name(blob) for blob in [*blobs, *many]]) == {name(one): one for one in [*blobs, *many]}


def test_what_is_not_there_is_said_by_name(cas: Cas) -> None:
    cas.give(given(b"here"))
    with pytest.raises(NotFoundError) as lacking:
        cas.read_small([name(b"here"), name(b"gone"), name(b"gone too")])
    assert lacking.value.kind == "executor-lacks"
    assert lacking.value.missing == [name(b"gone"), name(b"gone too")]
    with pytest.raises(NotFoundError) as lacking:
        list(cas.read(name(b"gone")))
    assert lacking.value.kind == "executor-lacks"


def test_a_source_that_fails_while_it_is_sent_is_its_own_error(cas: Cas) -> None:
    def changed() -> Iterator[bytes]:
        yield bytes(2 * MIB)
        raise UnavailableError("it changed", kind="file-changing")

    with pytest.raises(UnavailableError) as failed:
        cas.give({("0" * 64, 4 * MIB): changed})
    assert failed.value.kind == "file-changing"


def test_what_is_sent_under_a_wrong_name_is_refused(cas: Cas) -> None:
    for wrong in (b"short", bytes(5 * MIB)):
        with pytest.raises(InvalidInputError) as refused:
            cas.give({("0" * 64, len(wrong)): lambda wrong=wrong: [wrong]})
        assert refused.value.kind == "executor-refused"


def test_nobody_there_is_said_after_a_few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PAUSES_S", (0.01, 0.01))
    lonely = client(f"grpc://127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError) as unreachable:
        lonely.missing([name(b"x")])
    assert unreachable.value.kind == "executor-unreachable"
    lonely._cancel.set()
    with pytest.raises(StoppedError):
        lonely.missing([name(b"x")])


def test_a_token_decides_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("me upload of-mine\nyou read of-yours\n")
    store = open_store(str(tmp_path / "store"), create=True)
    options = Options(listen="127.0.0.1:0", tokens=str(tmp_path / "tokens"))
    with Server(store, options, tmp_path / "staging") as server:
        url = f"grpc://127.0.0.1:{server.port}"
        client(url, token="of-mine").give(given(b"x"))
        assert client(url, token="of-yours").read_small([name(b"x")]) == {name(b"x"): b"x"}
        for token in (None, "guessed", "of-yours"):
            with pytest.raises(DeniedError) as denied:
                client(url, token=token).give(given(b"y"))
            assert denied.value.kind == "executor-denied"


@pytest.mark.parametrize("url", ["http://host:80", "grpc://host", "grpc://", "grpc://host:port", "grpc://h/i:80"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        connect(url)
    assert refused.value.kind == "bad-executor"


def test_a_file_without_a_token_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(NotFoundError, match="token is missing"):
        read_token(str(file))
    for text in ("", "two words", "café"):
        file.write_text(text)
        with pytest.raises(InvalidInputError) as refused:
            read_token(str(file))
        assert refused.value.kind == "bad-token"
    file.write_text("  secret\n")
    assert read_token(str(file)) == "secret"


class Odd(
    reapi_grpc.ContentAddressableStorageServicer, reapi_grpc.CapabilitiesServicer, bytestream_grpc.ByteStreamServicer
):
    """A server that answers with wrong bytes, and is busy at first."""

    busy = 0

    def GetCapabilities(self, request: Any, context: grpc.ServicerContext) -> Any:
        return reapi.ServerCapabilities()

    def BatchReadBlobs(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = reapi.BatchReadBlobsResponse()
        for one in request.digests:
            answer.responses.add(digest=one, data=b"wrong")
        return answer

    def Read(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        while context.is_active():  # and never comes to an end
            yield bytestream.ReadResponse(data=b"wrong")

    def FindMissingBlobs(self, request: Any, context: grpc.ServicerContext) -> Any:
        Odd.busy -= 1
        if self.busy >= 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "later")
        return reapi.FindMissingBlobsResponse()

    def BatchUpdateBlobs(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = reapi.BatchUpdateBlobsResponse()
        for one in request.requests:
            answer.responses.add(digest=one.digest).status.code = grpc.StatusCode.DATA_LOSS.value[0]
        return answer


@pytest.fixture
def odd() -> Iterator[Cas]:
    server: Any = grpc.server(futures.ThreadPoolExecutor(2))
    here: Any = Odd()
    services: Any = reapi_grpc
    streams: Any = bytestream_grpc
    services.add_ContentAddressableStorageServicer_to_server(here, server)
    services.add_CapabilitiesServicer_to_server(here, server)
    streams.add_ByteStreamServicer_to_server(here, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield client(f"grpc://127.0.0.1:{port}")
    server.stop(None).wait()


def test_wrong_bytes_are_never_returned_as_right(odd: Cas) -> None:
    for read in (lambda: odd.read_small([name(b"right")]), lambda: list(odd.read(name(b"right")))):
        with pytest.raises(CorruptError) as corrupt:
            read()
        assert corrupt.value.kind == "blob-corrupt"
    with pytest.raises(SapwoodError) as corrupt:
        odd.give(given(b"x"))
    assert corrupt.value.kind == "executor-corrupt"


def test_a_busy_server_is_asked_again_but_not_for_ever(odd: Cas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr(Odd, "busy", 2)
    assert odd.missing([name(b"x")]) == []
    monkeypatch.setattr(Odd, "busy", 9)
    with pytest.raises(UnavailableError) as full:
        odd.missing([name(b"x")])
    assert full.value.kind == "executor-full"
