"""The builders of a far side: each is a process of ours that mounts what it builds from, and runs the command.

Promise: when the context ends they have ended. It imports little: the first of them starts up before anything else
does, while nobody knows yet what it is to run. Not here: what they are told (`cli.far`), and by whom (`far`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

__all__ = ["Builders"]

# A builder that was asked to end has so long.
_FINISH_S = 10.0
# Once a builder has ended, what it left behind may hold its stdout: so long nothing comes before nobody listens.
_SILENT_S = 1.0
_PIECE = 64 * 1024


class Builders:
    """The builders that run. The command `runner` reads on its stdin what to mount, then what to run, a line each."""

    def __init__(self, runner: Sequence[str]) -> None:
        self._runner = runner
        self._guard = threading.Lock()
        self._idle: subprocess.Popen[bytes] | None = self._started()
        self._mounting = b""
        self._running: list[subprocess.Popen[bytes]] = []
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._is_over = True
            running = [*self._running, *([self._idle] if self._idle else [])]
        _end(running)

    def _started(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self._runner, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)

    def mount(self, places: bytes) -> None:
        """Let the next builder mount these: most likely it is to run on them."""
        with self._guard:
            left = [] if self._is_over else self._told(places)
        _end(left)

    def _told(self, places: bytes) -> list[subprocess.Popen[bytes]]:
        """Tell the idle process what to mount; return that which was told otherwise."""
        left = []
        if self._idle and self._mounting not in (b"", places):
            left.append(self._idle)
            self._idle = None
        if not self._idle:
            self._idle, self._mounting = self._started(), b""
        if not self._mounting:
            _tell(self._idle, places)
            self._mounting = places
        return left

    def run(self, places: bytes, argv: bytes, say: Callable[[int, bytes], object]) -> int:
        """Run a builder to its end and return its code, as a shell does."""
        with self._guard:
            if self._is_over:
                return 128 + signal.SIGTERM
            left = self._told(places)
            assert self._idle is not None
            process, self._idle, self._mounting = self._idle, None, b""
            self._running.append(process)
            over = os.pidfd_open(process.pid)
        _end(left)
        _tell(process, argv)
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [
            threading.Thread(target=_pass_on, args=(stream.fileno(), over, fd, say), daemon=True)
            for fd, stream in ((1, process.stdout), (2, process.stderr))
        ]
        for reader in readers:
            reader.start()
        code = process.wait()
        for reader in readers:
            reader.join()
        os.close(over)
        with self._guard:
            self._running.remove(process)
        return 128 - code if code < 0 else code


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended, and its code says so
        process.stdin.write(line + b"\n")
        process.stdin.flush()


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for signo in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                if process.poll() is None:
                    os.killpg(process.pid, signo)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_FINISH_S)


def _pass_on(source: int, over: int, fd: int, say: Callable[[int, bytes], object]) -> None:
    """Pass on what comes from `source`, to its end; once `over` can be read, only what comes soon."""
    until = None
    with contextlib.suppress(OSError, ValueError):
        while True:
            if over in select.select([source, over], [], [])[0]:
                until = until or time.monotonic() + _FINISH_S
                if time.monotonic() > until or not select.select([source], [], [], _SILENT_S)[0]:
                    return
            if not (data := os.read(source, _PIECE)):
                return
            say(fd, data)
