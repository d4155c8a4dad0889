"""Ways from far away to what a program says, over a slow link, each taken as often as the others.

Invariant: the ways take turns, and each round begins with another, so that what else goes on meanwhile touches all of
them; every trip begins with nothing on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.corpus import say
from benchmarks.link import Link
from benchmarks.measure import Times
from benchmarks.sapwood import aside, clear
from demo.watch import Watched


class Trip(NamedTuple):
    """One run: what was seen of it, bytes that came over the link, and from the first of them to the last, seconds."""

    seen: Watched
    bytes: int
    spent_s: float


@dataclass
class Way:
    """One way from the far end to what the program says; `trips` are those taken so far."""

    name: str
    take: Callable[[Link], Watched]
    trips: list[Trip] = field(default_factory=list)

    @property
    def done(self) -> Times:
        return Times(tuple(trip.seen.done_s for trip in self.trips))

    @property
    def first_line(self) -> Times:
        return Times(tuple(trip.seen.first_line_s for trip in self.trips))

    @property
    def bytes(self) -> float:
        return median(trip.bytes for trip in self.trips)


def in_turns(ways: Sequence[Way], ours: Link, of_tars: Link, rounds: int, leave: Sequence[Path]) -> None:
    """Take the ways by the link to our bytes, or to those of tars; `leave` is what a trip may leave on the disk."""
    for turn in range(rounds):
        for way in [*ways[turn % len(ways) :], *ways[: turn % len(ways)]]:
            over = of_tars if way.name.startswith("tar") else ours
            for path in leave:
                aside(path)
            before = over.counts()
            seen = way.take(over)
            after = over.counts()
            way.trips.append(Trip(seen, after["down"] - before["down"], after["down_s"]))
            say(f"{way.name}: first line {seen.first_line_s:.2f} s, done {seen.done_s:.2f} s, {way.trips[-1][1:]}")
    clear(*leave)
