"""Hashing the corpus without an index, beside the least that can be done, and beside git add."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from benchmarks.corpus import corpus
from benchmarks.measure import Case, Figure, in_turns, ratio
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

COMMANDS = (
    "`sapwood hash CORPUS` : `crates/core/examples/floor.rs`, which reads the files of a given list and takes their"
    " SHA-256 on all cores; : `git add --all` into an empty repository"
)
_ROOT = Path(__file__).resolve().parent.parent.parent


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = corpus()
    cache, listed, repository = place("cache"), place("listed"), place("repository.git")
    hashing = Case("cold hash", [SAPWOOD, "hash", tree], lambda: clear(cache), with_cache(cache))
    _list_files(tree, listed)
    floor = Case("floor", [_floor(), tree], reads=listed)
    git: list[str | Path] = ["git", "--git-dir", repository, "--work-tree", tree]

    def begin_repository() -> None:
        clear(repository)
        subprocess.run([*git, "init", "--quiet"], check=True)

    floor.run()  # brings the files into the page cache
    cold, least = in_turns([hashing, floor], 2 * rounds)
    cold_again, added = in_turns([hashing, Case("git add", [*git, "add", "--all"], begin_repository)], min(rounds, 3))
    clear(cache, repository)
    listed.unlink()
    return [
        ratio("cold hash : read and SHA-256 of all files", cold, least, 1.25),
        ratio("cold hash : git add", cold_again, added, 0.1),
    ]


def _list_files(tree: Path, listed: Path) -> None:
    """Write the paths of the files below `tree`, relative to it, each ended by a NUL, directory by directory."""
    with listed.open("wb") as lines:
        for folder, _, names in os.walk(os.fsencode(tree)):
            for name in names:
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    lines.write(os.path.relpath(path, os.fsencode(tree)) + b"\0")


def _floor() -> Path:
    """Return the program, built as the core is."""
    built = subprocess.run(
        ["cargo", "build", "--locked", "--release", "--package", "sapwood-core", "--example", "floor",
         "--message-format", "json", "--quiet"],
        cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    made = [json.loads(line).get("executable") for line in built.splitlines()]
    return Path(next(path for path in made if path))
