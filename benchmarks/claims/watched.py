"""Hash and status while the tree is watched, and what the watcher takes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from benchmarks.corpus import corpus
from benchmarks.generated import MILLION, generated
from benchmarks.measure import Case, Figure, at_most, in_turns
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

COMMANDS = (
    "`sapwood watch TREE`, then `sapwood hash TREE` and `sapwood status TREE`, of the corpus and of 1,000,000 files;"
    " memory is what the watcher has beyond one of an empty directory"
)
_IDLE_S = 5


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    empty = place("empty")
    empty.mkdir()
    with _watcher(empty) as (pid, _):
        idle = _resident(pid)
    rows = []
    for name, tree in {"corpus": corpus(), "a million files": generated("million", MILLION)}.items():
        with _watcher(tree) as (pid, state):
            rows += [*_answers(name, tree, state, rounds), *_costs(name, tree, pid, idle)]
    clear(empty)
    return rows


def _answers(name: str, tree: Path, state: Mapping[str, str], rounds: int) -> list[Figure]:
    """How long the commands wait for the watcher."""
    edited = _deep_file(tree)
    before, numbers = edited.read_bytes(), count()
    hashing: list[str | Path] = [SAPWOOD, "hash", tree]

    def edit() -> None:
        edited.write_bytes(before + b"// %d\n" % next(numbers))

    try:
        hashed, asked, after_edit = in_turns(
            [
                Case(f"hash, {name}", hashing, environment=state),
                Case(f"status, {name}", [SAPWOOD, "status", tree], environment=state),
                Case(f"hash after an edit, {name}", hashing, edit, state),
            ],
            2 * rounds,
        )
    finally:
        edited.write_bytes(before)
    return [
        at_most(f"{name}, watched: hash", hashed, None, 70),
        at_most(f"{name}, watched: status", asked, None, 70),
        at_most(f"{name}, watched: hash after one edit", after_edit, None, 70),
    ]


def _costs(name: str, tree: Path, pid: int, idle: int) -> list[Figure]:
    """What the watcher takes of memory, and of the processor while nothing happens."""
    resident, entries = _resident(pid), sum(1 + len(files) for _, _, files in os.walk(tree))
    before = _ticks(pid)
    time.sleep(_IDLE_S)
    spent = _ticks(pid) - before
    return [
        Figure(
            f"{name}, watched: memory an entry",
            f"{resident / 1e6:.0f} MB",
            f"{idle / 1e6:.0f} MB, empty",
            (resident - idle) / entries,
            200,
            "B",
        ),
        Figure(f"{name}, watched: processor in {_IDLE_S} s", f"{spent} ticks", "", spent, 0, "ticks"),
    ]


@contextmanager
def _watcher(tree: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Give the process that watches `tree`, which has been hashed, and the environment in which it is found."""
    cache = place("cache")
    state = with_cache(cache)
    environment = {**os.environ, **state}
    started = subprocess.run(
        [SAPWOOD, "watch", "--json", tree], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    try:
        Case("hash", [SAPWOOD, "hash", tree], environment=state).run()
        yield json.loads(started.stdout)["pid"], state
    finally:
        subprocess.run([SAPWOOD, "watch", "--stop", tree], env=environment, check=True)
        clear(cache)


def _deep_file(tree: Path) -> Path:
    """Return the first file, by name, three directories down."""
    return min(path for path in tree.glob("*/*/*/*") if path.is_file() and not path.is_symlink())


def _resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"bench: no VmRSS of process {pid}")
    return int(found[1]) * 1024


def _ticks(pid: int) -> int:
    """Return the processor time of a process, its own and the kernel's for it, in hundredths of a second."""
    # After the name, which may contain anything: the 12th and 13th field (proc(5)).
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
