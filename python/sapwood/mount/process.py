"""A mount has its own process: here it is started, and here it says that it is ready, or why not.

Invariant: `start` returns when the mount can be used, or raises what the server raised, or a signal's exception, and
then nothing is left running or mounted. The server is told what to serve by its stdin, for an address may be signed and
everybody can read a command line. It is held: the holder starts it, passes on what it says first, and starts the next
one when it dies. The pipe from the holder brings one message, then its end. An end without one is a death.
Why a process: a page fault on a mapped file keeps the GIL, so a reader that serves its own mount waits for itself.
Not here: what the process does (`__main__`), starting it (`begun`), holding (`holder`), ending a mount (`table`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from sapwood.errors import InvalidInputError, UnavailableError
from sapwood.mount.begun import Begun, begin
from sapwood.mount.holder import ALONE, READY
from sapwood.mount.table import alone_at, log_path, noted, place_of, unmount

__all__ = ["Started", "start"]

# A server that was asked to end and does not is killed: later where it has something to write, on a disk that stalls.
_PATIENCE_S = 10.0
_WRITES = ("trace", "stats")
_PATIENCE_TO_WRITE_S = 60.0
_PATIENCE_FOR_CHANGES_S = 5.0


@dataclass(frozen=True)
class Started:
    """A running mount. `process` is the handle of its holder in the process that started it.

    `lifeline` is the writing end of a pipe whose end is the server's end too; None for a server that lives on.
    """

    place: Path
    cache_dir: Path
    log: Path
    process: subprocess.Popen[bytes]
    lifeline: int | None
    patience_s: float = _PATIENCE_S
    """So long after it was asked to end the server is killed."""
    is_served: bool = True
    """False of a mount that needs no process."""

    @property
    def pid(self) -> int | None:
        """The holder's process id: a polite signal to it ends the mount. None of a mount that needs no process."""
        return self.process.pid if self.is_served else None

    def end(self) -> None:
        """Take the mount away, whoever uses it, and see the server out; nothing to do when both are gone."""
        # First the signal: the server takes its mount along, should a second Ctrl-C stop us here.
        self.process.terminate()
        if self._is_ours():
            self._unmount()
        try:
            self.process.wait(self.patience_s)
        except subprocess.TimeoutExpired:
            # With its server: it has a session of its own.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        # One that needs no process, or was made by a server that was killed before it could note it. A server that said
        # no, which is code 1, leaves none: what is there then is another's.
        if self.process.returncode != 1 and not any(noted(self.cache_dir, self.place)):
            self._unmount()
        if self.lifeline is not None:
            os.close(self.lifeline)

    def _is_ours(self) -> bool:
        """Whether the mount that is at the place, if one is, is this one: another may be there before or after it."""
        holder, server = noted(self.cache_dir, self.place)
        if holder:
            return holder == self.process.pid
        if not server:
            return False
        with contextlib.suppress(ProcessLookupError):
            return os.getsid(server) == self.process.pid
        return True

    def _unmount(self) -> None:
        with contextlib.suppress(InvalidInputError, UnavailableError):  # not mounted any more
            unmount(self.place, lazy=True, cache_dir=self.cache_dir)


def start(
    address: str,
    place: Path,
    *,
    cache_dir: Path,
    tied: bool = False,
    talking: bool = False,
    ready: Callable[[], None] = lambda: None,
    begun: Begun | None = None,
    **options: Any,
) -> Started:
    """Serve `address` at `place` from a process of its own, and return when it can be used.

    `options` are those of `sapwood.mount.serve`, and must be values of JSON; with `discard` what was changed in a
    `writable` mount is thrown away at its end. The server outlives this process, unless
    it is `tied` to it: then it unmounts and ends when this process does, however that happens. `ready` is called when
    the mount can be used: the last moment at which an exception takes it away again. What the server has to say goes
    to its log, or if `talking` to our stderr. Who knows early that there will be a mount has `begun` its processes, as
    `tied` as it is to be; not of one that is `writable`.

    Raises:
        InvalidInputError: `bad-mount-point`: a mount is there, or is being made; nothing was touched.
        UnavailableError: `mount-died`: it ended without a word; its log's last line is in the message.
        UnavailableError: `changes-in-use`: another mount, maybe one taken away lazily, writes the place's changes.
        UnavailableError, DeniedError: nothing can be written to the cache.
        SapwoodError: whatever `sapwood.mount.serve` raised before it was ready.
    """
    place = place_of(place)
    with alone_at(cache_dir, place):
        return _start(address, place, cache_dir, ready, options, begun=begun, tied=tied, talking=talking)


def _start(
    address: str,
    place: Path,
    cache_dir: Path,
    ready: Callable[[], None],
    options: dict[str, Any],
    *,
    begun: Begun | None,
    tied: bool,
    talking: bool,
) -> Started:
    log = log_path(cache_dir, place)
    shown = None if talking else os.fsdecode(log)
    where = {"place": os.fsdecode(place), "cache_dir": os.fsdecode(cache_dir), "log": shown}
    call = json.dumps({"address": address, **where, **options})
    if not talking:
        log.write_bytes(b"")
    with begun or _begin(place, options, tied=tied) as begun:
        started = Started(place, cache_dir, log, begun.process, begun.lifeline)
        try:
            begun.tell(shown, call)
            message = _heed(_hear(begun.messages, started))
            ready()
        except BaseException:
            # It failed, or we were stopped while waiting: then the server takes its mount along.
            if not begun.is_idle:
                started.end()
            raise
    if message == ALONE:
        started.process.wait()
        return replace(started, is_served=False)
    return replace(started, patience_s=_PATIENCE_TO_WRITE_S) if any(map(options.get, _WRITES)) else started


def _begin(place: Path, options: dict[str, Any], *, tied: bool) -> Begun:
    if not options.get("writable"):
        return begin(tied=tied)
    from sapwood.mount import changes

    # A mount that was there until now may have a server still, which ends.
    claimed = changes.claim(place, _PATIENCE_FOR_CHANGES_S)
    try:
        return begin(tied=tied, inherited=[claimed])
    finally:
        os.close(claimed)


def _hear(messages: BinaryIO, started: Started) -> bytes:
    """Wait until the server says that it is ready, or what it raised."""
    message = messages.read()
    if not message:
        ending, last = _ending(started.process.wait()), _last_line(started.log)
        raise UnavailableError(
            f"{started.place}: the mount's server ended with {ending} before it was ready{last}",
            kind="mount-died",
            hint=f"read {started.log}",
        )
    return message


def _heed(message: bytes) -> bytes:
    if message not in (READY, ALONE):
        import pickle

        raise pickle.loads(message)  # from our own child, through our own pipe
    return message


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"


def _last_line(log: Path) -> str:
    if not log.exists():  # it talked elsewhere
        return ""
    lines = log.read_text(encoding="utf-8", errors="backslashreplace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f": {last.strip()}" if last else ""
