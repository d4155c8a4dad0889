"""The holder of a mount: keeps its device while a server dies, and starts the next one.

Invariant: as long as this process lives, the kernel's requests wait for an answer instead of failing; it ends only when
the mount has ended, when it was asked to end it, or with the reason in the log when no server can go on. Then nobody
holds the device, and readers get ENOTCONN. A mount that failed is never taken away here: its place would look empty.

A program by its path, not part of the package: it imports nothing of ours, which keeps it small, and lets the package
be replaced under it. It starts the first server first of all, before it imports what it needs itself, and is told what
that is to serve; it ends it when it is told nothing. Until then that one's stdout is our stderr, and its stderr is
kept, for the log that it will be told. What a server is told on its stdin or asks ahead, and leaves for the next, is
handed on unread. The server speaks to it over a socket: once the device and what the next is told, or that it serves
without a device to hold, or what is wrong.
Not here: serving (`server`), starting (`process`). How they work together: docs/mount.md, "When the server dies".
"""

from __future__ import annotations

import _socket
import os
import sys

__all__ = ["ALONE", "GAVE_UP", "READY"]

READY = b"ready"
"""Whoever waits at the pipe is told this when the device has come, else what the server had to say."""
ALONE = b"alone"
"""...and this by the server, which has no device, when the mount is made and needs nobody."""
GAVE_UP = 4
"""A server ends so when the next one would fare no better; the holder, when it gives the mount up."""

# A server that lived for less died early. So many in a row, and the next one would as well.
_EARLY_S = 10.0
_MOST = 20
# After each early death a longer pause, so that a server that cannot live costs little.
_PAUSE_S = 0.05
_MOST_BYTES = 1 << 20
# An arena for each thread that decompresses would keep what all of them had at most, and so do those there are, unless
# what a request brings is given back by itself.
_MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}


def _spawn(what: str, told: int, numbers: tuple[int, int, int, int], *streams: tuple[int, int, int]) -> int:
    """Start a server; `numbers` are its end of our socket, device, lifeline, and what it asks ahead, -1 for none."""
    for inherited in numbers:
        if inherited >= 0:
            os.set_inheritable(inherited, True)
    try:
        return os.posix_spawn(
            sys.executable,
            # Not what lies about where we are: that may be a tree that is not ours.
            [sys.executable, "-P", "-m", "sapwood.mount", what, *map(str, numbers)],
            {**_MEMORY, **os.environ},
            file_actions=[(os.POSIX_SPAWN_DUP2, told, 0), *streams],
        )
    finally:
        os.close(told)


class _First:
    """The first server, which starts up while we do; `numbers` are what we were given, -1 for what we were not."""

    def __init__(self, messages: int, lifeline: int = -1, ahead: int = -1) -> None:
        self.messages, self.lifeline = messages, lifeline
        self.ours, self.theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        # That it cannot even start is for the log, as all that it says.
        self.said = os.memfd_create("said")
        for inherited in (messages, lifeline):
            if inherited >= 0:
                os.set_inheritable(inherited, False)
        told, self.telling = os.pipe()
        streams = (os.POSIX_SPAWN_DUP2, 2, 1), (os.POSIX_SPAWN_DUP2, self.said, 2)
        self.error: OSError | None = None
        try:
            self.pid = _spawn("serve", told, (self.theirs.fileno(), -1, lifeline, ahead), *streams)
        except OSError as error:
            self.error = error
        if ahead >= 0:
            os.close(ahead)


_first = _First(*map(int, sys.argv[1:])) if __name__ == "__main__" else None

import contextlib  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402


class _Holder:
    def __init__(self, first: _First) -> None:
        self._begun = first
        self._messages: int | None = first.messages
        self._lifeline = None if first.lifeline < 0 else first.lifeline
        self._call = b""
        self._said: int | None = first.said
        self._device: int | None = None
        self._socket, self._theirs = socket.socket(fileno=first.ours.detach()), first.theirs
        self._socket.setblocking(False)
        self._woken, waker = os.pipe()
        for end in (self._woken, waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._asked = False
        for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signo, self._ask)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def hold(self) -> int:
        """Return 0 when the mount has ended, `GAVE_UP`, or minus the signal that killed the first server."""
        deaths = 0
        start = self._first
        while True:
            begun = time.monotonic()
            try:
                code = self._life(start())
            except OSError as error:
                # The interpreter may be on its way to be replaced.
                _say(f"{sys.executable}: {error.strerror}")
                code = 127
            start = self._next
            self._repeat()
            self._hear()
            if code == 0:
                return 0
            how = f"signal {-code}" if code < 0 else f"code {code}"
            if self._device is None:
                if self._messages is None:  # it was ready, and had none to give
                    _say(f"the server ended with {how}; libfuse lets nobody take over: unmount it, and mount it again")
                return code
            if self._asked:
                return self._unmount()
            if code == GAVE_UP:
                _say("the mount is given up; its readers get ENOTCONN until it is unmounted")
                return GAVE_UP
            deaths = deaths + 1 if time.monotonic() - begun < _EARLY_S else 1
            if deaths == _MOST:
                _say(f"{_MOST} servers died early, the last with {how}: the mount is given up; unmount it")
                return GAVE_UP
            _say(f"the server ended with {how}; another one takes over")
            self._wait(_PAUSE_S * (deaths - 1))
            if self._asked:
                return self._unmount()
            if self._has_ended():
                return 0

    def _first(self) -> int:
        """Pass on what we are told to the server that was started, as soon as we are, while it starts up."""
        if self._begun.error is not None:
            raise self._begun.error
        log, _, call = sys.stdin.buffer.read().partition(b"\0")
        if log:
            _speak_to(log)
        with contextlib.suppress(BrokenPipeError), open(self._begun.telling, "wb") as pipe:
            pipe.write(call)
        return self._begun.pid

    def _next(self, what: str = "serve") -> int:
        told = os.memfd_create("call")
        os.write(told, self._call)
        os.lseek(told, 0, os.SEEK_SET)
        device, lifeline = (-1 if number is None else number for number in (self._device, self._lifeline))
        return _spawn(what, told, (self._theirs.fileno(), device, lifeline, -1))

    def _repeat(self) -> None:
        """Say what the first server, which has ended, said when it did not know where to."""
        if self._said is not None:
            with contextlib.suppress(OSError):  # the log may lie on a full disk
                os.write(2, os.pread(self._said, _MOST_BYTES, 0))
            os.close(self._said)
            self._said = None

    def _life(self, server: int) -> int:
        """Wait until a server has ended; return its code, or minus the signal that ended it."""
        asked = False
        while True:
            if self._asked and not asked:
                asked = True
                os.kill(server, signal.SIGTERM)
            ended, status = os.waitpid(server, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            self._wait(None)

    def _wait(self, seconds: float | None) -> None:
        """Wait so long, or until something has happened."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        poll.register(self._socket, select.POLLIN)
        if self._lifeline is not None and not self._asked:
            poll.register(self._lifeline, select.POLLIN)
        for number, _ in poll.poll(None if seconds is None else seconds * 1000):
            if number == self._woken:
                os.read(self._woken, 4096)
            elif number == self._lifeline:
                self._asked = True
            else:
                self._hear()

    def _hear(self) -> None:
        """Take what a server says, if it has said anything."""
        try:
            said, devices, _, _ = socket.recv_fds(self._socket, _MOST_BYTES, 1)
        except BlockingIOError:
            return
        if devices:
            self._call, self._device = said, devices[0]
        if self._messages is None:
            return
        try:
            os.write(self._messages, READY if devices else said)
        except BrokenPipeError:
            # Whoever started us was stopped meanwhile, and knows of no mount.
            self._asked = True
        os.close(self._messages)
        self._messages = None

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _has_ended(self) -> bool:
        assert self._device is not None
        poll = select.poll()
        poll.register(self._device, 0)
        return bool(poll.poll(0))

    def _unmount(self) -> int:
        if self._has_ended():  # and what is there by now is another mount
            return 0
        os.waitpid(self._next("unmount"), 0)
        return 0


def _say(what: str) -> None:
    with contextlib.suppress(OSError):  # the log may lie on a full disk
        os.write(2, f"sapwood: {what}\n".encode())


def _speak_to(log: bytes) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)


def main(first: _First) -> int:
    """Hold one mount; arguments are what `begun.begin` gave, stdin the path of the log and what is to be served."""
    code = _Holder(first).hold()
    if code < 0:
        # As the server did, for whoever waits for us.
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if _first is not None:
    sys.exit(main(_first))
