"""What happens in the demo, measured: push, edit, push again; then, over a slow link, a mount beside a pull.

Invariant: each mount and the pull start alike: empty caches, the same link, the same program. The pull happens once,
and its time is part of that of each program that runs from what it brought. What is read is traced beside the store,
and not counted. Not here: printing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.link import Link, linked
from demo import environment
from demo.watch import Watched, watched
from tests.support.webserver import serving

RTT_MS, MBIT = 20, 100
# The one beside the interpreter that runs this: what the virtual environment installed.
SAPWOOD = Path(sys.executable).with_name("sapwood")


class Trip(NamedTuple):
    """One way to the first output: what was seen, and the bytes that crossed the link on its account."""

    seen: Watched
    bytes: int


@dataclass(frozen=True)
class Job:
    """One program both ways; `stats` is what the mount counted."""

    mounted: Trip
    profiled: Trip
    """From a mount that is told what a run before read."""
    pulled: Trip
    stats: dict[str, Any]


@dataclass(frozen=True)
class Story:
    """All of it. The pushes are what `sapwood push --json` said; jobs are named by what they import."""

    first: dict[str, Any]
    second: dict[str, Any]
    jobs: dict[str, Job]


def told(work: Path, tree: Path, during: Callable[[str], AbstractContextManager[object]] = nullcontext) -> Story:
    """Let it happen in the empty directory `work`, with the environment `tree`; each act is `during` its name."""
    store = work / "store"
    with during("pushing a Python environment"):
        first = _push(tree, store, work)
    environment.edit(tree)
    with during("editing one file and pushing again"):
        second = _push(tree, store, work)
    with serving(store) as url, linked(int(url.rpartition(":")[2]), rtt_ms=RTT_MS, mbit=MBIT) as link:
        address = f"{link.url}#env"
        mounted, profiled = {}, {}
        for job, program in environment.PROGRAMS.items():
            with during(f"running a program that imports {job} from a mount, with an empty cache, over the link"):
                mounted[job] = _trip(link, lambda: _run(address, program, work))  # noqa: B023 - called at once
            with during(f"running it again so, with another empty cache, after what {job} reads was recorded once"):
                profile = _traced(f"{store}#env", program, work)
                profiled[job] = _trip(link, lambda: _run(address, program, work, profile))  # noqa: B023
        with during("fetching the whole tree over the same link, then running the programs"):
            fetched = _trip(link, lambda: _pull(address, work))
    jobs = {}
    for job, program in environment.PROGRAMS.items():
        pulled = Trip(
            _after(fetched.seen, watched([work / "copy/bin/python", work / "copy" / program], {})), fetched.bytes
        )
        jobs[job] = Job(
            mounted[job], profiled[job], pulled, json.loads((work / f"{program}.json").read_text(encoding="utf-8"))
        )
    return Story(first, second, jobs)


def _push(tree: Path, store: Path, work: Path) -> dict[str, Any]:
    command: list[str | Path] = [SAPWOOD, "push", "--json", tree, f"{store}#env"]
    pushed: dict[str, Any] = json.loads(watched(command, {"SAPWOOD_CACHE": str(work / "cache-of-push")}).output)
    return pushed


def _traced(address: str, program: str, work: Path) -> Path:
    profile = work / f"{program}.profile"
    command: list[str | Path] = [SAPWOOD, "trace", "--out", profile, address, "--", "{}/bin/python", f"{{}}/{program}"]
    watched(command, {"SAPWOOD_CACHE": str(work / "cache-of-trace")})
    return profile


def _run(address: str, program: str, work: Path, profile: Path | None = None) -> Watched:
    command: list[str | Path] = [SAPWOOD, "run", "--stats", work / f"{program}.json"]
    command += [address] if profile is None else ["--profile", profile, address]
    command += ["--", "{}/bin/python", f"{{}}/{program}"]
    cache = work / (f"cache-of-{program}" if profile is None else f"cache-of-profiled-{program}")
    return watched(command, {"SAPWOOD_CACHE": str(cache)})


def _pull(address: str, work: Path) -> Watched:
    return watched([SAPWOOD, "pull", address, work / "copy"], {"SAPWOOD_CACHE": str(work / "cache-of-pull")})


def _after(fetching: Watched, running: Watched) -> Watched:
    return Watched(running.output, fetching.done_s + running.first_line_s, fetching.done_s + running.done_s)


def _trip(link: Link, make: Callable[[], Watched]) -> Trip:
    before = link.counts()
    seen = make()
    after = link.counts()
    return Trip(seen, after["up"] + after["down"] - before["up"] - before["down"])
