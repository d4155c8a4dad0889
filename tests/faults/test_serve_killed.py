"""What `sapwood serve` has acknowledged survives its death at any time; what was half there is not given to anybody."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.store import open_store
from sapwood.upkeep.verify import verify
from tests.support.cli import Sapwood, document_of
from tests.support.reapiclient import Client
from tests.support.served import serving


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


def test_what_was_acknowledged_is_there_after_a_kill(run: Sapwood) -> None:
    """Clients store as fast as they can; the server is killed again and again, while it packs, too."""
    acknowledged: list[bytes] = []
    results: dict[bytes, int] = {}
    for round_ in range(4):
        with serving(run) as (server, where):
            with Client(where) as client:
                assert all(client.read(blob) == blob for blob in acknowledged[-30:])
                assert client.missing(acknowledged) == []
                assert {action: client.result(action).exit_code for action in results} == results
            died = threading.Event()

            def store(worker: int, where: str = where, round_: int = round_, died: threading.Event = died) -> None:
                drawn = random.Random(f"{round_} {worker}")
                with Client(where) as client:
                    for number in range(10_000):
                        if len(acknowledged) > 150 * (round_ + 1):
                            died.set()
                        large = worker == 0 and number % 10 == 5
                        blob = drawn.randbytes((1 << 20) + 100 if large else drawn.randrange(1, 5000))
                        action = f"{worker} {number % 7}".encode()
                        try:
                            if large:
                                client.upload(blob, f"{worker}-{number}")
                            else:
                                client.put(blob)
                            acknowledged.append(blob)
                            results.pop(action, None)
                            client.set_result(action, reapi.ActionResult(exit_code=number))
                            results[action] = number
                        except grpc.RpcError:
                            return

            threads = [threading.Thread(target=store, args=[worker]) for worker in range(3)]
            for thread in threads:
                thread.start()
            assert died.wait(200)
            server.kill()
            for thread in threads:
                thread.join()
    with serving(run) as (_, where), Client(where) as client:
        assert client.missing(acknowledged) == []
        for blob in acknowledged[::10]:
            assert client.read(blob) == blob
        assert {action: client.result(action).exit_code for action in results} == results
    # It has packed all that when it ended, and its own place is empty.
    assert verify(open_store(str(run.store))).damages == ()
    assert [path.name for path in (run.home / "staging" / "logs").glob("*.log")] == []


@pytest.mark.parametrize("spoilt", ["cut", "flipped"])
def test_a_log_ends_where_it_is_not_sound_any_more(run: Sapwood, spoilt: str) -> None:
    blobs = [bytes([number]) * 1000 for number in range(10)]
    with serving(run) as (server, where):
        with Client(where) as client:
            for blob in blobs:
                client.put(blob)
        server.kill()
    [log] = (run.home / "staging" / "logs").iterdir()
    data = bytearray(log.read_bytes())
    if spoilt == "cut":
        del data[-500:]
    else:
        data[-500] ^= 1
    log.write_bytes(data)
    with serving(run) as (_, where), Client(where) as client:
        assert client.missing(blobs) == blobs[-1:]
        client.put(blobs[-1])
        assert [data for _, data, _ in client.get(*blobs)] == blobs


def test_a_large_blob_that_its_disk_has_spoilt_is_not_given_but_named(run: Sapwood) -> None:
    blob = random.Random(1).randbytes(2 << 20)
    with serving(run) as (server, where):
        with Client(where) as client:
            client.upload(blob)
        server.kill()
    [large] = (run.home / "staging" / "large").iterdir()
    os.chmod(large, 0o600)
    large.write_bytes(b"x" + blob[1:])
    with serving(run) as (server, where), Client(where) as client:
        assert client.missing([blob]) == [blob]
        assert server.stderr is not None
        assert large.name in server.stderr.readline()
        client.upload(blob)
        assert client.read(blob) == blob


def test_it_ends_when_asked_and_lets_a_call_end_first(run: Sapwood) -> None:
    blob = random.Random(2).randbytes(3 << 20)
    with serving(run) as (server, where), Client(where) as client:
        name = client.upload_name(blob)
        from sapwood.reapi.protocol import bytestream_pb2 as bytestream

        rest = threading.Event()

        def requests() -> Iterator[bytestream.WriteRequest]:
            yield bytestream.WriteRequest(resource_name=name, data=blob[:100])
            rest.wait(60)
            yield bytestream.WriteRequest(write_offset=100, data=blob[100:], finish_write=True)

        call = client.stream.Write.future(requests())
        while True:
            try:
                client.status(name)
                break
            except grpc.RpcError:
                pass
        server.send_signal(signal.SIGINT)
        assert server.stderr is not None
        rest.set()
        assert call.result().committed_size == len(blob)
        assert server.wait(60) == 0
    with serving(run) as (_, where), Client(where) as client:
        assert client.read(blob) == blob


def test_a_full_disk_refuses_what_it_cannot_hold_and_keeps_what_it_has(tmp_path: Path, run: Sapwood) -> None:
    from tests.support.smalldisk import small_disk

    with small_disk(tmp_path / "disk", 24 << 20) as disk:
        command = run.command(
            "serve", "--json", "--listen", "127.0.0.1:0", "--staging", str(disk / "staging"), str(run.home / "store")
        )
        with subprocess.Popen(command, cwd=run.home, env=run.environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                with Client(document_of(server)["url"].removeprefix("grpc://")) as client:
                    kept = random.Random(3).randbytes(5 << 20)
                    client.upload(kept)
                    for seed in range(4, 6):
                        large = random.Random(seed).randbytes(22 << 20)
                        with pytest.raises(grpc.RpcError) as refused:
                            client.upload(large)
                        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                        assert "--staging" in refused.value.details()
                    assert client.read(kept) == kept
                    client.put(b"small")
                    assert client.missing([b"small", kept]) == []
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(60)
