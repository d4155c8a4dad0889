"""A way to a server on this machine that breaks once, when so many bytes have gone to it.

Promise: what went before arrived; behind the break both sides find the connection closed, and new ones pass.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["cutting"]


@contextmanager
def cutting(host: str, after: int) -> Iterator[str]:
    """Lead to `host`, and break the connection that carries the byte `after`; the value is host and port."""
    left = [after]
    guard = threading.Lock()

    def carry(source: socket.socket, sink: socket.socket, *, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with guard:
                    ends = counts and 0 < left[0] <= len(data)
                    left[0] -= len(data) if counts else 0
                if ends:
                    break
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listening.accept()
                far = socket.create_connection((host.partition(":")[0], int(host.partition(":")[2])))
                for source, sink, counts in ((near, far, True), (far, near, False)):
                    threading.Thread(target=carry, args=(source, sink), kwargs={"counts": counts}, daemon=True).start()

    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        # Only so does a thread that waits for the next one hear of it.
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
