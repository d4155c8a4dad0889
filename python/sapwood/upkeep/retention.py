"""Which snapshots of a history the rules keep.

Invariant: the newest is always kept; each rule keeps the newest of each of its last N periods that have any, and a
snapshot is kept if any rule keeps it. Days and weeks are those of UTC, and of the time a snapshot says it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from sapwood.store.snapshot import Snapshot

__all__ = ["Rules", "kept"]


@dataclass(frozen=True)
class Rules:
    """How many snapshots, days and weeks to keep."""

    last: int = 0
    daily: int = 0
    weekly: int = 0


def kept(history: Sequence[Snapshot], rules: Rules) -> list[Snapshot]:
    """Return what is kept of a history, which is given and returned with the newest first."""
    chosen = set(range(min(len(history), max(rules.last, 1))))
    # A history's own order breaks ties; clocks of two machines may disagree with it.
    by_time = sorted(range(len(history)), key=lambda number: history[number].created.rstrip("Z"), reverse=True)
    for count, period in ((rules.daily, _day), (rules.weekly, _week)):
        chosen |= _newest_of_each(history, by_time, count, period)
    return [snapshot for number, snapshot in enumerate(history) if number in chosen]


def _newest_of_each(
    history: Sequence[Snapshot], by_time: Sequence[int], count: int, period: Callable[[str], object]
) -> set[int]:
    newest = dict[object, int]()
    for number in by_time:
        newest.setdefault(period(history[number].created), number)
    return set(list(newest.values())[:count])


def _day(created: str) -> str:
    return created[:10]


def _week(created: str) -> object:
    try:
        return date.fromisoformat(created[:10]).isocalendar()[:2]
    except ValueError:  # a clock that was never right: a week of its own
        return created[:10]
