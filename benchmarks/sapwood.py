"""The command that is measured, and places that are its own for each measurement."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.corpus import BUILD
from benchmarks.measure import Case, Word

SAPWOOD = Path(sys.executable).with_name("sapwood")


def place(name: str) -> Path:
    """Return a path below the build directory at which nothing lies."""
    path = BUILD / "work" / name
    clear(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def clear(*paths: Path) -> None:
    """Remove what lies there, and what was moved aside from there."""
    for path in paths:
        if path.is_file():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(_aside(path), ignore_errors=True)


def anew(*paths: Path) -> None:
    """Remove what lies there, and let all that is on its way to the disk arrive: the next run does not pay for it."""
    clear(*paths)
    os.sync()


def aside(path: Path) -> None:
    """Move what lies there to a place beside it, where it is until `clear`, and let all arrive on the disk.

    For a tree of many files, instead of removing it: for minutes ext4 gives no inode that was just freed to another
    file, and looks at each of them for each file that is made; such a run would measure that.
    """
    if path.exists():
        kept = _aside(path)
        kept.mkdir(parents=True, exist_ok=True)
        path.rename(kept / str(len(list(kept.iterdir()))))
    os.sync()


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}-aside")


class Reporting:
    """A case of sapwood (`measure.Timed`) that keeps what each run said with `--json`."""

    def __init__(
        self,
        command: str,
        *arguments: Word,
        cache: Path,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = command
        self.said: list[dict[str, Any]] = []
        self._case = Case(
            command,
            [SAPWOOD, command, "--json", *arguments],
            before,
            {**with_cache(cache), **(environment or {})},
            says=BUILD / "work" / "said.json",
        )

    def prepare(self) -> object:
        """See `Timed`."""
        return self._case.prepare()

    def run(self) -> tuple[float, int]:
        """See `Timed`."""
        spent = self._case.run()
        self.said.append(json.loads(self._case.says.read_text(encoding="utf-8")))
        self._case.says.unlink()
        return spent


def with_cache(cache: Path) -> dict[str, str]:
    """Return the environment of a sapwood whose state lies in `cache`."""
    return {"SAPWOOD_CACHE": str(cache)}


def index_file(cache: Path) -> Path:
    """Return the one index in `cache`."""
    [found] = cache.glob("index/*.index")
    return found


def require_free(size: int) -> None:
    """Stop the measurement unless the build directory's file system has so many bytes left."""
    free = shutil.disk_usage(BUILD).free
    if free < size:
        raise SystemExit(f"bench: {BUILD}: {size:,} bytes are needed, {free:,} are free")


def require_equal(tree: Path, expected: Path) -> None:
    """Stop the measurement unless both directories hold the same names, contents and links."""
    shown = subprocess.run(
        ["diff", "-r", "--no-dereference", "--brief", tree, expected], stdout=subprocess.PIPE, text=True
    )
    if shown.returncode:
        raise SystemExit(f"bench: {tree} is not what it should be: {shown.stdout.partition(chr(10))[0]}")
