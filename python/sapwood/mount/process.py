"""A mount has its own process: here it is started, and here it says that it is ready, or why not.

Invariant: `start` returns when the mount can be used, or raises what the server raised, or a signal's exception, and
then nothing is left running or mounted. The server is told what to serve by its stdin, for an address may be signed and
everybody can read a command line. It speaks through a pipe: one pickled message, then its end. An end without one is a
death.
Why a process: a page fault on a mapped file keeps the GIL, so a reader that serves its own mount waits for itself.
Not here: serving (`sapwood.mount.serve`), ending a mount (`sapwood.mount.unmount`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sapwood.errors import InternalError, InvalidInputError, SapwoodError, UnavailableError
from sapwood.mount.table import unmount

__all__ = ["Started", "log_path", "main", "start"]

_READY = "ready"
# A server that was asked to end and does not is killed: it has nothing to lose.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Started:
    """A running mount server. `process` is its handle in the process that started it.

    `lifeline` is the writing end of a pipe whose end is the server's end too; None for a server that lives on.
    """

    place: Path
    log: Path
    process: subprocess.Popen[bytes]
    lifeline: int | None

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.process.pid

    def end(self) -> None:
        """Take the mount away, whoever uses it, and see the server out; nothing to do when both are gone."""
        # First the signal: the server takes its mount along, should a second Ctrl-C stop us here.
        self.process.terminate()
        with contextlib.suppress(InvalidInputError, UnavailableError):  # not mounted any more
            unmount(self.place, lazy=True)
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.lifeline is not None:
            os.close(self.lifeline)


def log_path(cache_dir: Path, place: Path) -> Path:
    """Return where the server of a mount at `place` writes what it has to say."""
    return cache_dir / "mounts" / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}.log"


def start(
    address: str,
    place: Path,
    *,
    cache_dir: Path,
    tied: bool = False,
    ready: Callable[[], None] = lambda: None,
    **options: Any,
) -> Started:
    """Serve `address` at `place` from a process of its own, and return when it can be used.

    `options` are those of `sapwood.mount.serve`, and must be values of JSON. The server outlives this process, unless
    it is `tied` to it: then it unmounts and ends when this process does, however that happens. `ready` is called when
    the mount can be used: the last moment at which an exception takes it away again.

    Raises:
        UnavailableError: `mount-died`: it ended without a word; its log's last line is in the message.
        SapwoodError: whatever `sapwood.mount.serve` raised before it was ready.
    """
    log = log_path(cache_dir, place)
    log.parent.mkdir(parents=True, exist_ok=True)
    call = json.dumps({"address": address, "place": os.fsdecode(place), "cache_dir": os.fsdecode(cache_dir), **options})
    reading, writing = os.pipe()
    theirs, lifeline = os.pipe() if tied else (None, None)
    passed = (writing,) if theirs is None else (writing, theirs)
    with open(reading, "rb") as messages, open(log, "wb") as output:
        try:
            process = subprocess.Popen(
                # Not what lies about where we are: that may be a tree that is not ours.
                [sys.executable, "-P", "-m", "sapwood.mount", *map(str, passed)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=passed,
                # A Ctrl-C in the terminal, or its end, is no business of the server's.
                start_new_session=True,
            )
        finally:
            for descriptor in passed:
                os.close(descriptor)
        started = Started(place, log, process, lifeline)
        try:
            _tell(process, call)
            _hear(messages, started)
            ready()
        except BaseException:
            # It failed, or we were stopped while waiting: then the server takes its mount along.
            started.end()
            raise
    return started


def _tell(process: subprocess.Popen[bytes], call: str) -> None:
    """Say what is to be served, to a server that may be dead: that it is will be heard."""
    assert process.stdin
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(call.encode())


def _hear(messages: BinaryIO, started: Started) -> None:
    """Wait until the server says that it is ready; raise what it raised."""
    message = messages.read()
    if not message:
        ending, last = _ending(started.process.wait()), _last_line(started.log)
        raise UnavailableError(
            f"{started.place}: the mount's server ended with {ending} before it was ready{last}",
            kind="mount-died",
            hint=f"read {started.log}",
        )
    said = pickle.loads(message)  # from our own child, through our own pipe
    if said != _READY:
        raise said


def main(arguments: list[str]) -> int:
    """Serve one mount until it ends; `arguments` and stdin are what `start` gave."""
    from sapwood.mount import serve

    descriptor, *lifeline = map(int, arguments)
    call = json.load(sys.stdin)
    for inherited in (descriptor, *lifeline):
        os.set_inheritable(inherited, False)
    if lifeline:
        threading.Thread(target=_end_with, args=lifeline, daemon=True).start()
    told = False

    def tell(message: object) -> None:
        nonlocal told
        told = True
        with open(descriptor, "wb") as messages:
            messages.write(pickle.dumps(message))

    try:
        serve(
            call.pop("address"),
            Path(call.pop("place")),
            cache_dir=Path(call.pop("cache_dir")),
            ready=lambda *_: tell(_READY),
            **call,
        )
    except BrokenPipeError:
        # Whoever started us was stopped meanwhile, and knows of no mount: `serve` has taken it away.
        return 1
    except Exception as error:
        if told:
            raise
        tell(error if isinstance(error, SapwoodError) else _foreign(error))
        return 1
    return 0


def _end_with(lifeline: int) -> None:
    """End this process as a polite kill would, once nobody holds the other end of `lifeline`."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _foreign(error: Exception) -> SapwoodError:
    return InternalError(f"the mount's server: {type(error).__name__}: {error}", kind="internal")


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="backslashreplace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f": {last.strip()}" if last else ""
