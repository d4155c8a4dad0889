"""Pushing the corpus to a new local store, durably: time, size of the store, memory, beside others that store trees."""

from __future__ import annotations

from benchmarks import peers
from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure, in_turns, memory, ratio, sizes, stored_bytes
from benchmarks.sapwood import SAPWOOD, anew, clear, place, with_cache

COMMANDS = (
    "`sapwood push CORPUS STORE#main` : `restic init && restic backup`, `borg create -C zstd,1`, `casync make && sync`,"
    " `tar | zstd -1 -T2 && sync`, all without any earlier state"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    store, cache = map(place, ("store", "cache"))
    ours = Case("push", [SAPWOOD, "push", tree, f"{store}#main"], lambda: anew(store, cache), with_cache(cache))
    restic, *others = peers.restic(), peers.borg(), peers.casync(), peers.tar_zstd()
    ours.prepare()
    ours.run()  # brings the files into the page cache
    pushed, backed_up = in_turns([ours, restic.store_anew(tree)], rounds)
    # These take a minute a round; against them nothing is promised.
    again, *stored = in_turns([ours, *(peer.store_anew(tree) for peer in others)], min(rounds, 2))
    size = stored_bytes(store)
    rows = [
        ratio("push to a new store : restic", pushed, backed_up, 0.28),
        sizes("its size : restic's", size, restic.stored(), 0.88),
        memory("memory of a push", max(pushed.peak, again.peak), 256),
    ]
    for peer, times in zip(others, stored, strict=True):
        rows.append(ratio(f"push to a new store : {peer.name}", again, times, None))
        rows.append(sizes(f"its size : that of {peer.name}", size, peer.stored(), None))
    clear(store, cache)
    for peer in (restic, *others):
        peer.clear()
    return rows
