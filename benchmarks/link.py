"""A slow link on one machine: a TCP relay with a given round trip and rate.

Model: a piece of data leaves when all pieces before it, of all connections in its direction, have left at the link's
rate; it arrives half a round trip later. A new connection first costs a whole round trip, as its handshake would. What
may be on the way is bounded, and sockets have small buffers, so that a sender feels the link. Not modelled: loss, slow
start; both would make many small requests dearer still.

    python -m benchmarks.link 127.0.0.1:8080 --rtt-ms 20 --mbit 100

prints its port, then answers each line on stdin with what has passed: `{"up": bytes, "down": bytes, "connections": n,
"down_s": seconds}`.
It ends when stdin does, so it cannot outlive whoever started it. `linked` does all this from Python.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypedDict

# Pieces interleave, so that connections share the link fairly; 8 KiB is 0.7 ms of 100 Mbit/s.
_PIECE = 8 * 1024
_SOCKET_BUFFER = 64 * 1024
_SEGMENT = 1448
# What may wait for the link at its near end, as in a small router. Without it every late wake-up would be lost time.
_WAITING_S = 0.01


class Counts(TypedDict):
    """Bytes from the client, bytes to the client, connections made; `down_s`: see `_Direction.spent_s`."""

    up: int
    down: int
    connections: int
    down_s: float


class _Direction:
    """One way of the link: shared by all connections, first come, first served."""

    def __init__(self, bytes_per_s: float, delay_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._delay_s = delay_s
        self._free_at = 0.0
        self.passed = 0
        self._span: tuple[float, float] | None = None

    def spent_s(self) -> float:
        """Return the seconds between the first bytes that left since this was asked last, and the last."""
        first, last = self._span or (0, 0)
        self._span = None
        return last - first

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, not_before: float) -> None:
        """Carry bytes until `reader` ends, then end `writer`; the first arrive at `not_before` or later."""
        clock = asyncio.get_running_loop().time
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(self._most_on_the_way())
        delivering = asyncio.create_task(_deliver(on_the_way, writer))
        try:
            while piece := await reader.read(_PIECE):
                began = max(clock(), self._free_at)
                self._free_at = left_at = began + len(piece) / self._bytes_per_s
                self._span = (self._span[0] if self._span else began, left_at)
                self.passed += len(piece)
                await asyncio.sleep(left_at - _WAITING_S - clock())
                await on_the_way.put((max(left_at + self._delay_s, not_before), piece))
            await on_the_way.put((clock() + self._delay_s, b""))
            await delivering
        finally:
            delivering.cancel()

    def _most_on_the_way(self) -> int:
        return max(4, round(2 * self._bytes_per_s * (self._delay_s + _WAITING_S) / _PIECE))


async def _deliver(pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        due, piece = await pieces.get()
        await asyncio.sleep(due - clock())
        if not piece:
            writer.write_eof()
            return
        writer.write(piece)
        await writer.drain()


class _Relay:
    def __init__(self, host: str, port: int, rtt_s: float, bits_per_s: float) -> None:
        self._target = (host, port)
        self._rtt_s = rtt_s
        self._up = _Direction(bits_per_s / 8, rtt_s / 2)
        self._down = _Direction(bits_per_s / 8, rtt_s / 2)
        self._connections = 0

    def counts(self) -> Counts:
        return {
            "up": self._up.passed,
            "down": self._down.passed,
            "connections": self._connections,
            "down_s": self._down.spent_s(),
        }

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        opened = asyncio.get_running_loop().time() + self._rtt_s
        there = None
        with suppress(ConnectionError, OSError):
            try:
                far_socket = _small(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                far_socket.setblocking(False)
                await asyncio.get_running_loop().sock_connect(far_socket, self._target)
                far_reader, there = await asyncio.open_connection(sock=far_socket, limit=_PIECE)
                await asyncio.gather(
                    self._up.carry(reader, there, opened + self._rtt_s / 2),
                    self._down.carry(far_reader, writer, opened),
                )
            finally:
                for end in (writer, there):
                    if end is not None:
                        end.close()


def _small(endpoint: socket.socket) -> socket.socket:
    """Keep the kernel from taking megabytes ahead of the link, in segments as long as an Ethernet's.

    Loopback's segments of 64 KiB are as long as the buffer: each reply would wait 40 ms for an acknowledgement.
    """
    endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
    return endpoint


async def _serve(relay: _Relay) -> None:
    listener = _small(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(relay.connected, sock=listener, limit=_PIECE)
    print(listener.getsockname()[1], flush=True)
    async with server:
        asked = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
        while await asked.readline():
            print(json.dumps(relay.counts()), flush=True)
        # Connections may be open still, but whoever started us wants no more of them.
        os._exit(0)


class Link:
    """A running link; made by `linked`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._answer())

    @property
    def url(self) -> str:
        """The near end, for clients of HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def counts(self) -> Counts:
        """Return what has passed so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counts: Counts = json.loads(self._answer())
        return counts

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the link ended with code {self._process.wait()}")
        return answer


@contextmanager
def linked(port: int, *, rtt_ms: float, mbit: float) -> Iterator[Link]:
    """Give a link to `port` of this machine, in a process of its own, for the life of the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.link", f"127.0.0.1:{port}", "--rtt-ms", str(rtt_ms), "--mbit", str(mbit)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
        # A Ctrl-C is for whoever started it, who then ends it.
        start_new_session=True,
    )
    try:
        yield Link(process)
    finally:
        process.communicate()


def main() -> None:
    """Relay until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.link")
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--rtt-ms", type=float, required=True)
    parser.add_argument("--mbit", type=float, required=True)
    arguments = parser.parse_args()
    host, _, port = arguments.target.rpartition(":")
    relay = _Relay(host, int(port), arguments.rtt_ms / 1e3, arguments.mbit * 1e6)
    asyncio.run(_serve(relay))


if __name__ == "__main__":
    main()
