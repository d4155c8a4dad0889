"""What the process of one mount does when it is told what to serve.

Invariant: it says once to the holder that the mount can be used, or what is wrong. Not here: its start (`__main__`),
serving (`server`), who waits (`process`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from sapwood.errors import InternalError, SapwoodError
from sapwood.mount import changes
from sapwood.mount.early import Asking
from sapwood.mount.holder import ALONE, GAVE_UP, READY
from sapwood.mount.saying import say
from sapwood.mount.server import serve
from sapwood.mount.table import unmount

# What a call says beside the arguments of `serve` that have another form there.
_ELSE = ("address", "place", "cache_dir", "discard", "log")


__all__ = ["called"]


def called(what: str, connection: int, device: int | None, lifeline: int | None, early: Asking | None) -> int:
    """Do what stdin says with the mount of `device`, or a new one, and return the code of this process.

    `connection` leads to the holder, the end of `lifeline` is ours; `early` was asked before we knew what for.
    """
    if not (said := sys.stdin.buffer.read()):
        # Who began this wants nothing of it.
        return 1
    call = json.loads(said)
    if what == "unmount":
        changes.note_users(Path(call["place"]))
        unmount(call["place"], lazy=True, cache_dir=Path(call["cache_dir"]))
        _end_changes(call)
        return 0
    for inherited in (connection, device, lifeline):
        if inherited is not None:
            os.set_inheritable(inherited, False)
    if lifeline is not None:
        threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    if device is None:
        _speak_to(call["log"])
    with socket.socket(fileno=connection) as holder:
        return _serve(call, holder, device, early, tied=lifeline is not None)


def _serve(call: dict[str, Any], holder: socket.socket, device: int | None, early: Asking | None, *, tied: bool) -> int:
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
            early=early,
            **{name: value for name, value in call.items() if name not in _ELSE},
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
        import pickle

        holder.send(pickle.dumps(error if isinstance(error, SapwoodError) else _foreign(error)))
        return 1
    _end_changes(call)
    if call.get("tier") == "libfuse":
        # Who still uses a mount that was taken away lazily asks on, and threads of libfuse enter Python with that:
        # it must not be half gone. All that is to be written is.
        os._exit(0)
    return 0


def _end_changes(call: dict[str, Any]) -> None:
    """Remove what is kept of changes of a mount that has ended, if they are not to be kept, or there are none."""
    if call.get("writable"):
        changes.end_claimed(Path(call["place"]), discarding=bool(call.get("discard")))


def _speak_to(log: str | None) -> None:
    """Let what is written from now on go to a log, which whoever called us has made, or else to the holder's stderr."""
    if log is not None:
        with contextlib.suppress(OSError):
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.close(descriptor)
    os.dup2(1, 2)


def _end_with(lifeline: int) -> None:
    """End this process as a polite kill would, once nobody holds the other end of `lifeline`."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _foreign(error: Exception) -> SapwoodError:
    return InternalError(f"the mount's server: {type(error).__name__}: {error}", kind="internal")
