"""Locks of files: one has it, and a disk that has none says so."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from sapwood.errors import UnavailableError
from sapwood.mount.locked import lock


def test_one_has_it_until_it_is_closed_and_who_does_not_get_it_keeps_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.lock"
    ours = lock(path)
    assert ours is not None
    before = len(os.listdir("/proc/self/fd"))
    assert lock(path) is None
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(ours)
    again = lock(path)
    assert again is not None
    os.close(again)


def test_a_disk_without_locks_is_named_and_nothing_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnavailableError, match=r"a\.lock: No locks available") as refused:
        lock(tmp_path / "a.lock")
    assert refused.value.kind == "store-unreachable"
    assert len(os.listdir("/proc/self/fd")) == before
