"""What the kernel has cached of file systems: names, inodes, pages. Who drops that drops it for all tests beside it.

Promise: while a test counts on it, in `kept`, no other one is in `dropped`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["dropped", "kept"]


@contextmanager
def kept() -> Iterator[None]:
    """No other test lets the kernel drop anything meanwhile."""
    with _claimed(fcntl.LOCK_SH):
        yield


@contextmanager
def dropped() -> Iterator[None]:
    """Whoever is in here lets the kernel drop what he likes, and nobody counts on it."""
    with _claimed(fcntl.LOCK_EX):
        yield


@contextmanager
def _claimed(how: int) -> Iterator[None]:
    claimed = os.open(Path(__file__).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(claimed, how)
        yield
    finally:
        os.close(claimed)
