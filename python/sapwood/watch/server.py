"""The watcher's process: one directory, its socket, and who asks.

Promise: only this user is answered; while an answer is worked at the asker hears from us each second; work that nobody
waits for any more is stopped; when it ends, however it is told to, no socket is left. Idle it waits, without a timer.
Bytes on the socket: docs/watch.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sapwood import places
from sapwood._core.watch import Watcher
from sapwood.errors import ConflictError, DeniedError, SapwoodError
from sapwood.tree import watched
from sapwood.tree.index import default_index_path, watcher_name
from sapwood.tree.options import Options

__all__ = ["own_folder", "serve"]

# A request is one line; paths are at most 4 KiB, with escapes six times that.
_REQUEST_BYTES = 1 << 16
_REQUEST_S = 2.0
# How often an asker hears that we are at work: well within its patience.
_SIGN_S = 0.5


def own_folder() -> Path:
    """Make the directory of watchers' sockets, for this user only, and return it.

    Raises:
        DeniedError: `path-denied`: it cannot be made, or is another user's.
    """
    place = Path(places.watch_dir())
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.stat().st_uid != os.geteuid():
            raise DeniedError(f"{place} is another user's", kind="path-denied", hint="set SAPWOOD_CACHE")
        place.chmod(0o700)
    except OSError as error:
        raise DeniedError(f"cannot make {place}: {error.strerror}", kind="path-denied") from error
    return place


def serve(
    root: str | os.PathLike[str], index: str | None, options: Options | None = None, *, ready: Callable[[], None]
) -> int | None:
    """Watch `root`, whose state is kept at `index` (None: where it is by default), and call `ready`; then answer until
    told to end, through the socket or by a signal, whose number is returned, or until it is not where it was.

    Raises:
        ConflictError: `watched`: another process watches it.
        UnavailableError: `watch-limit`.
        InvalidInputError: `unwatchable`, `not-a-directory`.
        SapwoodError: what looking at it says.
    """
    options = options or Options()
    place, name = own_folder(), watcher_name(root, options)
    with _locked(place / f"{name}.lock", root), _private(place / f"{name}.cookies") as cookies:
        index_path = os.path.abspath(index or default_index_path(root, options))
        # Not by way of a link, which may lead elsewhere later.
        real = os.path.realpath(root)
        watcher = Watcher(real, index_path, cookies, options)
        server = _Server(watcher, real, index_path, watched.meaning(options))
        with _listening(place, name) as listener:
            return server.run(listener, ready)


class _Server:
    def __init__(self, watcher: Watcher, root: str, index: str, meaning: str) -> None:
        self._watcher = watcher
        self._meaning = meaning
        self._root = root
        self._index = index
        self._mounts = os.stat("/proc/self/ns/mnt").st_ino
        self._ending = threading.Event()
        self._signo: int | None = None
        self._bell, self._ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Of those who asked us to stop: they are to see our end.
        self._told: list[socket.socket] = []

    def run(self, listener: socket.socket, ready: Callable[[], None]) -> int | None:
        """Answer until told to end; the signal that did."""
        # What another thread received, or this one just before it waits, must end the wait, too.
        signal.set_wakeup_fd(self._ring, warn_on_full_buffer=False)
        for signo in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signo, self._signalled)
        wait = select.poll()
        for what in (listener.fileno(), self._watcher.fileno(), self._bell):
            wait.register(what, select.POLLIN)
        answering: list[threading.Thread] = []
        ready()
        while not self._ending.is_set():
            readable = {descriptor for descriptor, _ in wait.poll()}
            if self._watcher.fileno() in readable:
                self._end(f"{self._root} is not where it was")
            elif listener.fileno() in readable:
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    answering = [thread for thread in answering if thread.is_alive()]
                    answering.append(threading.Thread(target=self._attend, args=(connection,)))
                    answering[-1].start()
        # Each is stopped by its next sign of life, which is within a tenth of a second.
        for thread in answering:
            thread.join()
        return self._signo

    def _signalled(self, signo: int, _: object) -> None:
        self._signo = signo
        self._end()

    def _end(self, why: str | None = None) -> None:
        if why is not None:
            _say(f"ends: {why}")
        self._ending.set()
        with contextlib.suppress(BlockingIOError):
            os.write(self._ring, b"!")

    def _attend(self, connection: socket.socket) -> None:
        """Answer one request."""
        stopping = False
        try:
            connection.settimeout(_REQUEST_S)
            if watched.peer(connection)[1] != os.geteuid():
                return
            signs = _Signs(connection, self._ending)
            answer = self._answer(_request(connection), signs)
            stopping = "stopping" in answer
            signs.send(answer)
        except _GoneError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            _say(f"a request: {type(error).__name__}: {error}")
        finally:
            if stopping:
                self._told.append(connection)
                self._end()
            else:
                connection.close()

    def _answer(self, request: dict[str, Any], signs: _Signs) -> dict[str, Any]:
        if request["version"] != watched.VERSION:
            return {"no": f"version {request['version']}"}
        what = request["do"]
        if what == "stop":
            return {"stopping": True}
        if what == "who":
            return {"who": {"root": self._root, "index": self._index, "directories": self._watcher.directories}}
        if what not in ("hash", "status"):
            return {"no": "unknown"}
        if why := self._differs(request["tree"]):
            return {"no": why}
        signs.sign(0, 0, 0, 0)
        try:
            return self._hash(request, signs) if what == "hash" else self._status(signs)
        except SapwoodError as error:
            # Whoever asked scans, and is told by its own scan if it meets the same.
            if error.kind in ("watch-limit", "unwatchable"):
                self._end(str(error))
            elif error.kind != "path-denied":
                _say(str(error))
            return {"no": str(error)}

    def _differs(self, tree: dict[str, Any]) -> str | None:
        """Say why this is not what we watch, if it is not."""
        if tree["root"] != self._root or tree["index"] != self._index:
            return "another tree or index"
        if tree["options"] != self._meaning:
            return "other options"
        if tree["mounts"] != self._mounts:
            return "other mounts"
        if (tree["dev"], tree["ino"]) != self._watcher.root_id:
            self._end(f"{self._root} is another directory now")
            return "another directory"
        return None

    def _hash(self, request: dict[str, Any], signs: _Signs) -> dict[str, Any]:
        digest, size, have, done, unreadable = self._watcher.hash(request["skipUnreadable"], signs.sign)
        return {"hash": [digest, size, *have, *done, _texts(self._below(unreadable))]}

    def _status(self, signs: _Signs) -> dict[str, Any]:
        found = self._watcher.status(signs.sign)
        if found is None:
            return {"no": "never hashed"}
        *differing, unreadable = found
        return {"status": [_texts(paths) for paths in (*differing, self._below(unreadable))]}

    def _below(self, paths: list[bytes]) -> list[bytes]:
        """Name them by their way from the directory: the asker may call that by another name."""
        return [os.path.relpath(path, os.fsencode(self._root)) for path in paths]


class _GoneError(Exception):
    """Nobody waits for the answer any more."""


class _Signs:
    """Tells the asker that we are at work, and stops the work when it is gone or we are to end."""

    def __init__(self, connection: socket.socket, ending: threading.Event) -> None:
        self._connection = connection
        self._ending = ending
        self._last = -_SIGN_S

    def sign(self, *numbers: int) -> None:
        """Called by the core ten times a second while it works."""
        if self._ending.is_set():
            raise _GoneError
        now = time.monotonic()
        if now - self._last >= _SIGN_S:
            self._last = now
            self.send({"working": numbers})

    def send(self, line: dict[str, Any]) -> None:
        """Send a line."""
        try:
            self._connection.sendall(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise _GoneError from error


def _request(connection: socket.socket) -> dict[str, Any]:
    taken = b""
    while not taken.endswith(b"\n"):
        piece = connection.recv(_REQUEST_BYTES)
        if not piece:
            raise _GoneError
        taken += piece
        if len(taken) > _REQUEST_BYTES:
            raise ValueError("too long")
    request = json.loads(taken)
    if not isinstance(request, dict):
        raise ValueError("no object")
    return request


def _texts(paths: list[bytes]) -> list[str]:
    return [path.decode("utf-8", "surrogateescape") for path in paths]


@contextlib.contextmanager
def _locked(path: Path, root: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the lock that says that a watcher lives; its file stays, since removing it would let two hold one."""
    with open(path, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            where = os.fspath(root)
            raise ConflictError(
                f"{where} is watched already", kind="watched", hint=f"sapwood watch --stop {where}"
            ) from None
        yield


@contextlib.contextmanager
def _private(place: Path) -> Iterator[Path]:
    shutil.rmtree(place, ignore_errors=True)  # of one that was killed
    place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _listening(place: Path, name: str) -> Iterator[socket.socket]:
    path = place / f"{name}.sock"
    path.unlink(missing_ok=True)  # of one that was killed: we hold the lock
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            folder, address = watched.short(str(path))
            try:
                listener.bind(address)
            finally:
                os.close(folder)
        finally:
            os.umask(before)
        try:
            listener.listen(64)
            listener.setblocking(False)
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _say(words: str) -> None:
    # The watcher's log: stderr is a file, or the terminal of `--foreground`.
    os.write(2, f"sapwood: {words}\n".encode(errors="backslashreplace"))
