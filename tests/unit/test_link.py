"""The slow link is slow in the way it says: otherwise no figure that went over it means anything."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.link import Link, linked


@pytest.fixture
def sink() -> Iterator[int]:
    """A server that answers each byte with as many zero bytes as it says in units of 100 kB; the value is its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with closing(connection):
            while asked := connection.recv(1):
                connection.sendall(bytes(asked[0] * 100_000) or b"x")

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def ask(connection: socket.socket, units: int) -> float:
    """Return the seconds until the whole answer has come."""
    began = time.perf_counter()
    connection.sendall(bytes([units]))
    left = units * 100_000 or 1
    while left:
        left -= len(connection.recv(min(left, 1 << 16)))
    return time.perf_counter() - began


def connected(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port))


def test_a_request_costs_a_round_trip_and_the_first_two(sink: int) -> None:
    with linked(sink, rtt_ms=50, mbit=1000) as link, closing(connected(link)) as connection:
        first, second = ask(connection, 0), ask(connection, 0)
    assert 0.1 <= first < 0.3
    assert 0.05 <= second < 0.2


def test_bytes_take_as_long_as_the_rate_says(sink: int) -> None:
    with linked(sink, rtt_ms=2, mbit=20) as link, closing(connected(link)) as connection:
        spent = ask(connection, 10)
    # A megabyte at 20 Mbit/s is 0.4 s; what waits at the near end may come 10 ms early.
    assert 0.38 <= spent < 1


def test_connections_share_the_rate(sink: int) -> None:
    with linked(sink, rtt_ms=2, mbit=20) as link:
        spent: list[float] = []

        def one() -> None:
            with closing(connected(link)) as connection:
                spent.append(ask(connection, 5))

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 0.38 <= max(spent) < 1
    assert min(spent) > 0.3


def test_it_counts_what_passed_and_when(sink: int) -> None:
    with linked(sink, rtt_ms=1, mbit=100) as link, closing(connected(link)) as connection:
        ask(connection, 3)
        counts = link.counts()
        assert (counts["up"], counts["down"], counts["connections"]) == (1, 300_000, 1)
        assert counts["down_s"] >= 300_000 * 8 / 100e6 * 0.999
        assert link.counts()["down_s"] == 0


def test_it_ends_with_whoever_started_it(sink: int) -> None:
    with linked(sink, rtt_ms=1, mbit=1000) as link:
        connection = connected(link)
        ask(connection, 0)
    with closing(connection):
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connected(link)
