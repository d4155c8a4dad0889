"""Requests to a store that are counted, killed at, refused, or lose their replies; whatever kind of place it is.

Promise: a request is one call of a method of `sapwood.store.base`, numbered from 1 in the order in which they are made,
for all stores that are opened by their URL in the context. Not here: what goes wrong on the wire (`faultyproxy`).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sapwood.errors import UnavailableError
from tests.support.child import die, in_child

READS = ("get", "get_range", "get_ranges", "list", "listed", "exists", "read_versioned", "is_empty")
WRITES = ("put", "swap", "delete")
_MOST = 1000
_HANGS_S = 120.0


@dataclass(frozen=True)
class Asked:
    """A request: which one, what, of which object."""

    number: int
    verb: str
    key: str

    @property
    def writes(self) -> bool:
        """Whether the place may differ afterwards."""
        return self.verb in WRITES


Meddle = Callable[[Asked, Callable[[], Any]], Any]
"""Is given a request and what makes it; returns what is to be its reply."""


class Meddled:
    """Objects whose every request goes through a `Meddle`."""

    def __init__(self, objects: Any, meddle: Callable[[str, str, Callable[[], Any]], Any]) -> None:
        self._objects = objects
        self._meddle = meddle

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._objects, name)
        if name not in READS + WRITES:
            return found

        def request(*arguments: Any, **named: Any) -> Any:
            key = str(arguments[0]) if arguments else ""
            return self._meddle(name, key, lambda: found(*arguments, **named))

        return request


@contextmanager
def meddling(meddle: Meddle) -> Iterator[list[Asked]]:
    """Let `meddle` see every request to stores opened in the context; the value is the list of them, as it grows."""
    from sapwood.store import store

    asked: list[Asked] = []
    guard = threading.Lock()

    def noted(verb: str, key: str, call: Callable[[], Any]) -> Any:
        with guard:
            this = Asked(len(asked) + 1, verb, key)
            asked.append(this)
        return meddle(this, call)

    plain = store.open_objects

    def opened(url: str) -> Any:
        return tuple(place and Meddled(place, noted) for place in plain(url))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "open_objects", opened)
        yield asked


def seen(_: Asked, call: Callable[[], Any]) -> Any:
    """Change nothing."""
    return call()


def killed_before(number: int) -> Meddle:
    """Die, as by power loss, instead of making a request."""
    return lambda asked, call: die() if asked.number == number else call()


def killed_after(number: int) -> Meddle:
    """Die when a request has been answered."""

    def meddle(asked: Asked, call: Callable[[], Any]) -> Any:
        reply = call()
        if asked.number == number:
            die()
        return reply

    return meddle


def failing(first: int, times: float = 1, *, unheard: bool = False) -> Meddle:
    """Fail so many requests from the `first` on; `unheard`: they are made and only their replies lost."""

    def meddle(asked: Asked, call: Callable[[], Any]) -> Any:
        if not first <= asked.number < first + times:
            return call()
        if unheard:
            call()
        raise UnavailableError(f"{asked.verb} {asked.key}: no answer", kind="store-unreachable", key=asked.key)

    return meddle


WAYS: dict[str, Callable[[int], Meddle]] = {
    "killed before": killed_before,
    "killed after": killed_after,
    "fails once": failing,
    "fails twice": partial(failing, times=2),
    "fails for ever": partial(failing, times=float("inf")),
    "its reply is lost": partial(failing, unheard=True),
}
"""What can become of a request, and what does it to the one of a number."""


class Scene:
    """A directory whose state every trial begins with anew: stores, trees, caches."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._others = set(threading.enumerate())
        self._kept = home.with_name(f"{home.name}.kept")
        shutil.copytree(home, self._kept, symlinks=True)

    def again(self) -> None:
        """Let everything be as it was when this was made; the cache of the user must lie in it to count."""
        self.settle()
        shutil.rmtree(self._home)
        shutil.copytree(self._kept, self._home, symlinks=True)

    def settle(self) -> None:
        """Wait for what calls that failed since this was made left to themselves."""
        settle(self._others)


def settle(others: Collection[threading.Thread]) -> None:
    """Wait for all threads of ours but `others`: what was under way when a call failed goes on, and may still write."""
    while left := [
        thread
        for thread in set(threading.enumerate()).difference(others)
        if thread.name.startswith("sapwood-") and thread.is_alive()
    ]:
        for thread in left:
            thread.join(_HANGS_S)
            assert not thread.is_alive(), thread.name


def trials(scene: Scene, call: Callable[[], Any], meddle: Callable[[int], Meddle]) -> Iterator[tuple[int, Any]]:
    """Do `call` in a child with `meddle(1)`, then with `meddle(2)`, until it makes fewer requests; each from the scene.

    Yields, while all is as the child left it, the number and how it ended: an error (`Killed`, ours), or a result.
    """
    for number in range(1, _MOST):
        scene.again()

        def run(number: int = number) -> tuple[Any, int]:
            with meddling(meddle(number)) as asked:
                return call(), len(asked)

        try:
            ended, made = in_child(run)
        except Exception as error:  # noqa: BLE001 - it is what the caller looks at
            ended, made = error, number
        if made < number:
            return
        yield number, ended
    raise AssertionError(f"after {_MOST} requests there is no end")
