"""Who announced blobs dies, the way to it breaks, the server dies: reads end or go on, and nothing wrong is stored."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from sapwood.errors import UnavailableError
from sapwood.reapi import sending
from sapwood.reapi.blobs import Name
from sapwood.reapi.cas import Cas
from sapwood.reapi.channel import connect
from sapwood.reapi.delivering import Delivery
from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.serve import announced
from sapwood.serve.server import Options, Server
from sapwood.store import open_store
from tests.support.announcing import Announcer, name_of
from tests.support.cli import Sapwood, document_of
from tests.support.peers import free_port
from tests.support.reapiclient import Client, digest_of, some
from tests.support.served import Way, serving


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture
def begin() -> Iterator[Callable[..., Future[Any]]]:
    """Runs calls beside the test."""
    with ThreadPoolExecutor(40) as pool:
        yield pool.submit


@contextmanager
def delivering(where: str, *blobs: bytes, complete: bool = False) -> Iterator[Delivery]:
    """A client that has announced these."""
    content = {name_of(blob): blob for blob in blobs}

    def source(name: Name) -> Iterable[bytes]:
        return [content[name]]

    peer = connect(f"grpc://{where}")
    try:
        with Delivery(Cas(peer, "", threading.Event()), source, complete=complete) as delivery:
            delivery.announce(content)
            yield delivery
    finally:
        peer.close()


ANNOUNCE = """
import sys, threading
from tests.support.announcing import Announcer
from tests.support.reapiclient import Client
announcer = Announcer(Client(sys.argv[1]))
announcer.announce(b"one", b"two")
print("announced", flush=True)
for order in announcer.rest():
    print("wanted", flush=True)
"""


def test_reads_end_when_the_client_that_they_wait_for_was_killed(run: Sapwood, begin: Any) -> None:
    with serving(run) as (_, where), Client(where) as client, Client(where) as another:
        words = [sys.executable, "-c", ANNOUNCE, where]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as announcing:
            try:
                assert announcing.stdout is not None
                assert announcing.stdout.readline() == "announced\n"
                read = begin(client.read, b"one")
                assert announcing.stdout.readline() == "wanted\n"
                other = Announcer(another)
                other.announce(b"two")
                second = begin(client.read, b"two")
                assert announcing.stdout.readline() == "wanted\n"
            finally:
                announcing.kill()
        # Who may come back is waited for; then the other is asked, and where there is none it is an error.
        assert other.told("wanted") == [name_of(b"two")]
        other.deliver(b"two")
        assert second.result(60) == b"two"
        with pytest.raises(grpc.RpcError) as lost:
            read.result(60)
        assert lost.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "announcer-lost" in lost.value.details()
        other.end()


def test_a_way_that_breaks_again_and_again_delays_and_spoils_nothing(
    run: Sapwood, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine it may take long until a client is back.
    for bound in ("GRACE_S", "SILENT_S"):
        monkeypatch.setattr(announced, bound, 200.0)
    blobs = [some(200_000, seed) for seed in range(60)] + [some(12_000_000)]
    store = open_store(str(run.store), create=True)
    with (
        Server(store, Options(listen="127.0.0.1:0"), run.home / "staging") as server,
        Client(f"127.0.0.1:{server.port}") as client,
        Way(f"127.0.0.1:{server.port}") as way,
    ):
        with delivering(way.where, *blobs, complete=True) as delivery:
            reads = [begin(client.read, blobs[at]) for at in (60, 40, 20)]
            for cut in range(1, 4):
                while way.carried < cut * 4_000_000:
                    assert delivery.error is None
                    time.sleep(0.001)  # so that others have the interpreter
                way.cut()
            assert [read.result(150) for read in reads] == [blobs[60], blobs[40], blobs[20]]
            delivery.wait()
        assert client.missing(blobs) == []


def test_a_server_that_was_killed_loses_readers_and_nothing_that_it_had(run: Sapwood, begin: Any) -> None:
    blobs = [some(100_000, seed) for seed in range(10)]
    listen = f"127.0.0.1:{free_port()}"
    with serving(run, listen=listen) as (server, where), delivering(where, *blobs) as delivery:
        announcer = Announcer(Client(where))
        announcer.announce(b"never")
        with Client(where) as client:
            assert client.read(blobs[0]) == blobs[0]
            reads = [begin(client.read, b"never") for _ in range(20)]
            assert announcer.told("wanted") == [name_of(b"never")]
            server.kill()
            for read in reads:
                with pytest.raises(grpc.RpcError) as lost:
                    read.result(60)
                assert lost.value.code() == grpc.StatusCode.UNAVAILABLE
        server.wait(60)
        with serving(run, listen=where) as (_, again), Client(again) as client:
            client.wait_until_ready()
            delivery.announce([])  # behind what was announced before
            assert client.missing(blobs) == blobs[1:]
            assert client.read(blobs[5]) == blobs[5]
            delivery.send([name_of(blobs[7])])


def test_a_server_that_is_full_is_asked_again_and_then_named(
    tmp_path: Path, run: Sapwood, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.smalldisk import small_disk

    monkeypatch.setattr(sending, "LOST_S", 1.0)
    with small_disk(tmp_path / "disk", 24 << 20) as disk:
        command = run.command(
            "serve", "--json", "--listen", "127.0.0.1:0", "--staging", str(disk / "staging"), str(run.home / "store")
        )
        with subprocess.Popen(command, cwd=run.home, env=run.environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                where = document_of(server)["url"].removeprefix("grpc://")
                little, much = some(1000), some(30 << 20)
                with Client(where) as client, delivering(where, little, much) as delivery:
                    digest = digest_of(much)
                    name = client.name(f"blobs/{digest.hash}/{digest.size_bytes}")
                    read = client.stream.Read(bytestream.ReadRequest(resource_name=name))
                    # What comes when nobody is left who could bring it finds nothing to wait for.
                    assert dict(read.initial_metadata()) == {"sapwood-waits": "1"}
                    assert client.read(little) == little
                    with pytest.raises(UnavailableError) as full:
                        delivery.send([name_of(much)])
                    assert full.value.kind == "executor-full"
                    with pytest.raises(grpc.RpcError) as lost:
                        list(read)
                    assert "announcer-lost" in lost.value.details()
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(60)
