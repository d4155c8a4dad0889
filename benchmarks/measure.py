"""Timing commands by turns, and what is said of the times.

A round runs each case once, in an order that turns with the rounds, so that what the machine does meanwhile meets all
alike. What a case needs made first is made untimed, before each of its runs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Word = str | os.PathLike[str]


class Timed(Protocol):
    """What can be run in turns: a command (`Case`), or an expression in a running process (`running.Asked`)."""

    @property
    def name(self) -> str:
        """How it is called in the talk."""

    def prepare(self) -> object:
        """Make what must be made before each run; not timed."""

    def run(self) -> tuple[float, int]:
        """Run it once and return the seconds it took and its peak of memory in bytes."""


@dataclass(frozen=True)
class Case:
    """A command, what must be made before each run, what of it is read from stdin, and where its stdout goes."""

    name: str
    command: Sequence[Word]
    before: Callable[[], object] = lambda: None
    environment: Mapping[str, str] = field(default_factory=dict)
    reads: Path = Path(os.devnull)
    says: Path = Path(os.devnull)

    def prepare(self) -> object:
        """See `Timed`."""
        return self.before()

    def run(self) -> tuple[float, int]:
        """Run the command, whole; what it says is shown if it fails."""
        with tempfile.TemporaryFile("w+") as talk, self.reads.open("rb") as read, self.says.open("wb") as said:
            began = time.perf_counter()
            process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=read,
                stdout=said,
                stderr=talk,
            )
            _, status, usage = os.wait4(process.pid, 0)
            spent = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                talk.seek(0)
                raise SystemExit(
                    f"bench: {' '.join(map(str, self.command))}: ended with code {process.returncode}: {talk.read()}"
                )
        return spent, usage.ru_maxrss * 1024


@dataclass(frozen=True)
class Times:
    """Seconds of the runs of one case, and the most memory any of them had, in bytes."""

    seconds: tuple[float, ...]
    peak: int = 0

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{_time(self.median)} ({_time(min(self.seconds))} to {_time(max(self.seconds))})"


@dataclass(frozen=True)
class Figure:
    """One row: what is claimed, both sides as text, the value and its unit, the bound it is held against, if any."""

    claim: str
    ours: str
    peer: str
    value: float
    bound: float | None
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value is within the bound."""
        return self.bound is None or self.value <= self.bound


def in_turns(cases: Sequence[Timed], rounds: int) -> list[Times]:
    """Run each case `rounds` times and return its times, in the order of the cases."""
    seconds: list[list[float]] = [[] for _ in cases]
    peaks = [0 for _ in cases]
    for turn in range(rounds):
        for step in range(len(cases)):
            which = (turn + step) % len(cases)
            case = cases[which]
            case.prepare()
            spent, peak = case.run()
            seconds[which].append(spent)
            peaks[which] = max(peaks[which], peak)
            print(f"  {case.name}: {_time(spent)}", file=sys.stderr)
    return [Times(tuple(spent), peak) for spent, peak in zip(seconds, peaks, strict=True)]


def ratio(claim: str, ours: Times, peer: Times, bound: float | None) -> Figure:
    """Return the row of a claim about a ratio of medians."""
    return Figure(claim, str(ours), str(peer), ours.median / peer.median, bound)


def at_most(claim: str, ours: Times, peer: Times | None, milliseconds: float | None) -> Figure:
    """Return the row of a claim about a median itself."""
    beside = "" if peer is None else str(peer)
    return Figure(claim, str(ours), beside, ours.median * 1000, milliseconds, "ms")


def memory(claim: str, peak: float, bound: float) -> Figure:
    """Return the row of a claim about a peak of memory in bytes; `bound` is in MB."""
    return Figure(claim, f"{peak / 1e6:.0f} MB", "", peak / 1e6, bound, "MB")


def sizes(claim: str, ours: int, peer: int, bound: float | None) -> Figure:
    """Return the row of a claim about a ratio of bytes."""
    return Figure(claim, shown(ours), shown(peer), ours / peer, bound)


def shown(size: float) -> str:
    """Return bytes as text."""
    return f"{size / 1e6:.0f} MB" if size >= 10e6 else f"{size / 1e3:.0f} KB"


def stored_bytes(place: Path) -> int:
    """Return the bytes of all files below a directory."""
    return sum(path.lstat().st_size for path in place.rglob("*") if path.is_file())


def _time(seconds: float) -> str:
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
