"""Collecting a store of 1,000,000 chunks, two thirds of them dead: time, beside copying what must be moved."""

from __future__ import annotations

import subprocess

from benchmarks.measure import Case, Figure, in_turns, memory, ratio, shown, stored_bytes
from benchmarks.sapwood import SAPWOOD, anew, clear, place, require_free, with_cache
from benchmarks.small import small_files

# What a file of the corpus comes to in a pack. The directory is some frames of a pack.
_BYTES = 3000
_DIRECTORIES, _FILES = 2000, 500
# Of these a snapshot keeps seven directories of twenty. A frame at the end of one is alive if its neighbour is, so this
# makes less than half of every pack alive, and all are moved.
_KEPT, _OF = 7, 20
COMMANDS = (
    f"`sapwood gc --grace 0 STORE`; the store has a snapshot of {_DIRECTORIES * _FILES:,} files of {_BYTES:,} random"
    f" bytes, and one of {_KEPT} in {_OF} of their directories, which alone was kept by `forget --keep-last 1` :"
    " `cp` of the packs that it makes, and `sync`"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree, dead, store, cache, collected, copied, moved = map(
        place, ("files", "dead", "store", "cache", "collected", "copied", "moved")
    )
    # The files in blocks of 4 KiB; the store; what is moved of it, twice.
    require_free(_DIRECTORIES * _FILES * (4096 + 2 * _BYTES) + (2 << 30))
    state = with_cache(cache)
    push = Case("push", [SAPWOOD, "push", tree, f"{store}#main"], environment=state)
    directories = small_files(tree, _DIRECTORIES, _FILES, _BYTES)
    push.run()
    dead.mkdir()
    for number, directory in enumerate(directories):
        # Spread evenly.
        if number * _KEPT // _OF == (number + 1) * _KEPT // _OF:
            directory.rename(dead / directory.name)
    push.run()
    Case("forget", [SAPWOOD, "forget", f"{store}#main", "--keep-last", "1"], environment=state).run()
    before = {pack.name for pack in (store / "packs").iterdir()}

    def begin() -> None:
        anew(collected, cache)
        # Links suffice: no object of a store is ever changed in place.
        subprocess.run(["cp", "--archive", "--link", store, collected], check=True)

    collect = Case("gc", [SAPWOOD, "gc", "--grace", "0", str(collected)], begin, state)
    collect.prepare()
    collect.run()
    kept, full = stored_bytes(collected), stored_bytes(store)
    moved.mkdir()
    for pack in (collected / "packs").glob("*.tar.zst"):
        if pack.name not in before:
            pack.rename(moved / pack.name)
    copy = Case(
        "cp",
        ["sh", "-ec", 'cp -r --reflink=never "$1" "$2"; sync "$2"/* "$2"', "sh", moved, copied],
        lambda: anew(copied),
    )
    times, floor = in_turns([collect, copy], min(rounds, 3))
    Case("verify", [SAPWOOD, "verify", "--read-data", "100", collected], environment=state).run()
    size = stored_bytes(moved)
    clear(tree, dead, store, cache, collected, copied, moved)
    return [
        ratio(f"gc of 1,000,000 chunks : copying {shown(size)} that must be moved", times, floor, 2),
        memory("memory of it", times.peak, 300),
        Figure("the store then : before", shown(kept), shown(full), kept / full, None),
    ]
