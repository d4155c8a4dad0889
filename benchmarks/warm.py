"""What programs do on a tree that is there: the same commands on a warm mount and on the native directory.

A walk's script gets the tree as `$1`, and as `$2` a directory of its own on the native file system.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Case, Figure, Word, in_turns, ratio
from benchmarks.sapwood import SAPWOOD, with_cache

_LSTAT = """
import os, sys
os.chdir(sys.argv[1])
for name in sys.stdin.buffer.read().split(b"\\0"):
    os.lstat(name or b".")
"""
_NAMES = 'find . -print0 >"$2/names"'
_EXECUTIONS = 1000
# lib/ is about 150 objects; `prepare` makes what all of them need, once.
_CONFIGURE = 'make -s -C "$1" O="$2/out" tinyconfig >/dev/null && make -s -j2 -C "$1" O="$2/out" prepare >/dev/null'


@dataclass(frozen=True)
class Walk:
    """A program that reads the tree, what makes it ready, and what its time may be, as a multiple of the native one."""

    name: str
    script: str
    bound: float | None
    program: str = ""
    """In Python; a script runs it by `$PYTHON -S -c "$PROGRAM"`."""
    ready: str = ":"
    before: Callable[[], object] = lambda: None
    most_rounds: int = 1000

    def case(self, side: str, tree: Path, own: Path) -> Case:
        """Return the case of one side, made ready."""
        own.mkdir(parents=True, exist_ok=True)
        self._case(side, self.ready, tree, own).run()
        return self._case(side, self.script, tree, own)

    def _case(self, side: str, script: str, tree: Path, own: Path) -> Case:
        environment = {"PYTHON": sys.executable, "PROGRAM": self.program}
        return Case(f"{self.name}, {side}", ["sh", "-ec", script, "sh", tree, own], self.before, environment)


def drop_entries() -> None:
    """Let the kernel forget all names and attributes that nobody uses, of the mount and of the native tree."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("2", encoding="ascii")


def metadata(bound: float, dropped: float) -> list[Walk]:
    """Return the walks that read no content."""
    lstat = '"$PYTHON" -S -c "$PROGRAM" "$1" <"$2/names"'
    names = f'cd "$1" && {_NAMES}'
    return [
        Walk("find", "find \"$1\" -printf '%p %s %m %T@ %l\\n' >/dev/null", bound),
        Walk("lstat of all", lstat, bound, _LSTAT, names),
        Walk("lstat of all, names dropped", lstat, dropped, _LSTAT, names, drop_entries),
    ]


def contents(bound: float) -> list[Walk]:
    """Return the walks that read files."""
    build = 'rm -rf "$2/out/lib"; make -s -j2 -C "$1" O="$2/out" lib/ >/dev/null'
    return [
        # Into a pipe, since tar does not read what goes to /dev/null. 11,540 files.
        Walk("tar", 'tar -cf - -C "$1" drivers/gpu drivers/net | cat >/dev/null', bound),
        Walk("grep", 'grep -r "no file says this" "$1" >/dev/null || test $? = 1', bound),
        # No quarter of a minute for each of five rounds and both sides.
        Walk("a kernel's lib/, built outside", build, bound, ready=_CONFIGURE, most_rounds=3),
    ]


def executing(bound: float) -> Walk:
    """Return the walk that runs the program `true`, which the tree must have, many times."""
    return Walk("exec", f'i=0; while [ $i -lt {_EXECUTIONS} ]; do "$1/true"; i=$((i+1)); done', bound)


def compared(walks: Sequence[Walk], mounted: Path, native: Path, own: Path, rounds: int, what: str) -> list[Figure]:
    """Measure walks on a mount beside the native directory; both have been walked once before."""
    rows = []
    for walk in walks:
        ours = walk.case("mount", mounted, own / "mount")
        peer = walk.case("native", native, own / "native")
        ours.run()
        peer.run()
        mount_times, native_times = in_turns([ours, peer], min(rounds, walk.most_rounds))
        rows.append(ratio(f"{what}, {walk.name} : native", mount_times, native_times, walk.bound))
        shutil.rmtree(own)
    return rows


@contextmanager
def mounted(address: str, at: Path, cache: Path, *options: str) -> Iterator[int]:
    """Mount `address` at `at`, a new directory, for the block; the value is the process id of its holder, 0 of none."""
    at.mkdir()
    environment = {**os.environ, **with_cache(cache)}
    command: list[Word] = [SAPWOOD, "mount", "--json", *options, address, at]
    shown = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    try:
        yield json.loads(shown.stdout)["pid"] or 0
    finally:
        subprocess.run([SAPWOOD, "umount", at], env=environment, check=True)
        at.rmdir()
