"""Room to work: a directory for the time of a build, with one for each builder.

Invariant: what is in it belongs to one build, and goes with it; what killed builds left the next one clears away. A
builder's links lead nowhere: nothing is done to what lies behind them. Not here: what is kept (`kept`).
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Scratch", "remove", "scratch"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Scratch:
    """The room of one build, below `home`; made by `scratch`. Safe to use from several threads."""

    def __init__(self, home: Path, top: Path) -> None:
        self.top = top
        self._home = home
        self._number = 0
        self._numbering = threading.Lock()

    def place(self) -> Path:
        """Return a new directory."""
        with self._numbering:
            self._number += 1
            place = self.top / str(self._number)
        place.mkdir()
        return place

    def leave(self, name: str, place: Path) -> Path:
        """Keep what a builder that failed has at `place`, until another of this name does; return where it is now."""
        failed = self._home / "failed" / name
        with contextlib.suppress(FileNotFoundError):
            remove(failed)
        failed.parent.mkdir(parents=True, exist_ok=True)
        os.rename(place, failed)
        return failed


@contextlib.contextmanager
def scratch(home: Path) -> Iterator[Scratch]:
    """Give room below `home` for a while, and clear away what killed builds left."""
    above = home / "scratch"
    above.mkdir(parents=True, exist_ok=True)
    for left in above.iterdir():
        with contextlib.suppress(OSError), _locked(left):
            remove(left)
    top = above / f"{os.getpid()}-{os.urandom(4).hex()}"
    top.mkdir()
    with _locked(top):
        try:
            yield Scratch(home, top)
        finally:
            remove(top)


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Hold a directory for oneself.

    Raises:
        OSError: somebody else does, or it is gone.
    """
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove(place: Path) -> None:
    """Remove a directory, whatever a builder did to its modes, and however deep it is.

    Raises:
        OSError: it is not there, or something of it cannot be removed.
    """
    os.chmod(place, 0o700)
    top = os.open(place, _FOLDER)
    # No builder has made something of such a name.
    names = map(f"{os.urandom(8).hex()}-{{}}".format, itertools.count())
    try:
        todo = _empty(top, top, names)
        while todo:
            name = todo.pop()
            folder = os.open(name, _FOLDER, dir_fd=top)
            try:
                todo += _empty(folder, top, names)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(place)


def _empty(folder: int, top: int, names: Iterator[str]) -> list[str]:
    """Remove what is in a directory, but for directories: these are moved to `top`, and their new names returned."""
    moved = []
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            # Who may not write into a directory may not move it either.
            os.chmod(entry.name, 0o700, dir_fd=folder)
            name = next(names)
            os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=top)
            moved.append(name)
        else:
            os.unlink(entry.name, dir_fd=folder)
    return moved
