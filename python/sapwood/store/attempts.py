"""How long a request is waited for, and how often it is tried again.

Promise: nothing hangs. An attempt to read is given `QUIET_S` and the time its bytes take at `SLOWEST` bytes a second;
an attempt to write ends after `write_limit_s`, and takes no effect later. Attempts are begun for a minute at most;
between them is a pause that doubles, with jitter, longer where the server said that it is busy, or how long. What that
makes of the longest request is in docs/store.md. Refused credentials are read anew, once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from sapwood.errors import DeniedError, UnavailableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

__all__ = ["ONCE", "QUIET_S", "SLOWEST", "client_options", "persist", "reading_s", "telling", "write_limit_s"]

_Result = TypeVar("_Result")

CONNECT_S = 5.0
QUIET_S = 20.0
SLOWEST = 64 * 1024
WRITE_S = 300.0
WRITE_SMALL_S = 15.0
SMALL = 64 * 1024
ATTEMPTS = 6
BEGIN_S = 60.0
FIRST_PAUSE_S = 0.1
FIRST_PAUSE_OF_THE_BUSY_S = 1.0
LONGEST_PAUSE_S = 15.0

ONCE: RetryConfig = {"max_retries": 0}
"""For obstore: attempts are counted here."""


_hear: ContextVar[Callable[[float], None]] = ContextVar("hear")


@contextmanager
def telling(hear: Callable[[float], None]) -> Iterator[None]:
    """Let `hear` be told of each attempt of this thread that failed: in how many seconds the next one begins."""
    token = _hear.set(hear)
    try:
        yield
    finally:
        _hear.reset(token)


def reading_s(length: int) -> float:
    """Return how long an attempt to read so many bytes may take."""
    return QUIET_S + min(length / SLOWEST, 3600)  # a damaged map may ask for more than there are seconds


def write_limit_s(length: int, grace_s: float | None) -> float:
    """Return how long an attempt to write so many bytes may take in a store of this grace, None while it has none.

    Attempts are begun for as long at most, so the longest request takes an eighth of the grace.
    """
    limit = WRITE_SMALL_S if length <= SMALL else WRITE_S
    return limit if grace_s is None else min(limit, grace_s / 16)


def client_options(*, allow_http: bool, writing_s: float | None = None) -> ClientConfig:
    """Limits for obstore: of a client that reads, or whose requests take at most `writing_s` seconds.

    A writer's server is rightly silent during an upload, for longer than a reader would wait.
    """
    # Of a reader `waiting.within` ends the wait; this is when obstore gives the connection up behind it.
    limits: ClientConfig = {"timeout": timedelta(seconds=writing_s or WRITE_S)}
    if writing_s is None:
        limits["read_timeout"] = timedelta(seconds=QUIET_S)
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "user_agent": "sapwood",
        **limits,
    }


def persist(attempt: Callable[[], _Result], renew: Callable[[], bool], *, begin_s: float = BEGIN_S) -> _Result:
    """Return what an attempt returns, trying again what may pass: no reply, a busy or failing server.

    `renew` reads credentials anew after the first refusal and says whether that can change anything.
    """
    begun, tried, renewed, pause = time.monotonic(), 0, False, FIRST_PAUSE_S
    while True:
        try:
            return attempt()
        except DeniedError as error:
            if renewed or error.kind != "store-denied" or not renew():
                raise
            renewed = True
        except UnavailableError as error:
            tried += 1
            if not getattr(error, "may_pass", True):
                raise
            if error.retry_after_s > 1:
                pause = max(pause, FIRST_PAUSE_OF_THE_BUSY_S)
            # Jitter, so that those who were refused together do not come back together.
            wait = max(random.uniform(pause / 2, pause), getattr(error, "wait_s", 0.0))
            if tried >= ATTEMPTS or time.monotonic() + wait > begun + min(begin_s, BEGIN_S):
                raise
            if hear := _hear.get(None):
                hear(wait)
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE_S)
