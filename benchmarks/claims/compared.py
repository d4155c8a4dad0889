"""Comparing two trees of 1,000,000 files that differ in 10."""

from __future__ import annotations

from benchmarks.generated import MILLION, edited_twin, generated, git_directory
from benchmarks.measure import Case, Figure, at_most, in_turns
from benchmarks.running import running
from benchmarks.sapwood import clear, place, with_cache

COMMANDS = (
    "`list(a.diff(b))` of two trees just made by `Index(DIR).tree()`, in a running process : `git diff-tree -r main"
    " edited` of the same trees, the whole process"
)
_DIFFERENT = 10


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree, twin = generated("million", MILLION), edited_twin("million-edited", MILLION)
    repository = git_directory("million", MILLION)
    cache = place("cache")
    setup = f"from sapwood import Index; here, there = Index({str(tree)!r}), Index({str(twin)!r})"
    # New trees each time: one that has been compared has unfolded where it differs.
    fresh = "a, b = here.tree(), there.tree()"
    peer = Case("git diff-tree", ["git", "--git-dir", repository, "diff-tree", "-r", "main", "edited"])
    with running("diff", setup, "sum(1 for change in a.diff(b))", fresh=fresh, environment=with_cache(cache)) as asked:
        compared, git = in_turns([asked, peer], 2 * rounds)
        if asked.result != str(_DIFFERENT):
            raise SystemExit(f"bench: {_DIFFERENT} files differ, the diff tells {asked.result}")
    clear(cache)
    return [at_most("diff of two trees of a million files : git diff-tree", compared, git, 30)]
