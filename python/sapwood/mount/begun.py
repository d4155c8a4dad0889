"""The processes of a mount, begun before it is known what they are to serve: they start up while that is found out.

Invariant: what was begun and is told nothing mounts nothing; it ends with the `with` block, and with the process that
began it, however that ends. It imports little, for it is the first thing that a command does that mounts.
Not here: what is told, and heard (`process`), holding (`holder`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["Begun", "begin"]

_HOLDER = os.path.join(os.path.dirname(__file__), "holder.py")


class Begun:
    """A holder: `messages` is the pipe in which it speaks, `lifeline` the writing end of one, or None."""

    __slots__ = ("is_idle", "lifeline", "messages", "process")

    def __init__(self, process: subprocess.Popen[bytes], messages: int, lifeline: int | None) -> None:
        self.process = process
        self.messages = open(messages, "rb")  # noqa: SIM115 - closed by `__exit__`
        self.lifeline = lifeline
        self.is_idle = True
        """It lives, and was told nothing yet."""

    def tell(self, log: str | None, call: str) -> None:
        """Say what is to be served, and where what is said goes, None for stderr. That one is dead will be heard."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
            self.is_idle = False
            pipe.write(os.fsencode(log or "") + b"\0" + call.encode())

    def __enter__(self) -> Self:
        """Nothing more."""
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Whoever was told nothing has nothing to lose."""
        self.messages.close()
        if not self.is_idle:
            return
        self.is_idle = False
        # The server is in the holder's session.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin
        self.process.stdin.close()
        if self.lifeline is not None:
            os.close(self.lifeline)


def begin(*, tied: bool, inherited: Sequence[int] = (), ahead: str | None = None) -> Begun:
    """Start the processes of a mount; they have the descriptors `inherited` as long as one of them lives.

    The server outlives this process, unless it is `tied` to it. `ahead` is an address that it will be told, of a store
    that may be asked for it now, or of an image.
    """
    messages, writing = os.pipe()
    theirs, lifeline = os.pipe() if tied else (-1, None)
    # Everybody can read a command line.
    said = -1 if ahead is None else os.memfd_create("ahead")
    if ahead is not None:
        os.write(said, os.fsencode(ahead))
    numbers = (writing, theirs, said)
    passed = [number for number in numbers if number >= 0]
    try:
        process = subprocess.Popen(
            # Without what a site adds, for it is to be small.
            [sys.executable, "-I", "-S", _HOLDER, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(*passed, *inherited),
            # A Ctrl-C in the terminal, or its end, is no business of the server's.
            start_new_session=True,
        )
    except BaseException:
        os.close(messages)
        if lifeline is not None:
            os.close(lifeline)
        raise
    finally:
        for descriptor in passed:
            os.close(descriptor)
    return Begun(process, messages, lifeline)
