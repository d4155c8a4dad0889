"""Watchers for tests: real processes that end with the test, and what they must never get wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sapwood import hash_tree, status
from sapwood.errors import NotFoundError
from sapwood.tree import watched
from sapwood.watch import Started, start, stop
from tests.support.cli import Sapwood
from tests.support.reapi_digest import tree_digest

_PATIENT = """
from sapwood.cli.main import run
from sapwood.tree import watched
watched._PATIENCE_S = 60.0
run()
"""


class PatientSapwood(Sapwood):
    """As `Sapwood`, with commands that wait for the word of a watcher as long as a busy machine needs."""

    def command(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-c", _PATIENT, *map(str, words)]


@contextmanager
def watching(root: Path, index: Path | None = None) -> Iterator[Started]:
    """A watcher of `root` that has ended when the block has, however it left it."""
    started = start(root, index)
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGCONT)
        with suppress(NotFoundError):
            stop(root)


class Answers:
    """Counts what watchers said, and what they left to a scan."""

    def __init__(self) -> None:
        self.given = 0
        self.refused = 0


@contextmanager
def answers(patience_s: float = 60.0) -> Iterator[Answers]:
    """Count the questions of this process to watchers within the block; on a busy machine one that lives is slow."""
    counted, ask, patience = Answers(), watched.ask, watched._PATIENCE_S

    def counting(*arguments: object) -> object:
        answer = ask(*arguments)  # type: ignore[arg-type]
        if answer is None:
            counted.refused += 1
        else:
            counted.given += 1
        return answer

    watched.ask, watched._PATIENCE_S = counting, patience_s  # type: ignore[assignment]
    try:
        yield counted
    finally:
        watched.ask, watched._PATIENCE_S = ask, patience


def check(root: Path, *, by_watcher: bool = True) -> int:
    """Say how many files a hash read; its digest is that of the tree as it is, and after it nothing is changed.

    The answers are the watcher's, or with `by_watcher=False` all but a watcher's.
    """
    # One that hangs is waited for as long as it is by whoever asks.
    with answers(60.0 if by_watcher else watched._PATIENCE_S) as counted:
        hashed = hash_tree(root)
        found = status(root)
    assert hashed.digest == tree_digest(root)
    assert (found.added, found.changed, found.removed) == ((), (), ())
    assert (counted.given > 0, counted.refused > 0) == (by_watcher, not by_watcher and counted.refused > 0)
    return hashed.files_hashed


def run_to_end(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command of the tests' machine that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload,no-any-return]
