"""Lock files: what one process at a time does, and those that it hands the descriptor to.

Invariant: a file that is locked is the one that has the name; who gives a lock back may remove it before. The kernel
gives back the lock of who has died.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from sapwood.store import kept

__all__ = ["lock"]


def lock(path: Path) -> int | None:
    """Return a descriptor: while it or a copy of it is open nobody else gets one. None if somebody else has it.

    Raises:
        UnavailableError, DeniedError: the disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        locked = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise kept.named(error, path) from error
    is_ours = False
    try:
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who had it may have removed it meanwhile.
            is_ours = os.path.samestat(os.fstat(locked), os.stat(path))
    except OSError as error:  # a disk that has no locks, as some of a network
        raise kept.named(error, path) from error
    finally:
        if not is_ours:
            os.close(locked)
    return locked if is_ours else None
