"""Channels to servers of the Remote Execution API, and what their refusals mean.

Invariant: whatever a call ends in is an error of ours that names the server and says what it said; what may go away by
itself (no answer, busy) is an `UnavailableError`, and is tried again by `trying`: while a server that has answered
before is away two minutes, else five times.
Not here: what is asked (`cas`, `sapwood.build.engine`).
"""

from __future__ import annotations

import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc

from sapwood.errors import (
    CorruptError,
    DeniedError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    StoppedError,
    UnavailableError,
)

__all__ = ["AGAIN", "LOST_S", "PAUSES_S", "Peer", "Refused", "Tries", "answer_of", "connect", "read_token", "trying"]

_RECEIVED_BYTES = 64 << 20
# Servers take more frequent pings for an attack, unless told otherwise.
_ALIVE_MS = 301_000
_DEAD_MS = 20_000
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0)
"""How long is waited before each further try."""
LOST_S = 120.0
"""For how long a server that is away is asked again."""
# Who is back so soon was hardly away: nobody need hear of it.
_BLIP_TRIES = 3

_Code = grpc.StatusCode
AGAIN = (_Code.UNAVAILABLE, _Code.ABORTED, _Code.DEADLINE_EXCEEDED, _Code.INTERNAL, _Code.UNKNOWN, _Code.CANCELLED)
Answer = TypeVar("Answer")


class Peer:
    """A server: its URL and a channel to it, which `close` ends, and with it all calls.

    `say` hears, from any thread, that it is away, and that it is back.
    """

    def __init__(self, url: str, channel: grpc.Channel, say: Callable[[str], None] = lambda _: None) -> None:
        self.url = url
        self.channel = channel
        self.has_answered = False
        self._say = say
        self._is_away = False
        self._lock = threading.Lock()

    def answered(self) -> None:
        """Know that it is there."""
        self.has_answered = True
        if self._is_away and self._becomes(away=False):
            self._say(f"{self.url} is back")

    def missed(self, error: grpc.RpcError, tries: int) -> None:
        """Know that so many calls in a row had no answer."""
        if self.has_answered and tries >= _BLIP_TRIES and self._becomes(away=True):
            why = error.details() or error.code().name
            self._say(f"{self.url} does not answer, and is asked again for {LOST_S:g} s: {why[:200]}")

    def silent(self, seconds: float) -> None:
        """Know that a call has waited for so long, though the connection lives."""
        if self._becomes(away=True):
            self._say(f"{self.url} has not answered for {seconds:g} s, and is waited for")

    def _becomes(self, *, away: bool) -> bool:
        with self._lock:
            was, self._is_away = self._is_away, away
            return was != away

    def close(self) -> None:
        """End all calls."""
        self.channel.close()


def connect(
    url: str, *, token: str | None = None, ca: bytes | None = None, say: Callable[[str], None] = lambda _: None
) -> Peer:
    """Return a channel to `grpc://HOST:PORT` or, by TLS, `grpcs://HOST:PORT`; nothing is sent yet.

    `ca` are certificates that are trusted instead of the system's; `say` as of `Peer`.

    Raises:
        InvalidInputError: `bad-executor`: that is no such URL.
    """
    scheme, _, where = url.partition("://")
    host, _, port = where.rstrip("/").rpartition(":")
    if scheme not in ("grpc", "grpcs") or not host or not port.isdecimal() or "/" in host:
        raise InvalidInputError(
            f"{url}: no address of a server of the Remote Execution API",
            kind="bad-executor",
            hint="grpc://HOST:PORT, or grpcs://HOST:PORT by TLS",
        )
    options = [
        ("grpc.max_receive_message_length", _RECEIVED_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", _ALIVE_MS),
        ("grpc.keepalive_timeout_ms", _DEAD_MS),
        # A server that comes back is found soon.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    target = f"{host}:{port}"
    if scheme == "grpc":
        channel = grpc.insecure_channel(target, options)
    else:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(ca), options)
    if token:
        channel = grpc.intercept_channel(channel, _Bearer(token))
    return Peer(f"{scheme}://{target}", channel, say)


def read_token(path: str) -> str:
    """Return the bearer token that a file holds.

    Raises:
        NotFoundError: `path-missing`.
        DeniedError: `path-denied`.
        InvalidInputError: `bad-token`: that is none.
    """
    try:
        token = Path(path).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        raise NotFoundError(f"{path} is missing", kind="path-missing", hint="--token-file FILE") from None
    except OSError as error:
        raise DeniedError(f"{path} cannot be read: {error.strerror}", kind="path-denied") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInputError(f"{path} holds no token", kind="bad-token", hint="one word, on one line")
    return token


_Details = namedtuple("_Details", ("method", "timeout", "metadata", "credentials", "wait_for_ready", "compression"))


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Sends a token with each call."""

    def __init__(self, token: str) -> None:
        self._word = ("authorization", f"Bearer {token}")

    def _call(self, go_on: Any, details: Any, request: Any) -> Any:
        told = [*(details.metadata or ()), self._word]
        given = (getattr(details, name, None) for name in ("credentials", "wait_for_ready", "compression"))
        return go_on(_Details(details.method, details.timeout, told, *given), request)

    intercept_unary_unary: Any = _call
    intercept_unary_stream: Any = _call
    intercept_stream_unary: Any = _call
    intercept_stream_stream: Any = _call


class Refused(grpc.RpcError):
    """A status that an answer has within it."""

    def __init__(self, status: Any) -> None:
        """Of a `google.rpc.Status`."""
        super().__init__(status.message)
        self.status = status

    def code(self) -> grpc.StatusCode:
        """Return the status's code, as errors of calls do."""
        return next((code for code in _Code if code.value[0] == self.status.code), _Code.UNKNOWN)

    def details(self) -> str:
        """Return the status's text."""
        return str(self.status.message)


def answer_of(error: grpc.RpcError, url: str, what: str) -> SapwoodError:
    """Return the error that a call to do `what` ended in."""
    code, details = error.code(), error.details() or ""
    said = f"{url}: cannot {what}: {details[:500] or code.name} ({code.name})"
    if code in AGAIN:
        return UnavailableError(
            said, kind="executor-unreachable", hint="is it running, and is that its address? then again", code=code
        )
    if code is _Code.RESOURCE_EXHAUSTED:
        return UnavailableError(said, kind="executor-full", hint="wait, or give it more room", code=code)
    if code in (_Code.UNAUTHENTICATED, _Code.PERMISSION_DENIED):
        return DeniedError(said, kind="executor-denied", hint="--token-file FILE with a token that may", code=code)
    if code is _Code.DATA_LOSS:
        return CorruptError(said, kind="executor-corrupt", code=code)
    if code is _Code.NOT_FOUND:
        return NotFoundError(said, kind="executor-lacks", code=code)
    return InvalidInputError(said, kind="executor-refused", code=code)


class Tries:
    """Further tries of one call to `peer`: how long to wait before each."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._pauses = iter(PAUSES_S)
        self._missed = 0
        self._since_s = 0.0

    def after(self, error: grpc.RpcError, what: str, *, was_heard: bool = False) -> float:
        """Return how many seconds after a call to do `what` failed it may be made again.

        With `was_heard` it had been answered before it failed.

        Raises:
            SapwoodError: as `answer_of`: it makes no sense, or was done often or long enough.
        """
        found = answer_of(error, self._peer.url, what)
        is_away = error.code() in AGAIN and not isinstance(error, Refused) and not was_heard
        if not is_away:
            self._missed = 0
            self._peer.answered()
        if not isinstance(found, UnavailableError):
            raise found from error
        if not (is_away and self._peer.has_answered):
            pause_s = next(self._pauses, None)
            if pause_s is None:
                raise found from error
            return pause_s
        now_s = time.monotonic()
        self._since_s = self._since_s if self._missed else now_s
        self._missed += 1
        self._peer.missed(error, self._missed)
        if now_s - self._since_s > LOST_S:
            found.hint = f"it was waited for {LOST_S:g} s; when it runs again, build again: what is built is kept"
            raise found from error
        return PAUSES_S[min(self._missed, len(PAUSES_S)) - 1]


def trying(call: Callable[[], Answer], peer: Peer, what: str, cancel: threading.Event) -> Answer:
    """Return what `call` returns, which is made again while the server does not answer or is busy.

    Raises:
        UnavailableError: `executor-unreachable`, `executor-full`.
        StoppedError: `stopped`: `cancel` was set.
        SapwoodError: as `answer_of`.
    """
    tries = Tries(peer)
    while True:
        if cancel.is_set():
            raise StoppedError("stopped", kind="stopped")
        try:
            answer = call()
        except (grpc.RpcError, ValueError) as error:
            if cancel.is_set():
                raise StoppedError("stopped", kind="stopped") from error
            if not isinstance(error, grpc.RpcError):
                raise
            pause_s = tries.after(error, what)
        else:
            peer.answered()
            return answer
        cancel.wait(pause_s)
