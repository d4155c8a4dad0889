"""HTTP to registries and to where they send us: connections that are used again, and one reply to one request.

Promise: nothing hangs, and no more of a reply is read than was asked for. No redirect is followed and no status judged
here (`registry`). Not obstore, which neither shows the headers of a refusal nor lets a redirect be looked at.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from sapwood import places
from sapwood.errors import SapwoodError, UnavailableError
from sapwood.store import attempts
from sapwood.store.waiting import interruptible

__all__ = ["Into", "Reply", "Server", "Wire"]

_PIECE = 256 * 1024
# Of the idle connections to one server so many are kept.
_KEPT = 16


class Server(NamedTuple):
    """Whom credentials are shown to: nobody else."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Server:
        """Return the server of an `http` or `https` URL.

        Raises:
            ValueError: it is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(url)
        return cls(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))


@dataclass(frozen=True)
class Reply:
    """What was answered; `is_cut` if the body has more bytes than were to be read."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    is_cut: bool


Into = Callable[[int, http.client.HTTPMessage], Callable[[bytes], object] | None]
"""Of a reply's status and headers, what takes its body as it comes; None lets it be kept as ever."""


class Wire:
    """Safe to use from several threads: each request has a connection to itself."""

    def __init__(self) -> None:
        self._idle: dict[Server, list[http.client.HTTPConnection]] = {}
        self._guard = threading.Lock()

    def reconnect(self) -> None:
        """Ask by new connections from now on."""
        with self._guard:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        most: int,
        body: bytes | memoryview | None = None,
        into: Into | None = None,
    ) -> Reply:
        """Send a request, and read at most so many bytes of what is answered; what goes `into` another is not kept.

        Raises:
            UnavailableError: `store-unreachable`: no connection, no reply in time, or one that breaks off.
        """
        shown = url.partition("?")[0]
        try:
            within = attempts.reading_s(most) if body is None else attempts.WRITE_S + len(body) / attempts.SLOWEST
            return interruptible(lambda: self._ask(method, url, headers, most, body, into), within)
        except SapwoodError:
            raise  # of who takes what comes
        except TimeoutError:
            raise _unreachable(shown, "no reply in time") from None
        except ssl.SSLCertVerificationError as error:
            raise _unreachable(shown, f"its certificate is not trusted: {error.verify_message}", passes=False) from None
        except ssl.SSLError as error:
            raise _unreachable(shown, f"no TLS connection: {error.reason or error}") from None
        except ConnectionRefusedError:
            refused = _unreachable(shown, "the connection was refused: nothing listens there")
            refused.hint = f"is it up, and this its port? curl {'/'.join(shown.split('/')[:3])}/v2/"
            raise refused from None
        except (http.client.IncompleteRead, ConnectionError):
            raise _unreachable(shown, "the connection broke") from None
        except http.client.HTTPException as error:
            raise _unreachable(shown, f"no reply that can be understood ({type(error).__name__})") from None
        except OSError as error:
            raise _unreachable(shown, f"no connection: {error.strerror or error}") from None
        except ValueError as error:  # what cannot be said in HTTP, or is no server's name
            raise _unreachable(shown, f"nothing that can be asked for ({type(error).__name__})", passes=False) from None

    def _ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        most: int,
        body: bytes | memoryview | None,
        into: Into | None,
    ) -> Reply:
        server, parts = Server.of(url), urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"User-Agent": "sapwood", "Accept-Encoding": "identity", **headers}
        while True:
            connection, is_new, absolute = self._connection(server)
            try:
                # Who is given something is rightly silent until he has it safe.
                connection.sock.settimeout(attempts.QUIET_S if body is None else attempts.WRITE_S)
                connection.request(method, f"http://{parts.netloc}{path}" if absolute else path, body, sent)
                response = connection.getresponse()
            except (ConnectionError, http.client.BadStatusLine):
                connection.close()
                if is_new or method == "PATCH":  # of which some may have arrived
                    raise
                continue  # it was closed over there since it was used last
            except BaseException:
                connection.close()
                raise
            try:
                take = into(response.status, response.headers) if into else None
                if into and not take:  # it is an error, whose body is short
                    most = min(most, _PIECE)
                data, is_cut = _read(response, most, time.monotonic() + attempts.reading_s(most), take)
            except BaseException:
                connection.close()
                raise
            if is_cut or response.will_close:
                connection.close()
            else:
                self._keep(server, connection)
            return Reply(response.status, response.headers, data, is_cut)

    def _connection(self, server: Server) -> tuple[http.client.HTTPConnection, bool, bool]:
        """Return a connection, whether it is new, and whether a proxy wants whole URLs."""
        proxy = places.proxy_for(server.scheme, server.host)
        with self._guard:
            if idle := self._idle.get(server):
                return idle.pop(), False, bool(proxy) and server.scheme == "http"
        via = Server.of(proxy) if proxy else server
        if server.scheme == "https":
            context = _trusted(server)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                via.host, via.port, timeout=attempts.CONNECT_S, context=context
            )
            if proxy:
                connection.set_tunnel(server.host, server.port)
        else:
            connection = http.client.HTTPConnection(via.host, via.port, timeout=attempts.CONNECT_S)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            connection.close()
            raise
        return connection, True, bool(proxy) and server.scheme == "http"

    def _keep(self, server: Server, connection: http.client.HTTPConnection) -> None:
        with self._guard:
            idle = self._idle.setdefault(server, [])
            if len(idle) < _KEPT:
                idle.append(connection)
                return
        connection.close()


def _read(
    response: http.client.HTTPResponse, most: int, until: float, take: Callable[[bytes], object] | None
) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    left, take = most, take or pieces.append
    while left and (piece := response.read(min(left, _PIECE))):
        take(piece)
        left -= len(piece)
        if time.monotonic() > until:
            raise TimeoutError
    if response.length and not left:
        return b"".join(pieces), True
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    # Of one that does not say how long it is, the end must be read for the connection to be used again.
    return b"".join(pieces), bool(not left and response.read(1))


def _trusted(server: Server) -> ssl.SSLContext:
    """Whom to believe: the system's authorities, and those that docker and podman are told of for one registry."""
    context = ssl.create_default_context()
    names = {server.host, f"{server.host}:{server.port}"}
    for folder in places.certificate_folders():
        for name in names:
            with contextlib.suppress(OSError):
                for file in os.listdir(os.path.join(folder, name)):
                    if file.endswith(".crt"):
                        context.load_verify_locations(os.path.join(folder, name, file))
    return context


def _unreachable(shown: str, found: str, *, passes: bool = True) -> UnavailableError:
    return UnavailableError(f"{shown}: {found}", kind="store-unreachable", may_pass=passes, status=0)
