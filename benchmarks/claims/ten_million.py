"""10,000,000 files in 500,000 directories beside 1,000,000 in 50,000: time and memory. Only when named.

The trees are alike but that of ten million one in ten files has content. It is made for this and removed at the end.
"""

from __future__ import annotations

import subprocess
from itertools import count
from pathlib import Path

from benchmarks.corpus import say
from benchmarks.generated import MILLION, TEN_MILLION, generated
from benchmarks.measure import Case, Figure, Times, in_turns, ratio
from benchmarks.sapwood import SAPWOOD, clear, index_file, place, with_cache

COMMANDS = (
    "`sapwood hash TREE`; `sapwood status TREE`, which compares with the state of the last hash, after an edit and an"
    " addition; of the ten million files one in ten is not empty"
)
SIDES = ("10,000,000", "1,000,000")
_BOUND_MB = 2500


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    small, _ = _looked_at(generated("million", MILLION), min(rounds, 3))
    tree = generated("ten-million", TEN_MILLION)
    try:
        large, size = _looked_at(tree, min(rounds, 3))
    finally:
        say(f"removing {tree}")
        # rmtree would take several times as long.
        subprocess.run(["rm", "-rf", tree], check=True)
    rows = [ratio(name, times, small[name], None) for name, times in large.items()]
    for name, times in large.items():
        beside = small[name].peak
        rows.append(
            Figure(
                f"memory: {name}",
                f"{times.peak / 1e6:.0f} MB",
                f"{beside / 1e6:.0f} MB",
                times.peak / 1e6,
                _BOUND_MB,
                "MB",
            )
        )
    most, most_beside = (max(times.peak for times in side.values()) for side in (large, small))
    return [
        *rows,
        Figure("memory, the ratio", "", "", most / most_beside, TEN_MILLION.entries / MILLION.entries),
        Figure("index, an entry", f"{size / 1e6:.0f} MB", "", size / TEN_MILLION.entries, 200, "B"),
    ]


def _looked_at(tree: Path, rounds: int) -> tuple[dict[str, Times], int]:
    """Return the times of each way to look at a tree, and the size of its index."""
    cache = place("cache")
    state = with_cache(cache)
    numbers = count()
    edited = tree / "d001" / "d001" / "d001" / "file-001.txt"
    before = edited.read_bytes()

    def edit() -> None:
        edited.write_bytes(before + b"%d\n" % next(numbers))

    def add() -> None:
        # A name that the index does not have yet.
        for old in edited.parent.glob("added-*"):
            old.unlink()
        edited.with_name(f"added-{next(numbers)}").touch()

    def edit_and_add() -> None:
        edit()
        add()

    hashing: list[str | Path] = [SAPWOOD, "hash", tree]
    cases = {
        "without an index": Case("cold", hashing, lambda: clear(cache), state),
        "nothing changed": Case("nothing changed", hashing, environment=state),
        "one file edited": Case("one file edited", hashing, edit, state),
        "one file added": Case("one file added", hashing, add, state),
        "status, one edited and one added": Case("status", [SAPWOOD, "status", tree], edit_and_add, state),
    }
    try:
        cold, *others = cases.values()
        times = [*in_turns([cold], 1), *in_turns(others, rounds)]
        size = index_file(cache).stat().st_size
    finally:
        edited.write_bytes(before)
        for left in edited.parent.glob("added-*"):
            left.unlink()
        clear(cache)
    return dict(zip(cases, times, strict=True)), size
