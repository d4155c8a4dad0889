"""Hashing the corpus when nothing has changed, beside git status."""

from __future__ import annotations

from benchmarks import git
from benchmarks.corpus import corpus, git_directory
from benchmarks.measure import Case, Figure, in_turns, ratio
from benchmarks.running import running
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

COMMANDS = (
    "`sapwood hash CORPUS`, and `Index(CORPUS).hash()` in a running process : `git status` of the same tree, as it"
    " comes and with its untracked cache"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree, repository = corpus(), git_directory()
    best = git.with_untracked_cache(repository, tree)
    cache = place("cache")
    state = with_cache(cache)
    hashing = Case("hash", [SAPWOOD, "hash", tree], environment=state)
    hashing.run()  # takes the state in
    cases = [
        hashing,
        git.status("git status", repository, tree),
        git.status("git status, untracked cache", best, tree),
    ]
    setup = f"from sapwood import Index; index = Index({str(tree)!r})"
    with running("Index.hash", setup, "index.hash()", environment=state) as asked:
        hashed, status, status_best, hashed_inside = in_turns([*cases, asked], 3 * rounds)
    clear(cache, best)
    return [
        ratio("hash, nothing changed : git status", hashed, status, 0.6),
        ratio("hash, nothing changed : git status with untracked cache", hashed, status_best, 1.0),
        ratio("`Index.hash`, in a running process : the same", hashed_inside, status_best, 0.75),
    ]
