"""How far long work has come.

A callback gets a `Progress` at most ten times a second, in the thread that waits for the work; raising in it cancels.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["OnProgress", "Progress", "counter", "fetching", "steps", "together"]

_PAUSE_S = 0.1


class Progress(NamedTuple):
    """Totals are 0 while they are not known."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


OnProgress = Callable[[Progress], None]


def counter(on_progress: OnProgress | None) -> Callable[[int, int, int, int], None] | None:
    """Return the callback in the form the core calls."""
    if on_progress is None:
        return None
    return lambda *numbers: on_progress(Progress(*numbers))


def together(on_progress: OnProgress | None) -> Callable[[], OnProgress | None]:
    """Return what gives a callback to each of several works at once; what they tell is told as one, one at a time."""
    shares: list[Progress] = []
    guard = threading.Lock()

    def share() -> OnProgress | None:
        if on_progress is None:
            return None
        with guard:
            mine = len(shares)
            shares.append(Progress(0, 0, 0, 0))

        def tell(now: Progress) -> None:
            with guard:
                shares[mine] = now
                on_progress(Progress(*map(sum, zip(*shares, strict=True))))

        return tell

    return share


def steps(on_progress: OnProgress | None, total: int, before: int = 0) -> Callable[[int], None] | None:
    """Return what is told how many of `total` are done, `before` them not counted, and calls back now and then."""
    if on_progress is None:
        return None
    last_s = 0.0

    def step(done: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= _PAUSE_S or before + done == total:
            last_s = time.monotonic()
            on_progress(Progress(before + done, total, 0, 0))

    return step


def fetching(on_progress: OnProgress | None, total: int) -> Callable[[int], None]:
    """Return what is told how many bytes of `total` were fetched."""
    if on_progress is None:
        return lambda _: None
    return lambda done: on_progress(Progress(0, 0, done, total))
