"""A watcher has its own process: here it is started, and here it says that it is ready, or why not.

Invariant: `start` returns when the directory is watched, or raises what the watcher raised, and then none runs. The two
speak through a pipe: one pickled message, then its end. An end without one is a death. The watcher is nobody's child:
whoever starts one has nothing to wait for.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from sapwood.errors import InternalError, SapwoodError, UnavailableError
from sapwood.tree.index import watcher_name
from sapwood.tree.options import Options

__all__ = ["Started", "main", "start"]


class Started(NamedTuple):
    """A running watcher."""

    pid: int
    log: Path


def start(
    root: str | os.PathLike[str], index: str | os.PathLike[str] | None = None, options: Options | None = None
) -> Started:
    """Watch `root` from a process of its own, and return when it is watched.

    Raises:
        ConflictError: `watched`: it is already.
        UnavailableError: `watch-limit`; `watch-died`: it ended without a word; its log's last line is in the message.
        InvalidInputError: `unwatchable`, `not-a-directory`.
    """
    from sapwood.watch.server import own_folder

    options = options or Options()
    log = own_folder() / f"{watcher_name(root, options)}.log"
    call = pickle.dumps((os.path.abspath(root), None if index is None else os.path.abspath(index), options)).hex()
    reading, writing = os.pipe()
    with open(reading, "rb") as messages, open(log, "ab") as output:
        written = output.tell()
        try:
            # It forks and its parent ends; a Ctrl-C in the terminal, or the terminal's end, is no business of its.
            subprocess.run(
                # Not what lies about where we are: that may be the tree, and not ours.
                [sys.executable, "-P", "-m", "sapwood.watch", str(writing), call],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(writing,),
                start_new_session=True,
                check=False,
            )
        finally:
            os.close(writing)
        # If we are stopped here it notices when it wants to say that it is ready, and ends.
        message = messages.read()
    if not message:
        raise UnavailableError(
            f"{os.fspath(root)}: the watcher ended before it was ready{_last_line(log, written)}",
            kind="watch-died",
            hint=f"read {log}",
        )
    said = pickle.loads(message)  # from our own child, through our own pipe
    if isinstance(said, SapwoodError):
        raise said
    return Started(said, log)


def main(arguments: list[str]) -> int:
    """Watch one directory until told to end; `arguments` are what `start` gave."""
    from sapwood.watch.server import serve

    if os.fork():
        os._exit(0)
    descriptor, call = int(arguments[0]), pickle.loads(bytes.fromhex(arguments[1]))
    os.set_inheritable(descriptor, False)
    is_ready = False

    def tell(message: object) -> None:
        with open(descriptor, "wb") as messages:
            messages.write(pickle.dumps(message))

    def ready() -> None:
        nonlocal is_ready
        tell(os.getpid())
        is_ready = True
        # Not in the way of whoever wants to remove or unmount where we were started.
        os.chdir("/")

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        serve(*call, ready=ready)
    except BrokenPipeError:
        return 1
    except Exception as error:
        if is_ready:
            raise
        with contextlib.suppress(BrokenPipeError):
            tell(error if isinstance(error, SapwoodError) else _foreign(error))
        return 1
    return 0


def _foreign(error: Exception) -> SapwoodError:
    return InternalError(f"the watcher: {type(error).__name__}: {error}", kind="internal")


def _last_line(log: Path, start: int) -> str:
    text = log.read_bytes()[start:].decode("utf-8", "backslashreplace")
    last = next((line for line in reversed(text.split("\n")) if line.strip()), "")
    return f": {last.strip()}" if last else ""
