"""The demo's promise: a program run from the mount is done before the tree could have been fetched."""

from __future__ import annotations

from benchmarks.corpus import BUILD
from benchmarks.measure import Figure, Times, ratio
from benchmarks.sapwood import clear
from demo import environment, story

# What the demo promises of its program; the one that imports nearly everything shows where the gain ends without a
# profile of what it reads: at the share of the tree that must cross the link.
_BOUNDS = {"numpy": 0.6, "pandas": 0.8}
# With one.
_PROFILED = {"numpy": 0.5, "pandas": 0.7}
COMMANDS = (
    f"`make demo`: `sapwood run STORE#env -- …` : `sapwood pull STORE#env DIR && …`,"
    f" over {story.RTT_MS} ms and {story.MBIT} Mbit/s"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    BUILD.mkdir(parents=True, exist_ok=True)
    work = BUILD / "work" / "demo"
    times: dict[str, tuple[list[float], list[float], list[float]]] = {job: ([], [], []) for job in environment.PROGRAMS}
    for _ in range(min(rounds, 3)):
        clear(work)
        work.mkdir(parents=True)
        told = story.told(work, environment.made(BUILD))
        for name, job in told.jobs.items():
            times[name][0].append(job.mounted.seen.done_s)
            times[name][1].append(job.profiled.seen.done_s)
            times[name][2].append(job.pulled.seen.done_s)
        clear(work)
    found = []
    for name, (mounted, profiled, pulled) in times.items():
        slow = Times(tuple(pulled))
        found += [
            ratio(f"run {name} from the mount : pull, then run", Times(tuple(mounted)), slow, _BOUNDS[name]),
            ratio(f"the same after a trace, {name}", Times(tuple(profiled)), slow, _PROFILED[name]),
        ]
    return found
