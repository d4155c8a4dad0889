"""A hundred versions of the corpus's kernel/: how much the store grows, beside the changed files and beside restic."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from benchmarks import peers
from benchmarks.corpus import corpus
from benchmarks.edits import compressed, files
from benchmarks.measure import Figure, Times, ratio, shown, stored_bytes
from benchmarks.sapwood import Reporting, clear, place, require_equal

_VERSIONS = 100
_MOST_FILES = 20
COMMANDS = (
    f"`sapwood push KERNEL STORE#main` of {_VERSIONS} versions, in each of which 1 to {_MOST_FILES} files were edited,"
    " a line of each replaced by two : `zstd -1` of each edited file (each is one chunk); : `restic backup`"
)


def figures(_rounds: int) -> list[Figure]:
    """Measure, once: sizes do not vary with the time of the day."""
    tree, kept, store, cache, pulled = map(place, ("kernel", "kernel-kept", "store", "cache", "pulled"))
    shutil.copytree(corpus() / "kernel", tree, symlinks=True)
    restic = peers.restic()
    push, backup = Reporting("push", tree, f"{store}#main", cache=cache), restic.again(tree)
    push.run()
    first = restic.store_anew(tree)
    first.prepare()
    first.run()
    begun = stored_bytes(store), restic.stored()
    draw, paths = random.Random(1), files(tree)
    changed = 0
    times: tuple[list[float], list[float]] = ([], [])
    middle = ""
    for version in range(_VERSIONS):
        edited = draw.sample(paths, draw.randint(1, _MOST_FILES))
        for path in edited:
            _edit(path, draw)
        changed += compressed(edited)
        times[0].append(push.run()[0])
        times[1].append(backup.run()[0])
        if version == _VERSIONS // 2:
            shutil.copytree(tree, kept, symlinks=True)
            middle = push.said[-1]["address"]
    grown, peer_grown = stored_bytes(store) - begun[0], restic.stored() - begun[1]
    for address, expected in ((f"{store}#main", tree), (middle, kept)):
        clear(pulled)
        Reporting("pull", address, pulled, cache=cache).run()
        require_equal(pulled, expected)
    clear(tree, kept, store, cache, pulled)
    restic.clear()
    return [
        Figure(
            f"growth by {_VERSIONS} versions : the edited files, compressed",
            shown(grown),
            shown(changed),
            grown / changed,
            1.3,
        ),
        Figure("the same : restic", shown(grown), shown(peer_grown), grown / peer_grown, None),
        ratio("push of a version : restic", Times(tuple(times[0])), Times(tuple(times[1])), None),
    ]


def _edit(path: Path, draw: random.Random) -> None:
    """Replace a line by two that nobody wrote before."""
    lines = path.read_bytes().splitlines(keepends=True) or [b"\n"]
    at = draw.randrange(len(lines))
    lines[at : at + 1] = [b"\tint edit_%08x = %d;\n" % (draw.getrandbits(32), draw.getrandbits(16)) for _ in range(2)]
    path.write_bytes(b"".join(lines))
