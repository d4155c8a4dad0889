"""Hashing 1,000,000 files in 50,000 directories when nothing has changed, beside git status."""

from __future__ import annotations

from benchmarks import git
from benchmarks.generated import MILLION, generated, git_directory
from benchmarks.measure import Case, Figure, at_most, in_turns, memory, ratio
from benchmarks.sapwood import SAPWOOD, clear, index_file, place, with_cache

COMMANDS = "`sapwood hash TREE` : `git status` of the same tree, as it comes and with its untracked cache"


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree, repository = generated("million", MILLION), git_directory("million", MILLION)
    best = git.with_untracked_cache(repository, tree)
    cache = place("cache")
    hashing = Case("hash", [SAPWOOD, "hash", tree], environment=with_cache(cache))
    hashing.run()  # takes the state in
    hashed, status, status_best = in_turns(
        [
            hashing,
            git.status("git status", repository, tree),
            git.status("git status, untracked cache", best, tree),
        ],
        2 * rounds,
    )
    size = index_file(cache).stat().st_size
    clear(cache, best)
    return [
        ratio("a million files, nothing changed : git status with untracked cache", hashed, status_best, 0.7),
        ratio("the same : git status as it comes", hashed, status, None),
        at_most("the same", hashed, None, 1000),
        memory("memory of it", hashed.peak, 250),
        Figure("index, an entry", f"{size / 1e6:.0f} MB", "", size / MILLION.entries, 200, "B"),
    ]
