"""The native tier, all of the tree here, beside the same tree on the native file system: names and contents."""

from __future__ import annotations

from pathlib import Path

from benchmarks import warm
from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

COMMANDS = "as `mount`, on a `sapwood mount --tier native` whose contents are all complete and proved"


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    store, cache, at, own = map(place, ("store", "cache", "mounted", "own"))
    Case("push", [SAPWOOD, "push", tree, f"{store}#main"], environment=with_cache(cache)).run()
    try:
        _complete(f"{store}#main", at, cache)
        with warm.mounted(f"{store}#main", at, cache, "--tier", "native"):
            walks = [*warm.metadata(1.0, 1.0), *warm.contents(1.05)]
            rows = warm.compared(walks, at, tree, own, rounds, "native tier")
    finally:
        clear(store, cache, at, own)
    return rows


def _complete(address: str, at: Path, cache: Path) -> None:
    """Read all until the mount needs no process: then all contents are here, and proved since the machine's start."""
    for _ in range(20):
        with warm.mounted(address, at, cache, "--tier", "native") as holder:
            if not holder:
                return
            Case("read all", ["sh", "-c", 'tar -cf - -C "$1" . | cat >/dev/null', "sh", at]).run()
    raise SystemExit(f"bench: {at}: its contents were not proved")
