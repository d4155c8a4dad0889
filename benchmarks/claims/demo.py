"""The demo's promise: a program run from the mount is done before the tree could have been fetched."""

from __future__ import annotations

from benchmarks.corpus import BUILD
from benchmarks.measure import Figure, Times, ratio
from benchmarks.sapwood import clear
from demo import environment, story

COMMANDS = (
    f"`make demo`: `sapwood run STORE#env -- …` : `sapwood pull STORE#env DIR && …`,"
    f" over {story.RTT_MS} ms and {story.MBIT} Mbit/s"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    BUILD.mkdir(parents=True, exist_ok=True)
    work = BUILD / "work" / "demo"
    mounted, pulled = [], []
    for _ in range(min(rounds, 3)):
        clear(work)
        work.mkdir(parents=True)
        told = story.told(work, environment.made(BUILD))
        mounted.append(told.mounted.seen.done_s)
        pulled.append(told.pulled.seen.done_s)
        clear(work)
    return [ratio("run from the mount : pull, then run", Times(tuple(mounted)), Times(tuple(pulled)), 0.6)]
