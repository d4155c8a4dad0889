"""Pushing again after one file was edited, and when nothing was: time, bytes, requests, beside restic's next backup."""

from __future__ import annotations

from benchmarks import peers
from benchmarks.corpus import corpus
from benchmarks.edits import edits
from benchmarks.measure import Figure, at_most, in_turns, ratio, shown, stored_bytes
from benchmarks.sapwood import Reporting, clear, place

COMMANDS = (
    "`sapwood push CORPUS STORE#main` after a line was added to kernel/fork.c : `restic backup` after the same edit;"
    " both again without an edit"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    store, cache = map(place, ("store", "cache"))
    restic = peers.restic()
    same, backup_of_same = Reporting("push", tree, f"{store}#main", cache=cache), restic.again(tree)
    with edits([tree / "kernel" / "fork.c"]) as fork:
        push = Reporting("push", tree, f"{store}#main", cache=cache, before=fork.again)
        backup = restic.again(tree, before=fork.again)
        for case in (restic.store_anew(tree), push, push):
            case.prepare()
            case.run()
        push.said.clear()
        sizes = stored_bytes(store), restic.stored()
        pushed, backed_up = in_turns([push, backup], 2 * rounds)
        added, peer_added = stored_bytes(store) - sizes[0], restic.stored() - sizes[1]
        for case in (same, backup_of_same):
            case.run()
        same.said.clear()
        unchanged, peer_unchanged = in_turns([same, backup_of_same], rounds)
    clear(store, cache)
    restic.clear()
    runs = 2 * rounds
    return [
        at_most("push after one edited file", pushed, backed_up, 250),
        ratio("the same : restic backup", pushed, backed_up, 0.1),
        Figure(
            "bytes it adds to the store", shown(added / runs), shown(peer_added / runs), added / runs / 1e3, 100, "KB"
        ),
        _requests("requests of it", push, 6),
        ratio("push, nothing changed : restic backup", unchanged, peer_unchanged, None),
        _requests("requests when nothing changed", same, 2),
    ]


def _requests(claim: str, push: Reporting, bound: int) -> Figure:
    most = max((said["requestsByVerb"] for said in push.said), key=lambda made: sum(made.values()))
    told = ", ".join(f"{number} {verb}" for verb, number in most.items() if number)
    return Figure(claim, told, "", sum(most.values()), bound, "requests")
