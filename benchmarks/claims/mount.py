"""A warm mount beside the same tree on the native file system: names, contents, programs; its server's memory."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from benchmarks import warm
from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure, memory
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

COMMANDS = (
    "`find DIR -printf …`, `os.lstat` of all names, also right after the kernel has forgotten them, `tar -c | cat` of"
    " 11,540 files, `grep -r TEXT DIR`, `make -C DIR O=… lib/` of a tinyconfig, `DIR/true` a thousand times, on a warm"
    " `sapwood mount` : on the native directory. Memory: VmRSS of the server after these, and VmHWM, which it had when"
    " the tree came: its bound is 64 MB, and 14 requests of 2 MiB that may be in flight"
)
_BOUND_MB = 64
_IN_FLIGHT_MB = 29


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    store, cache, at, own, programs = map(place, ("store", "cache", "mounted", "own", "programs"))
    programs.mkdir()
    shutil.copy("/bin/true", programs)
    for ref, what in (("main", tree), ("programs", programs)):
        Case("push", [SAPWOOD, "push", what, f"{store}#{ref}"], environment=with_cache(cache)).run()
    try:
        with warm.mounted(f"{store}#main", at, cache) as holder:
            walks = [*warm.metadata(1.1, 2.0), *warm.contents(1.1)]
            rows = warm.compared(walks, at, tree, own, rounds, "warm mount")
            left, peak = (_memory(_server_of(holder), name) for name in ("VmRSS", "VmHWM"))
        with warm.mounted(f"{store}#programs", at, cache):
            rows += warm.compared([warm.executing(1.1)], at, programs, own, rounds, "warm mount")
    finally:
        clear(store, cache, at, own, programs)
    return [
        *rows,
        memory("memory of the mount's server, all is here", left, _BOUND_MB),
        memory("memory of the mount's server, at most", peak, _BOUND_MB + _IN_FLIGHT_MB),
    ]


def _server_of(holder: int) -> int:
    return int(Path(f"/proc/{holder}/task/{holder}/children").read_text(encoding="utf-8").split()[0])


def _memory(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"bench: no {name} of process {pid}")
    return int(found[1]) * 1024
