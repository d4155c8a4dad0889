"""A simulated place and those who use it: what docs/store.md, "What is assumed of a place", allows, and nothing better.

Promise: whoever uses the place is a generator that yields `Request`s and is sent replies. Between a reply and the next
request any time may pass; a request takes effect, if at all, within `LONGEST_REQUEST` ticks; its reply may be lost, and
it may take effect twice; a listing may be `LATEST_LISTING` ticks late, for each key by itself. All choices are made by
the `choose` of the world: a seed or Hypothesis. Not here: what is requested, and what must hold (`protocol`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

GRACE = 16
LATEST_LISTING = 2
LONGEST_REQUEST = 1
assert 4 * (LATEST_LISTING + LONGEST_REQUEST) < GRACE

Choose = Callable[[int], int]
"""Return a number below the argument."""
Fate = Literal["answered", "twice", "unheard", "lost"]
"""`unheard` took effect and lost its reply; `lost` took none."""


class Request(NamedTuple):
    """What is asked of a place. `expect` is the value that a swap replaces, None to create."""

    verb: Literal["get", "put", "swap", "delete", "list", "time"]
    key: str
    value: Any = None
    expect: Any = None


class Violation(AssertionError):
    """The protocol broke a promise."""


class MissingError(Exception):
    """There is no such object."""


class ChangedError(Exception):
    """A swap found something else."""


class LostError(Exception):
    """No reply came; the request took effect or did not, and will not any more."""


class GaveUpError(Exception):
    """Whoever it is ends without having done what it was to do; the argument says why."""


Actor = Generator[Request, Any, Any]


class _State(NamedTuple):
    since: int
    value: Any


class Place:
    """Objects by key, with the time at which each was put; every state that a key ever had."""

    def __init__(self, choose: Choose) -> None:
        self.now = 0
        self._choose = choose
        self._states: dict[str, list[_State]] = {}

    def be_late(self, choose: Choose) -> None:
        """Let something else choose from now on how late listings are."""
        self._choose = choose

    def peek(self, key: str) -> Any:
        """Return the object, or None."""
        states = self._states.get(key)
        return states[-1].value if states else None

    def now_there(self, prefix: str = "") -> list[str]:
        """Return the keys of all there is below `prefix`."""
        return [key for key, states in self._states.items() if key.startswith(prefix) and states[-1].value is not None]

    def ever(self, key: str) -> list[Any]:
        """Return all values that a key ever had."""
        return [state.value for state in self._states.get(key, [])]

    def serve(self, request: Request) -> Any:
        """Do what is asked now and return the reply, an exception if it is one."""
        current = self.peek(request.key)
        match request.verb:
            case "put":
                self._set(request.key, request.value)
            case "delete":
                self._set(request.key, None)
            case "swap":
                if current != request.expect:
                    return ChangedError()
                self._set(request.key, request.value)
            case "list":
                return self._list(request.key)
            case "time":
                return MissingError() if current is None else self._states[request.key][-1].since
            case "get":
                return MissingError() if current is None else current
        return None

    def _set(self, key: str, value: Any) -> None:
        self._states.setdefault(key, []).append(_State(self.now, value))

    def _list(self, prefix: str) -> dict[str, int]:
        """Return each key with the time at which it was put, as it was at some moment not too long ago."""
        late = self._choose(3) == 0
        listed = {}
        for key, states in self._states.items():
            if not key.startswith(prefix):
                continue
            shown: _State | None = states[-1]
            if late:
                # A state was true until the next one began.
                ends = [state.since for state in states[1:]] + [self.now]
                recent = [s for s, end in zip(states, ends, strict=True) if end >= self.now - LATEST_LISTING]
                choices = [*recent, None] if states[0].since >= self.now - LATEST_LISTING else recent
                shown = choices[self._choose(len(choices))]
            if shown is not None and shown.value is not None:
                listed[key] = shown.since
        return listed


@dataclass
class Running:
    """One who uses the place: its request, if it waits for its effect, or the reply that it has not yet looked at."""

    name: str
    actor: Actor
    request: Request | None = None
    issued: int = 0
    reply: Any = None
    asleep_until: int = 0


@dataclass
class World:
    """The place, its clock, and all who use it; `watch` is called after everything that changes an object."""

    choose: Choose
    watch: Callable[[Running, Request], None] = lambda *_: None
    place: Place = field(init=False)
    running: list[Running] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    names: int = 0

    def __post_init__(self) -> None:
        self.place = Place(self.choose)

    @property
    def now(self) -> int:
        """Ticks; those who use the place only take differences of it."""
        return self.place.now

    def nonce(self) -> str:
        """Return what was never returned before."""
        self.names += 1
        return f"{self.names:03}"

    def start(self, name: str, actor: Actor) -> Running:
        """Let somebody begin; its first request is made at once."""
        started = Running(f"{name} {self.nonce()}", actor)
        self.running.append(started)
        self._go_on(started, None)
        return started

    def serve(self, one: Running, fate: Fate) -> None:
        """Let the pending request of `one` meet its fate."""
        request = one.request
        assert request is not None
        one.request = None
        reply: Any = None
        if fate != "lost":
            reply = self.place.serve(request)
        if fate == "twice":
            reply = self.place.serve(request)
        one.reply = LostError() if fate in ("unheard", "lost") else reply
        self._tell(one, f"{request.verb} {request.key} {request.value or ''}: {fate}, {one.reply!r}")
        if request.verb in ("put", "swap", "delete") and fate != "lost":
            self.watch(one, request)

    def answer(self, one: Running) -> None:
        """Let `one`, whose request met its fate, go on to its next request or its end."""
        assert one.request is None
        self._go_on(one, one.reply)

    def kill(self, one: Running) -> None:
        """End somebody; a request on its way may still take effect before."""
        self._tell(one, "is killed")
        one.actor.close()
        self.running.remove(one)

    def tick(self) -> None:
        """Let time pass; requests that have taken long enough take effect or never do."""
        for one in [one for one in self.running if one.request and self.now - one.issued >= LONGEST_REQUEST]:
            self.serve(one, "unheard" if self.choose(2) else "lost")
        self.place.now += 1

    def _go_on(self, one: Running, reply: Any) -> None:
        try:
            request = one.actor.throw(reply) if isinstance(reply, Exception) else one.actor.send(reply)
        except StopIteration as ended:
            self._tell(one, f"ends: {ended.value}")
            self.running.remove(one)
        except GaveUpError as why:
            self._tell(one, f"gives up: {why}")
            self.running.remove(one)
        else:
            one.request, one.issued = request, self.now

    def _tell(self, one: Running, what: str) -> None:
        self.story.append(f"{self.now:4} {one.name}: {what}")
