"""Several callers at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sapwood.errors import SapwoodError

_Result = TypeVar("_Result")


def race(racers: int, call: Callable[[int], _Result]) -> list[_Result | SapwoodError]:
    """Run `call(0)` to `call(racers - 1)` in threads that start together; return what each returned or raised."""
    start = threading.Barrier(racers)

    def run(number: int) -> _Result | SapwoodError:
        start.wait()
        try:
            return call(number)
        except SapwoodError as error:
            return error

    with ThreadPoolExecutor(racers) as pool:
        return list(pool.map(run, range(racers)))
