"""Mounts for tests: made of a real tree, by a real server process, and always taken away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sapwood import open_store
from sapwood.errors import InvalidInputError
from sapwood.mount import mounts, process, unmount
from sapwood.mount.process import Started

# No read of a test takes this long; one that does hangs, and its mount is taken from under it.
_WATCHDOG_S = 250.0

# As every program that shows how far it is, or is stopped and goes on.
_TIMED = """
import os, signal, sys
heard = []
signal.signal(signal.SIGALRM, lambda *_: heard.append("signalled"))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
size = os.stat(sys.argv[1]).st_size
signal.setitimer(signal.ITIMER_REAL, 0)
print(size, *heard[:1], sep=", ")
"""


def pushed(tree: Path, store: Path) -> str:
    """Push `tree` and return its address."""
    open_store(str(store), create=True).push(tree, "main")
    return f"{store}#main"


@contextmanager
def mounted(
    address: str, place: Path, cache: Path, patience_s: float = _WATCHDOG_S, **options: object
) -> Iterator[Started]:
    """Mount `address` at `place`, a new directory, with a server that ends with the block."""
    place.mkdir()
    started = process.start(address, place, cache_dir=cache, tied=True, **options)
    # The server too, which has the holder's session.
    watchdog = threading.Timer(patience_s, os.killpg, (started.pid, signal.SIGKILL))
    watchdog.start()
    try:
        yield started
    finally:
        watchdog.cancel()
        if is_mounted(place):
            with suppress(InvalidInputError):  # it has just ended by itself
                unmount(place, lazy=True, cache_dir=cache)
        started.process.wait(60)


def is_mounted(place: Path) -> bool:
    return any(mount.path == place for mount in mounts())


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the tests' machine on a mount; the test's own process never touches one that may hang."""
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100, check=False)


def stat_under_signals(path: Path) -> str:
    """Return what a program prints of the size of a file, and whether it got signals while it waited for that."""
    return shell(f"{sys.executable} -c '{_TIMED}' {path} 2>&1").stdout
