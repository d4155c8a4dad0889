"""Threads for calls: so many work at a time, and one that waits for somebody else is not counted among them.

Invariant: calls that wait keep no other call from being worked at, however many they are; and when what they wait for
has come, no more of them work at a time than any calls.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

__all__ = ["Calls"]

_Work = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Calls(Executor):
    """An executor of which `most` threads work at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._todo: deque[_Work] = deque()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        # Threads that have nothing to do, that work, and that have waited and would go on.
        self._idle = self._working = self._back = 0
        self._is_closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor`."""
        future = Future[Any]()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("no more calls")
            self._todo.append((future, fn, args, kwargs))
            self._wake()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """See `Executor`; a thread ends with what it does."""
        with self._lock:
            self._is_closed = True
            self._work.notify_all()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let the thread that calls not be counted; what follows begins when it may be again."""
        with self._lock:
            self._working -= 1
            self._wake()
        try:
            yield
        finally:
            with self._lock:
                self._back += 1
                while self._working >= self._most:
                    self._room.wait()
                self._back -= 1
                self._working += 1
                self._wake()

    def _wake(self) -> None:
        """Let one more thread go on, if there is room; it wakes the next."""
        if self._working >= self._most:
            return
        if self._back:
            self._room.notify()
        elif self._todo and self._idle:
            self._work.notify()
        elif self._todo:
            threading.Thread(target=self._run, daemon=True, name="sapwood-call").start()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._todo or self._working >= self._most:
                    # More than can work at a time were needed while others waited.
                    if self._is_closed or self._idle >= self._most:
                        return
                    self._idle += 1
                    self._work.wait()
                    self._idle -= 1
                future, fn, args, kwargs = self._todo.popleft()
                self._working += 1
                self._wake()
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever has the future decides
                future.set_exception(error)
            del future, fn, args, kwargs
            with self._lock:
                self._working -= 1
                self._wake()
