"""Waiting for servers so that Ctrl-C gets through.

Promise: in the main thread, which alone sees signals, `KeyboardInterrupt` is out at once, although obstore looks at
signals only between requests and an executor would wait for its threads; soon, if the kernel chose another thread to
receive the signal. What an interrupted call was doing ends by itself, unheard, or with the process.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

__all__ = ["each", "interruptible", "meanwhile"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# As many requests as a server gladly answers at once, and enough to hide the way to it.
_AT_ONCE = 8

# A signal that another thread receives is acted upon when the main one wakes.
_TICK_S = 0.25


class _Outcome(Generic[_Result]):
    """What a call gave, once it has; `concurrent.futures` is slow to import."""

    def __init__(self) -> None:
        self._settled = threading.Event()
        self._results: list[_Result] = []
        self._error: BaseException | None = None

    def settle(self, call: Callable[[], _Result]) -> None:
        try:
            self._results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error
        self._settled.set()

    def result(self, within_s: float | None = None) -> _Result:
        until = math.inf if within_s is None else time.monotonic() + within_s
        while not self._settled.wait(min(_TICK_S, max(0.0, until - time.monotonic()))):
            if time.monotonic() >= until:
                raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._results[0]


def interruptible(call: Callable[[], _Result], within_s: float | None = None) -> _Result:
    """Return what `call` returns; from the main thread, or for a limited time, wait for it from outside.

    Raises:
        TimeoutError: `within_s` seconds passed; what `call` then returns, nobody hears.
    """
    if within_s is None and threading.current_thread() is not threading.main_thread():
        return call()
    outcome: _Outcome[_Result] = _Outcome()
    _start(lambda: outcome.settle(call))
    return outcome.result(within_s)


def meanwhile(call: Callable[[], _Result]) -> Callable[[], _Result]:
    """Begin `call` in a thread of its own; calling what is returned waits for what it gives, or raises."""
    outcome: _Outcome[_Result] = _Outcome()
    _start(lambda: outcome.settle(call))
    return outcome.result


def each(
    call: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    at_once: int = _AT_ONCE,
    done: Callable[[int], None] | None = None,
) -> list[_Result]:
    """Return `call` of each item, in order, `at_once` at a time; after an error no more are begun.

    `done` is told, in this thread, of how many the results are here.
    """
    outcomes: list[_Outcome[_Result]] = [_Outcome() for _ in items]
    todo = iter(zip(items, outcomes, strict=True))
    taking = threading.Lock()
    stopped = threading.Event()

    def stopping(item: _Item) -> _Result:
        try:
            return call(item)
        except BaseException:
            stopped.set()  # before anybody hears of it
            raise

    def work() -> None:
        while not stopped.is_set():
            with taking:
                taken = next(todo, None)
            if taken is None:
                return
            item, outcome = taken
            outcome.settle(partial(stopping, item))

    for _ in range(min(at_once, len(items))):
        _start(work)
    try:
        results = []
        for outcome in outcomes:
            results.append(outcome.result())
            if done:
                done(len(results))
        return results
    finally:
        stopped.set()


def _start(work: Callable[[], None]) -> None:
    # A daemon: the interpreter does not wait for it at its end.
    threading.Thread(target=work, daemon=True, name="sapwood-request").start()
