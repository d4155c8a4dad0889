"""A mount has its own process: here it is started, and here it says that it is ready, or why not.

Invariant: `start` returns when the mount can be used, or raises what the server raised, or a signal's exception, and
then nothing is left running or mounted. The server is told what to serve by its stdin, for an address may be signed and
everybody can read a command line. It is held: the holder starts it, passes on what it says first, and starts the next
one when it dies. The pipe from the holder brings one message, then its end. An end without one is a death.
Why a process: a page fault on a mapped file keeps the GIL, so a reader that serves its own mount waits for itself.
Not here: holding (`holder`), serving (`sapwood.mount.serve`), ending a mount (`sapwood.mount.unmount`).
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from sapwood.errors import InternalError, InvalidInputError, SapwoodError, UnavailableError
from sapwood.mount.holder import ALONE, GAVE_UP, READY
from sapwood.mount.saying import say
from sapwood.mount.table import alone_at, log_path, noted, place_of, unmount

__all__ = ["Started", "main", "start"]

# A server that was asked to end and does not is killed: it has nothing to lose.
_PATIENCE_S = 10.0


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
            self.process.wait(_PATIENCE_S)
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
    **options: Any,
) -> Started:
    """Serve `address` at `place` from a process of its own, and return when it can be used.

    `options` are those of `sapwood.mount.serve`, and must be values of JSON; with `discard` what was changed in a
    `writable` mount is thrown away at its end. The server outlives this process, unless
    it is `tied` to it: then it unmounts and ends when this process does, however that happens. `ready` is called when
    the mount can be used: the last moment at which an exception takes it away again. What the server has to say goes
    to its log, or if `talking` to our stderr.

    Raises:
        InvalidInputError: `bad-mount-point`: a mount is there, or is being made; nothing was touched.
        UnavailableError: `mount-died`: it ended without a word; its log's last line is in the message.
        UnavailableError: `changes-in-use`: another mount, maybe one taken away lazily, writes the place's changes.
        UnavailableError, DeniedError: nothing can be written to the cache.
        SapwoodError: whatever `sapwood.mount.serve` raised before it was ready.
    """
    place = place_of(place)
    with alone_at(cache_dir, place):
        return _start(address, place, cache_dir, ready, options, tied=tied, talking=talking)


def _start(
    address: str,
    place: Path,
    cache_dir: Path,
    ready: Callable[[], None],
    options: dict[str, Any],
    *,
    tied: bool,
    talking: bool,
) -> Started:
    log = log_path(cache_dir, place)
    call = json.dumps({"address": address, "place": os.fsdecode(place), "cache_dir": os.fsdecode(cache_dir), **options})
    # Holder and servers have it as long as one of them lives.
    claimed = _claim(place) if options.get("writable") else None
    reading, writing = os.pipe()
    theirs, lifeline = os.pipe() if tied else (None, None)
    passed = (writing,) if theirs is None else (writing, theirs)
    inherited = passed if claimed is None else (*passed, claimed)
    with open(reading, "rb") as messages, nullcontext() if talking else open(log, "wb") as output:
        try:
            process = subprocess.Popen(
                # Without what a site adds, for it is to be small.
                [sys.executable, "-I", "-S", Path(__file__).with_name("holder.py"), *map(str, passed)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if talking else output,
                stderr=output,
                pass_fds=inherited,
                # A Ctrl-C in the terminal, or its end, is no business of the server's.
                start_new_session=True,
            )
        finally:
            for descriptor in inherited:
                os.close(descriptor)
        started = Started(place, cache_dir, log, process, lifeline)
        try:
            _tell(process, call)
            message = _heed(_hear(messages, started))
            ready()
        except BaseException:
            # It failed, or we were stopped while waiting: then the server takes its mount along.
            started.end()
            raise
    if message == ALONE:
        process.wait()
        return replace(started, is_served=False)
    return started


def _tell(process: subprocess.Popen[bytes], call: str) -> None:
    """Say what is to be served, to a server that may be dead: that it is will be heard."""
    assert process.stdin
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(call.encode())


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
        raise pickle.loads(message)  # from our own child, through our own pipe
    return message


def main(arguments: list[str]) -> int:
    """Serve one mount until it ends, or take it away; `arguments` and stdin are what the holder gave."""
    what, *numbers = arguments
    connection, device, *lifeline = map(int, numbers)
    call = json.load(sys.stdin)
    if what == "unmount":
        unmount(call["place"], lazy=True, cache_dir=Path(call["cache_dir"]))
        _end_changes(call)
        return 0
    for inherited in (connection, *(() if device < 0 else (device,)), *lifeline):
        os.set_inheritable(inherited, False)
    if lifeline:
        threading.Thread(target=_end_with, args=lifeline, daemon=True).start()
    with socket.socket(fileno=connection) as holder:
        return _serve(call, holder, None if device < 0 else device, tied=bool(lifeline))


def _serve(call: dict[str, Any], holder: socket.socket, device: int | None, *, tied: bool) -> int:
    from sapwood.mount.server import serve

    told = device is not None

    def leave(device: int | None, heritage: dict[str, Any]) -> None:
        """Hand the mount over, before the kernel has asked anything of it: from here on nothing of it is lost.

        Without a device there is nothing to hand over, and it is only said that the mount can be used.
        """
        nonlocal told
        told = True
        if device is None:
            holder.send(READY)
            return
        socket.send_fds(holder, [json.dumps({**call, "heritage": heritage}).encode()], [device])

    try:
        serve(
            call["address"],
            Path(call["place"]),
            cache_dir=Path(call["cache_dir"]),
            leave=leave,
            # A mount that ends with a command needs somebody who ends it.
            alone=None if tied else lambda: holder.send(ALONE),
            device=device,
            is_claimed=True,
            **{name: value for name, value in call.items() if name not in ("address", "place", "cache_dir", "discard")},
        )
    except Exception as error:
        if not told:
            _end_changes(call)
        if device is not None and isinstance(error, SapwoodError) and error.kind in ("missing", "disk-full"):
            # A page of the native tier, while the store is away, or room: the next one may find it.
            say(str(error))
            return 1
        if device is not None and isinstance(error, SapwoodError):
            # The next one would meet the same.
            say(f"no server can take over: {error}")
            return GAVE_UP
        if told:
            raise
        holder.send(pickle.dumps(error if isinstance(error, SapwoodError) else _foreign(error)))
        return 1
    _end_changes(call)
    if call.get("tier") == "libfuse":
        # Who still uses a mount that was taken away lazily asks on, and threads of libfuse enter Python with that:
        # it must not be half gone. All that is to be written is.
        os._exit(0)
    return 0


def _claim(place: Path) -> int:
    from sapwood.mount import changes

    return changes.claim(place)


def _end_changes(call: dict[str, Any]) -> None:
    """Remove what is kept of changes of a mount that has ended, if they are not to be kept, or there are none."""
    if call.get("writable"):
        from sapwood.mount import changes

        changes.end_claimed(Path(call["place"]), discarding=bool(call.get("discard")))


def _end_with(lifeline: int) -> None:
    """End this process as a polite kill would, once nobody holds the other end of `lifeline`."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _foreign(error: Exception) -> SapwoodError:
    return InternalError(f"the mount's server: {type(error).__name__}: {error}", kind="internal")


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"


def _last_line(log: Path) -> str:
    if not log.exists():  # it talked elsewhere
        return ""
    lines = log.read_text(encoding="utf-8", errors="backslashreplace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f": {last.strip()}" if last else ""
