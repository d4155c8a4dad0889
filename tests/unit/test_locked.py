"""Locks of files: one has it, and a disk that has none says so."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pytest

from sapwood.errors import UnavailableError
from sapwood.mount.locked import lock


def opened(path: Path) -> int:
    """Return how often this process has a file open."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # another thread's, closed meanwhile
            found += os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    return found


def test_one_has_it_until_it_is_closed_and_who_does_not_get_it_keeps_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.lock"
    ours = lock(path)
    assert ours is not None
    assert lock(path) is None
    assert opened(path) == 1
    os.close(ours)
    again = lock(path)
    assert again is not None
    os.close(again)


def test_a_disk_without_locks_is_named_and_nothing_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UnavailableError, match=r"a\.lock: No locks available") as refused:
        lock(tmp_path / "a.lock")
    assert refused.value.kind == "store-unreachable"
    assert opened(tmp_path / "a.lock") == 0
