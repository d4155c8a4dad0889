"""A warm mount of large files beside the same files on the native file system, with passthrough and without."""

from __future__ import annotations

from benchmarks import warm
from benchmarks.corpus import corpus
from benchmarks.edits import files
from benchmarks.large import large_file
from benchmarks.measure import Case, Figure
from benchmarks.sapwood import SAPWOOD, clear, place, require_free, with_cache

_SIZE = 512 << 20
# With so many empty ones beside it the tree is none of large files.
_SMALL = 1000
COMMANDS = (
    "`dd if=FILE bs=1M of=/dev/null`, and a program that maps FILE ten times and touches each page, of 512 MiB, on a"
    " `sapwood mount` as root, FILE in memory as it was read from the disk : on the native directory; without"
    " passthrough: in a tree of a thousand small files"
)
_SEQUENTIAL = 'dd if="$1/large" of=/dev/null bs=1M status=none'
# What was just written lies in the page cache in the pieces that were written; read from the disk, as all files do.
_READY = 'cat "$1/large" >/dev/null; sync; echo 1 >/proc/sys/vm/drop_caches'
_MAPPED = """
import mmap, sys
with open(sys.argv[1] + "/large", "rb") as file:
    for _ in range(10):
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            mapped[::4096]
"""


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    large, mixed, store, cache, at, own = map(place, ("large", "mixed", "store", "cache", "mounted", "own"))
    require_free(4 * _SIZE)
    large.mkdir()
    mixed.mkdir()
    large_file(large / "large", files(corpus()), _SIZE, 1 << 20)
    (mixed / "large").hardlink_to(large / "large")
    for number in range(_SMALL):
        (mixed / str(number)).touch()
    rows = []
    try:
        for tree, what, sequential, mapped in [
            (large, "large files, passthrough", 1.15, 1.2),
            # A page at a time, where the native file system has larger ones.
            (mixed, "large files, none", 1.7, None),
        ]:
            Case("push", [SAPWOOD, "push", tree, f"{store}#main"], environment=with_cache(cache)).run()
            walks = [
                warm.Walk("sequential", _SEQUENTIAL, sequential, ready=_READY),
                warm.Walk("mapped", '"$PYTHON" -S -c "$PROGRAM" "$1"', mapped, _MAPPED, _READY),
            ]
            with warm.mounted(f"{store}#main", at, cache):
                rows += warm.compared(walks, at, tree, own, rounds, what)
    finally:
        clear(large, mixed, store, cache, at, own)
    return rows
