"""Hashing the corpus after one file was edited, and after all were touched."""

from __future__ import annotations

import json
import os
import subprocess
import time
from itertools import count
from pathlib import Path

from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure, Times, in_turns, ratio
from benchmarks.sapwood import SAPWOOD, clear, index_file, place, with_cache

COMMANDS = (
    "`sapwood hash CORPUS` after kernel/fork.c was rewritten in place, or by rename : with nothing changed; after"
    " `touch` of all files : without an index"
)
_EDITED = Path("kernel", "fork.c")
_HEADER, _RECORD = 64, 128  # docs/format.md, "Index"


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    edited = tree / _EDITED
    before = edited.read_bytes()
    try:
        return [*_after_an_edit(tree, edited, before, rounds), *_after_touch(tree, rounds)]
    finally:
        edited.write_bytes(before)


def _after_an_edit(tree: Path, edited: Path, before: bytes, rounds: int) -> list[Figure]:
    numbers = count()
    cache = place("cache")

    def in_place() -> None:
        edited.write_bytes(before + b"// %d\n" % next(numbers))
        _settle()

    def by_rename() -> None:
        fresh = edited.with_suffix(".new")
        fresh.write_bytes(before + b"// %d\n" % next(numbers))
        fresh.rename(edited)
        _settle()

    state = with_cache(cache)
    command: list[str | Path] = [SAPWOOD, "hash", tree]
    unchanged = Case("nothing changed", command, _settle, state)
    rewritten = Case("one file rewritten", command, in_place, state)
    unchanged.run()  # takes the state in
    nothing, one, renamed = in_turns(
        [unchanged, rewritten, Case("one file replaced", command, by_rename, state)], 3 * rounds
    )
    index = index_file(cache)
    was, identity = index.read_bytes(), index.stat().st_ino
    rewritten.prepare()
    rewritten.run()
    written = _records_that_differ(was, index.read_bytes()) if index.stat().st_ino == identity else None
    clear(cache)
    if written is None:
        raise SystemExit("bench: an edit made a new index file: its records were not written in place")
    return [
        _more("one file rewritten : nothing changed", one, nothing),
        _more("one file replaced by rename : nothing changed", renamed, nothing),
        # The file, the directories above it, the root.
        Figure("records written for it", f"{written}", "", written, len(_EDITED.parts) + 1, "records"),
    ]


def _after_touch(tree: Path, rounds: int) -> list[Figure]:
    kept, none = place("cache"), place("no-cache")
    command: list[str | Path] = [SAPWOOD, "hash", tree]

    def touch() -> None:
        subprocess.run(["find", tree, "-type", "f", "-exec", "touch", "{}", "+"], check=True)
        _settle()

    touched = Case("all touched", command, touch, with_cache(kept))
    touched.run()  # takes the state in
    all_again, cold = in_turns([touched, Case("cold", command, lambda: clear(none), with_cache(none))], rounds)
    touch()
    shown = subprocess.run(
        [*command, "--json"], env={**os.environ, **touched.environment}, check=True, stdout=subprocess.PIPE
    )
    told = json.loads(shown.stdout)
    clear(kept, none)
    return [
        ratio("all files touched : no index", all_again, cold, 1.25),
        Figure(
            "files hashed other than once",
            f"{told['filesHashed']:,} hashed",
            f"{told['files']:,} there",
            abs(told["filesHashed"] - told["files"]),
            0,
            "files",
        ),
    ]


def _more(claim: str, ours: Times, nothing: Times) -> Figure:
    return Figure(claim, str(ours), str(nothing), (ours.median - nothing.median) * 1000, 15, "ms more")


def _settle() -> None:
    """Let an edit grow older than the clock's grain, else it is racy and hashed again by the next run.

    What an edit is compared with waits too.
    """
    time.sleep(0.05)


def _records_that_differ(before: bytes, after: bytes) -> int:
    return sum(
        before[at : at + _RECORD] != after[at : at + _RECORD]
        for at in range(_HEADER, max(len(before), len(after)), _RECORD)
    )
