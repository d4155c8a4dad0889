"""Pushing the corpus to a new local store, beside restic's init and backup: time, size of the store, memory."""

from __future__ import annotations

from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure, in_turns, ratio, stored_bytes
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

COMMANDS = "`sapwood push CORPUS STORE#main` : `restic init && restic backup CORPUS`, both without any earlier state"


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    store, cache, repository, restic_cache = map(place, ("store", "cache", "restic", "restic-cache"))
    ours = Case("push", [SAPWOOD, "push", tree, f"{store}#main"], lambda: clear(store, cache), with_cache(cache))
    peer = Case(
        "restic",
        ["sh", "-c", 'restic init --quiet && restic backup --quiet "$1"', "sh", tree],
        lambda: clear(repository, restic_cache),
        {"RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(restic_cache)},
    )
    pushed, backed_up = in_turns([ours, peer], rounds)
    our_size, peer_size = stored_bytes(store), stored_bytes(repository)
    clear(store, cache, repository, restic_cache)
    return [
        ratio("push to a new store : restic", pushed, backed_up, 0.5),
        Figure(
            "its size : restic's", f"{our_size / 1e6:.0f} MB", f"{peer_size / 1e6:.0f} MB", our_size / peer_size, 1.1
        ),
        Figure("memory of a push", f"{pushed.peak / 1e6:.0f} MB", "", pushed.peak / 1e6, 300, "MB"),
    ]
