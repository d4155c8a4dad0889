"""What a server packs into its store, and what the next server finds there and in the staging area."""

from __future__ import annotations

import errno
from pathlib import Path

import grpc
import pytest

from sapwood.errors import UnavailableError
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.serve.server import Options, Server
from sapwood.store import open_store
from sapwood.upkeep.gc import collect
from sapwood.upkeep.verify import verify
from tests.support.reapiclient import Client, some
from tests.support.storeplaces import S3Place

MIB = 1 << 20


def test_what_a_server_has_packed_and_staged_the_next_one_has(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    options = Options(listen="127.0.0.1:0")
    blobs = [some(size, 2) for size in (1, 1000, 3 * MIB)]
    for round_ in range(3):
        with (
            Server(store, options, tmp_path / "staging") as server,
            Client(f"127.0.0.1:{server.port}") as client,
        ):
            for blob in blobs[:round_]:
                assert client.read(blob) == blob
            if round_:
                assert client.result(b"action").exit_code == round_ - 1
            client.upload(blobs[round_])
            client.set_result(b"action", reapi.ActionResult(exit_code=round_))
    # Nor does it hurt that others look after the store.
    collect(store, grace_s=0)
    assert verify(store).damages == ()
    with (
        Server(store, options, tmp_path / "elsewhere") as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        assert [client.read(blob) for blob in blobs] == blobs
        assert client.result(b"action").exit_code == 2


def test_servers_on_one_store_learn_of_each_other_and_of_what_was_removed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    options = Options(listen="127.0.0.1:0", keep=0)
    blobs = [some(size, 7) for size in (10, 3 * MIB)]
    with (
        Server(store, options, tmp_path / "a") as a,
        Server(store, options, tmp_path / "b") as b,
        Client(f"127.0.0.1:{a.port}") as to_a,
        Client(f"127.0.0.1:{b.port}") as to_b,
    ):
        for blob in blobs:
            to_a.upload(blob)
        to_a.set_result(b"action", reapi.ActionResult(exit_code=3))
        a.pack()
        assert to_b.missing(blobs) == blobs
        b.look()
        assert to_b.missing(blobs) == []
        assert [to_b.read(blob) for blob in blobs] == blobs
        assert to_b.result(b"action").exit_code == 3
        for ref in store.refs():
            store.remove_ref(ref)
        collect(store, grace_s=0)
        for server, client in ((a, to_a), (b, to_b)):
            server.look()
            assert client.missing(blobs) == blobs
            with pytest.raises(grpc.RpcError) as refused:
                client.result(b"action")
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        to_a.put(blobs[0])
        a.pack()
        assert to_a.read(blobs[0]) == blobs[0]
    assert [ref.name[:4] for ref in store.refs()] == ["cas/"]
    assert verify(store).damages == ()


def test_what_was_packed_when_the_server_died_is_not_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    options = Options(listen="127.0.0.1:0")
    blobs = [some(size, 8) for size in (10, 2 * MIB)]
    server = Server(store, options, tmp_path / "staging").__enter__()
    with Client(f"127.0.0.1:{server.port}") as client, monkeypatch.context() as dying:
        for blob in blobs:
            client.upload(blob)

        def die(*_: object) -> None:
            raise KeyboardInterrupt

        dying.setattr("sapwood.serve.staging.Staging.settle", die)
        with pytest.raises(KeyboardInterrupt):
            server.pack()
        # Nor does it pack at its end.
        dying.setattr(server, "pack", lambda: None)
        server.__exit__()
    [before] = store.refs()
    with Server(store, options, tmp_path / "staging") as server, Client(f"127.0.0.1:{server.port}") as client:
        assert [client.read(blob) for blob in blobs] == blobs
    assert store.refs() == [before]


def test_what_cannot_be_laid_out_stays_staged_and_is_packed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error of the disk, which whoever packs in the background says and tries again."""
    store = open_store(str(tmp_path / "store"), create=True)
    blobs = [some(size, 10) for size in (10, 2 * MIB)]
    options = Options(listen="127.0.0.1:0", keep=0)
    with Server(store, options, tmp_path / "staging") as server, Client(f"127.0.0.1:{server.port}") as client:
        for blob in blobs:
            client.upload(blob)

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "no space", str(tmp_path / "staging" / "parts"))

        with monkeypatch.context() as away:
            away.setattr("sapwood.serve.packing.tempfile.TemporaryDirectory", full)
            with pytest.raises(UnavailableError) as refused:
                server.pack()
        assert refused.value.kind == "disk-full"
        assert [client.read(blob) for blob in blobs] == blobs
        server.pack()
        assert [client.read(blob) for blob in blobs] == blobs
    assert verify(store).damages == ()


def test_blobs_and_results_come_back_out_of_an_s3_store(s3_place: S3Place, tmp_path: Path) -> None:
    blobs = [some(size, 9) for size in (1, 5000, 2 * MIB, 5 * MIB)]
    options = Options(listen="127.0.0.1:0", keep=0)
    with (
        Server(open_store(s3_place.url, create=True), options, tmp_path / "one") as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        for blob in blobs:
            client.upload(blob)
        client.set_result(b"action", reapi.ActionResult(exit_code=1))
    with (
        Server(open_store(s3_place.url), options, tmp_path / "two") as server,
        Client(f"127.0.0.1:{server.port}") as client,
    ):
        assert client.missing(blobs) == []
        assert [client.read(blob) for blob in blobs] == blobs
        assert client.read(blobs[3], 3 * MIB, 1000) == blobs[3][3 * MIB : 3 * MIB + 1000]
        assert client.result(b"action").exit_code == 1


def test_what_a_killed_server_was_laying_out_is_removed_by_the_next(tmp_path: Path) -> None:
    store, options = open_store(str(tmp_path / "store"), create=True), Options(listen="127.0.0.1:0")
    with Server(store, options, tmp_path / "staging"):
        pass
    name = (tmp_path / "staging" / "server").read_text().strip()
    left = [Path("/dev/shm") / f"sapwood-{name}-x", tmp_path / "staging" / "parts" / f"sapwood-{name}-y"]
    for folder in left:
        (folder / "blobs").mkdir(parents=True)
        (folder / "blobs" / "file").write_text("x")
    with Server(store, options, tmp_path / "staging"):
        assert not any(folder.exists() for folder in left)
