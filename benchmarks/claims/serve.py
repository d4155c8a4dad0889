"""Serving blobs to builds, beside buildbox-casd: one client, one run, both on this disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Figure, Times, Word, at_most, in_turns, memory, ratio
from benchmarks.sapwood import SAPWOOD, clear, place, require_free, with_cache

if TYPE_CHECKING:
    from tests.support.reapiclient import Client

SIDES = ("sapwood", "buildbox-casd")
COMMANDS = (
    "`sapwood serve STORE` : `buildbox-casd CACHE`; a Python client, pieces of 1 MiB; times of one call,"
    " of 300 calls in a row for the small ones, or with eight under way at a time, per call; each write and batch is of"
    " new blobs"
)
_LARGE = 128 << 20
_PIECE = 1 << 20
_CALLS = 300
_AT_A_TIME = 8


@dataclass
class _Calls:
    """Calls to a server: `prepare` makes what is sent, `run` tells the seconds of one call."""

    name: str
    make: Callable[[], list[Callable[[], object]]]

    def prepare(self) -> None:
        """See `measure.Timed`."""
        self._calls = self.make()

    def run(self) -> tuple[float, int]:
        """See `measure.Timed`; memory is not asked for."""
        began = time.perf_counter()
        for call in self._calls:
            call()
        return (time.perf_counter() - began) / len(self._calls), 0


class _Several(_Calls):
    """Calls that return futures; the seconds are those of all by their number."""

    def run(self) -> tuple[float, int]:
        """See `measure.Timed`; memory is not asked for."""
        under_way: deque[Any] = deque()
        began = time.perf_counter()
        for call in self._calls:
            if len(under_way) == _AT_A_TIME:
                under_way.popleft().result()
            under_way.append(call())
        for future in under_way:
            future.result()
        return (time.perf_counter() - began) / len(self._calls), 0


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    require_free(6_000_000_000)
    drawn = random.Random(1)
    with _sapwood() as (ours, process), _casd() as peer:
        write = _both("write", drawn, rounds, ours, peer, _writes)
        read = _both("read", drawn, rounds, ours, peer, _reads)
        batch = _both("batch", drawn, rounds, ours, peer, _batches)
        find = _both("find", drawn, rounds, ours, peer, _finds)
        batches = _both("several batches", drawn, rounds, ours, peer, partial(_batches, several=True), _Several)
        finds = _both("several finds", drawn, rounds, ours, peer, partial(_finds, several=True), _Several)
        peak = _peak(process.pid)
    clear(place("serve"), place("casd"))
    return [
        ratio("ByteStream read of 128 MiB", *read, 0.5),
        ratio("ByteStream write of 128 MiB", *write, 1),
        at_most("FindMissingBlobs(100)", *find, 1000 / 2000),
        at_most("FindMissingBlobs(100), eight at a time", *finds, 1000 / 2000),
        at_most("BatchUpdateBlobs, 100 of 4 KiB", *batch, 1000 / 300),
        at_most("BatchUpdateBlobs, 100 of 4 KiB, eight at a time", *batches, 1000 / 300),
        memory("memory of the server", peak, 1000),
    ]


def _both(
    name: str, drawn: random.Random, rounds: int, ours: Client, peer: Client, make: Any, calls: type[_Calls] = _Calls
) -> tuple[Times, Times]:
    sides = zip(SIDES, (ours, peer), strict=True)
    first, second = in_turns([calls(f"{name} {side}", partial(make, client, drawn)) for side, client in sides], rounds)
    return first, second


def _large(drawn: random.Random) -> bytes:
    # Drawn once and changed in front, for drawing takes longer than what is measured.
    return drawn.randbytes(_PIECE) * (_LARGE // _PIECE)


def _writes(client: Client, drawn: random.Random) -> list[Callable[[], object]]:
    blob = _large(drawn)
    pieces = [blob[at : at + _PIECE] for at in range(0, _LARGE, _PIECE)]
    name = client.upload_name(blob, str(drawn.random()))
    return [lambda: client.write(name, pieces)]


def _reads(client: Client, drawn: random.Random) -> list[Callable[[], object]]:
    blob = _large(drawn)
    client.upload(blob, str(drawn.random()))
    from tests.support.reapiclient import digest_of

    name = client.name(f"blobs/{digest_of(blob).hash}/{_LARGE}")
    return [lambda: client.read_through(name)]


def _batches(client: Client, drawn: random.Random, *, several: bool = False) -> list[Callable[[], object]]:
    requests = [client.update_request([drawn.randbytes(4096) for _ in range(100)]) for _ in range(_CALLS // 3)]
    update = client.cas.BatchUpdateBlobs
    return [partial(update.future if several else update, request) for request in requests]


def _finds(client: Client, drawn: random.Random, *, several: bool = False) -> list[Callable[[], object]]:
    blobs = [drawn.randbytes(4096) for _ in range(100)]
    client.put(*blobs)
    request = client.find_request(blobs)
    find = client.cas.FindMissingBlobs
    return [partial(find.future if several else find, request)] * _CALLS


@contextmanager
def _sapwood() -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    from tests.support.cli import document_of
    from tests.support.reapiclient import Client

    home = place("serve")
    clear(home)
    home.mkdir()
    words: list[Word] = [
        SAPWOOD,
        "serve",
        home / "store",
        "--staging",
        home / "staging",
        "--listen",
        "127.0.0.1:0",
        "--json",
    ]
    environment = {**os.environ, **with_cache(home / "cache")}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            with Client(document_of(process)["url"].partition("://")[2]) as client:
                yield client, process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


@contextmanager
def _casd() -> Iterator[Client]:
    from tests.support.engines import BUILDBOX
    from tests.support.peers import free_port
    from tests.support.reapiclient import Client

    home = place("casd")
    clear(home)
    home.mkdir()
    port = free_port()
    words: list[Word] = [BUILDBOX / "buildbox-casd", f"--bind=127.0.0.1:{port}", "--quota-high=20G", home / "cache"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with Client(f"127.0.0.1:{port}") as client:
                client.wait_until_ready()
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _peak(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
