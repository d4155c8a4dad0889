"""Signals that end a command: by way of every `finally`, or not any more."""

from __future__ import annotations

import signal
import sys

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from typing import NoReturn

_POLITE = (signal.SIGHUP, signal.SIGTERM)


def leave_by_finally() -> None:
    """Let polite signals end this process with the code that they would have ended it with, but as Ctrl-C does it.

    Those that are ignored, as with `nohup`, stay so.
    """
    for signo in _POLITE:
        if signal.getsignal(signo) != signal.SIG_IGN:
            signal.signal(signo, _leave)


def stay() -> None:
    """From here on no signal that asks us to end does; one that came before has its way first."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *_POLITE})


def _leave(signo: int, _: object) -> NoReturn:
    sys.exit(128 + signo)
