"""The HTTP servers of tests: a thread for each connection, and a way to know that none is at work any more.

Promise: nothing of a connection whose client went away comes later than `settle`. Not here: what is replied.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any, TypeVar

__all__ = ["Server", "running"]


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1; `url` ends without a slash."""

    daemon_threads = True
    # Who finds the queue full asks again after seconds.
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._attended: set[object] = set()
        super().__init__(*arguments)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def settle(self) -> None:
        """Wait until all that came is done with: who sent it may have been killed since, and keeps no connection."""
        # It is accepted after all that were there before it, and closed as soon as it is looked at.
        with socket.create_connection(("127.0.0.1", self.server_address[1])) as last:
            last.shutdown(socket.SHUT_WR)
            last.recv(1)
        while self._attended:
            time.sleep(0.01)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._attended.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._attended.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # That a client has gone is no news, least of all on the stderr of whatever test runs by then.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


_Server = TypeVar("_Server", bound=Server)


@contextmanager
def running(server: _Server) -> Iterator[_Server]:
    """Let a server serve from a thread of this process for the life of the context."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
