"""Which watchers this user has, and ending one.

Promise: what is listed answers; a left-over of one that was killed is cleared away; `stop` returns when it has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from pathlib import Path
from typing import NamedTuple

from sapwood import places
from sapwood.errors import NotFoundError, UnavailableError
from sapwood.tree import watched
from sapwood.tree.index import watcher_name
from sapwood.tree.options import Options

__all__ = ["Watching", "stop", "watchers"]

# One that was asked to end and does not is killed: it has nothing to lose.
_PATIENCE_S = 10.0


class Watching(NamedTuple):
    """A watcher: what it watches, where the index is, its process, and how many directories it watches."""

    root: Path
    index_path: Path
    pid: int
    directories: int


def watchers() -> list[Watching]:
    """Return the watchers of this user, sorted by directory. One that does not answer is not listed."""
    return sorted(who for _, who in _answering())


def stop(root: str | os.PathLike[str]) -> None:
    """End the watchers of `root`, of whatever options, and return when they have ended.

    Raises:
        NotFoundError: `not-watched`.
        UnavailableError: `watch-hangs`: not even killing it helps.
    """
    real, where = Path(os.path.realpath(root)), os.fspath(root)
    usual = Path(places.watch_dir(), f"{watcher_name(root, Options())}.sock")
    found = {socket for socket, who in _answering() if who.root == real}
    if _is_held(usual.with_suffix(".lock")):
        found.add(usual)  # also when it does not answer
    if not found:
        raise NotFoundError(f"{where} is not watched", kind="not-watched", hint="sapwood watch --list")
    for socket in found:
        pid = _ask_to_end(socket)
        if not _free(socket.with_suffix(".lock")):
            raise UnavailableError(f"{where}: its watcher{f' {pid}' if pid else ''} does not end", kind="watch-hangs")
        _clear(socket)


def _ask_to_end(socket: Path) -> int:
    """Ask a watcher to end, wait for it, and kill it if it does not; return its process, 0 if it does not listen."""
    try:
        connection = watched.connect(str(socket))
    except OSError:
        return 0
    pid = watched.peer(connection)[0]
    try:
        connection.sendall(json.dumps({"version": watched.VERSION, "do": "stop"}).encode() + b"\n")
        connection.settimeout(_PATIENCE_S)
        # Its end is the connection's.
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        if pid:  # of another container it has none for us, and 0 would be we ourselves
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    finally:
        connection.close()
    return pid


def _answering() -> list[tuple[Path, Watching]]:
    found = []
    for socket in Path(places.watch_dir()).glob("*.sock"):
        who = _who(socket)
        if who is None:
            _clear(socket)
        else:
            found.append((socket, who))
    return found


def _who(socket: Path) -> Watching | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        connection = watched.connect(str(socket))
        try:
            connection.sendall(json.dumps({"version": watched.VERSION, "do": "who"}).encode() + b"\n")
            who = json.loads(next(watched.lines(connection), b"{}"))["who"]
            pid = watched.peer(connection)[0]
            return Watching(Path(who["root"]), Path(who["index"]), pid, who["directories"])
        finally:
            connection.close()
    return None


def _clear(socket: Path) -> None:
    """Remove what a killed watcher left; a live one holds its lock."""
    with contextlib.suppress(OSError), open(socket.with_suffix(".lock"), "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        socket.unlink(missing_ok=True)


def _is_held(path: Path) -> bool:
    """Say whether a watcher lives, by its lock."""
    try:
        with open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _free(path: Path) -> bool:
    """Wait until the lock is free: the process has ended by then."""
    import time

    until = time.monotonic() + _PATIENCE_S
    while _is_held(path):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
