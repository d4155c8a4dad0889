"""Pushing again after one file was edited."""

from __future__ import annotations

from itertools import count

from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure, in_turns
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

COMMANDS = "`sapwood push CORPUS STORE#main` after a line was added to kernel/fork.c"


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    store, cache = place("store"), place("cache")
    edited = tree / "kernel" / "fork.c"
    before = edited.read_bytes()
    numbers = count()
    push = Case(
        "push after one edit",
        [SAPWOOD, "push", tree, f"{store}#main"],
        lambda: edited.write_bytes(before + b"// %d\n" % next(numbers)),
        with_cache(cache),
    )
    try:
        push.run()
        (pushed,) = in_turns([push], rounds)
    finally:
        edited.write_bytes(before)
        clear(store, cache)
    return [Figure("push after one edited file", str(pushed), "", pushed.median, 1.0, "s")]
