"""A mount from the moment its server is made to its end.

Invariant: whatever goes wrong while it is served is said, and it is served on. What ends with its server is taken away
by it; what stays for another server, or has been taken away by somebody else, is left as it is. Not here: what is
mounted, and how (`server`).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading

from sapwood._core.mount import Server, unmount
from sapwood.errors import InvalidInputError, UnavailableError
from sapwood.mount import changes, table
from sapwood.mount.completing import Completing
from sapwood.mount.fetching import Fetching
from sapwood.mount.note import Note

__all__ = ["Serving", "Wish"]

_TICK_S = 0.5


class Wish:
    """Whether a signal has asked this process to end. That is only noted: a second one disturbs no cleaning up."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._signals: list[int] = []
        for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signo, self._hear)

    def __bool__(self) -> bool:
        return bool(self._signals)

    @property
    def signal(self) -> int | None:
        """The number of the first signal."""
        return self._signals[0] if self._signals else None

    def wait(self, seconds: float) -> bool:
        """Wait so long at most, or until it is asked or woken; say whether it has been asked."""
        self._woken.wait(seconds)
        return bool(self)

    def wake(self) -> None:
        """Let nobody wait any more: there is nothing left to be asked to end."""
        self._woken.set()

    def _hear(self, signo: int, _: object) -> None:
        self._signals.append(signo)
        self._woken.set()


class Serving:
    """What serves one mount. `taking_over` a mount that is there; `layered`, it is made by `establish`."""

    def __init__(
        self, server: Server, fetching: Fetching, note: Note, wish: Wish, *, taking_over: bool, layered: bool
    ) -> None:
        self._server = server
        self._fetching = fetching
        self._note = note
        self._wish = wish
        # What is there when layers could not be mounted is another mount.
        self._is_made = taking_over or not layered
        self.stays = taking_over
        """It is not taken away when this fails: for a successor, and when none can serve it, for its place would look
        empty."""

    def establish(self) -> None:
        """Make what has layers, fetching; errors as `Server.establish`."""
        self._fetching.start(self._wish.wake)
        self._server.establish()
        self._is_made = True

    def go_on(self, completing: Completing, cache_size: int | None, tree_bytes: int) -> None:
        """Serve until it has been unmounted, or is to end."""
        heard = self._note.complaints.heard
        while not (self._server.closed or self._wish.wait(_TICK_S)):
            # Whatever is wrong with the disk, what is here can be read.
            with heard():
                self._fetching.expire()
            if not self._server.closed:
                problem, lacking, whole = self._fetching.problem, completing.lacking, completing.fetches
                blocked_s = math.ceil(self._server.stats()["blocked_s"])
                self._note.hint(problem=problem, lacking=lacking, whole=whole, blocked_s=blocked_s)
            with heard():
                if self._server.tidy(cache_size):
                    bound = self._server.bound if cache_size is None else cache_size
                    completing.shrunk(fits=bound is not None and tree_bytes <= bound)

    def end(self) -> None:
        """Take the mount away unless it stays, and what is noted of one that is away."""
        # Lazily: who still uses it would get errors from a server that is gone all the same. When it is gone already,
        # what is there by now is another mount.
        ends = bool(self._wish) or not self.stays
        if self._is_made and ends and not self._server.closed:
            changes.note_users(self._note.place)
            with contextlib.suppress(InvalidInputError, UnavailableError):
                unmount(self._note.place, True)
        if self._server.closed or ends:
            table.forget(self._note.cache_dir, self._note.place, os.getpid())
