"""A warm mount beside the same tree on the native file system: find, tar, grep; and the memory of its server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure, in_turns, ratio
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

COMMANDS = "`find DIR -type f -size +0`, `tar -c DIR | cat`, `grep -r TEXT DIR` on the mount : on the native directory"

_WALKS = {
    # -size makes find ask for the attributes of each file.
    "find": 'find "$1" -type f -size +0 >/dev/null',
    # Into a pipe, since tar does not read what goes to /dev/null.
    "tar": 'tar -cf - -C "$1" . | cat >/dev/null',
    "grep": 'grep -r "no file says this" "$1" >/dev/null; test $? = 1',
}


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    store, cache, mounted = place("store"), place("cache"), place("mounted")
    mounted.mkdir()
    state = with_cache(cache)
    environment = {**os.environ, **state}
    Case("push", [SAPWOOD, "push", tree, f"{store}#main"], environment=state).run()
    shown = subprocess.run(
        [SAPWOOD, "mount", "--json", f"{store}#main", mounted], env=environment, check=True, stdout=subprocess.PIPE
    )
    try:
        rows = []
        for name, script in _WALKS.items():
            ours = Case(f"{name}, mount", ["sh", "-c", script, "sh", mounted])
            peer = Case(f"{name}, native", ["sh", "-c", script, "sh", tree])
            ours.run()
            peer.run()
            mount_times, native_times = in_turns([ours, peer], rounds)
            rows.append(ratio(f"warm mount, {name} : native", mount_times, native_times, 1.3))
        peak = _peak(_server_of(json.loads(shown.stdout)["pid"]))
    finally:
        subprocess.run([SAPWOOD, "umount", mounted], env=environment, check=True)
        clear(store, cache, mounted)
    return [*rows, Figure("memory of the mount's server", f"{peak / 1e6:.0f} MB", "", peak / 1e6, 300, "MB")]


def _server_of(holder: int) -> int:
    return int(Path(f"/proc/{holder}/task/{holder}/children").read_text(encoding="utf-8").split()[0])


def _peak(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"bench: no VmHWM of process {pid}")
    return int(found[1]) * 1024
