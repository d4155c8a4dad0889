"""Hashing the corpus when nothing has changed, whole process, beside git status."""

from __future__ import annotations

from benchmarks.corpus import corpus, git_directory
from benchmarks.measure import Case, Figure, in_turns, once, ratio
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

COMMANDS = "`sapwood hash CORPUS` : `git status` of the same tree, nothing changed, warm"


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree, git = corpus(), git_directory()
    cache = place("cache")
    ours = Case("hash", [SAPWOOD, "hash", tree], environment=with_cache(cache))
    peer = Case("git status", ["git", "--git-dir", git, "--work-tree", tree, "status"])
    for case in (ours, peer):  # the first takes the state in
        once(case)
        once(case)
    hashed, status = in_turns([ours, peer], 3 * rounds)
    clear(cache)
    return [ratio("hash, nothing changed : git status", hashed, status, 1.2)]
