"""How much of a mounted tree is here; what a background fetch gave up is fetched again.

Invariant: it looks at the disk for a fiftieth of the time at most, and not at all while nothing arrives or goes. A tree
that the cache cannot hold is not fetched twice. Not here: what comes first (core).
"""

from __future__ import annotations

import threading
import time

from sapwood._core.mount import Server

__all__ = ["Completing"]

_TICK_S = 0.5
_SHARE = 50
# Between two tries to bring what did not come, longer each time that brings nothing.
_AGAIN_S, _LONGEST_S = 5.0, 300.0


class Completing:
    """Watches one mount; with `fetch` all of it is to come."""

    def __init__(self, server: Server, *, fetch: bool) -> None:
        self._server = server
        self.fetches = fetch
        """Whether all of it is to come."""
        self.lacking: int | None = None
        """Bytes of the tree that are not in the cache, when it was last looked at; None while that is not known."""
        # What was seen when it was last looked at.
        self._seen: object = None
        self._shrunk = 0
        self._failed = 0
        self._pause_s = _AGAIN_S

    def start(self) -> None:
        """Watch until the mount is gone."""
        threading.Thread(target=self._watch, daemon=True).start()

    def shrunk(self) -> None:
        """Objects have gone from the cache, which has no room for them: to fetch them again would be in vain."""
        self._shrunk += 1
        self.fetches = False

    def _watch(self) -> None:
        next_look = next_fetch = 0.0
        while not self._server.closed:
            time.sleep(_TICK_S)
            now, stats = time.monotonic(), self._server.stats()
            seen = (stats["frames_fetched"], self._shrunk)
            if seen != self._seen and now >= next_look:
                next_look = self._look(seen, now)
            left = stats["frames_failed"] > self._failed and not stats["frames_expected"] and self.lacking != 0
            if self.fetches and left and now >= next_fetch:
                self._failed = stats["frames_failed"]
                next_fetch = now + self._pause_s
                self._pause_s = min(2 * self._pause_s, _LONGEST_S)
                self._server.prefetch(True)

    def _look(self, seen: object, now: float) -> float:
        """Look what is lacking; return when to look again at the earliest."""
        lacking = self._server.lacking()
        self.lacking = None if lacking is None else lacking[1]
        if self._seen is not None:  # something has come
            self._pause_s = _AGAIN_S
        self._seen = seen
        return now + _SHARE * (time.monotonic() - now)
