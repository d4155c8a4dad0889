"""How much of a mounted tree is here; what a background fetch gave up, or the cache has lost since, is fetched again.

Invariant: it looks at the tree for a fiftieth of the time at most, and at what is complete only when something has come
or gone, by whomever. A tree that the cache cannot hold is not fetched twice. Not here: what comes first (core).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from sapwood._core.mount import Server
from sapwood.mount.saying import Complaints

__all__ = ["Completing"]

_TICK_S = 0.5
_SHARE = 50
# Between two tries to bring what did not come, longer each time that brings nothing.
_AGAIN_S, _LONGEST_S = 5.0, 300.0
# So often what had come, and went again, is fetched: others may need the cache, too.
_REFILLS = 3
# Others fill this cache and empty it: after so long it is looked at what they did, while something lacks sooner.
_SOON_S, _LATEST_S = 0.5, 5.0


class Completing:
    """Watches one mount; with `fetch` all of it is to come."""

    def __init__(self, server: Server, cache_dir: Path, *, fetch: bool) -> None:
        self._server = server
        self._cache_dir = cache_dir
        self.fetches = fetch
        """Whether all of it is to come."""
        self.lacking: int | None = None
        """Bytes of the tree that are not in the cache, when it was last looked at; None while that is not known."""
        # What was seen when it was last looked at.
        self._fetched = -1
        self._touched = 0
        # So many frames had come when the memory that they took was given back.
        self._given_back = 0
        self._shrunk = self._shrunk_then = 0
        self._failed = 0
        self._refills = 0
        self._pause_s = _AGAIN_S
        self._wait_s = _SOON_S
        # When it may be looked, must be, though nothing has come, and may be fetched.
        self._next_look = self._look_anew = self._next_fetch = 0.0

    def start(self) -> None:
        """Watch until the mount is gone."""
        threading.Thread(target=self._watch, daemon=True).start()

    def shrunk(self, *, fits: bool) -> None:
        """Objects have gone from the cache: unless it `fits` all of the tree, to fetch them again would be in vain."""
        self._shrunk += 1
        self.fetches = self.fetches and fits

    def _watch(self) -> None:
        complaints = Complaints()
        while not self._server.closed:
            time.sleep(_TICK_S)
            with complaints.heard():
                self._tick()

    def _tick(self) -> None:
        now, stats = time.monotonic(), self._server.stats()
        idle = not stats["frames_expected"] and not self._server.is_prefetching
        fresh = (stats["frames_fetched"], self._shrunk) == (self._fetched, self._shrunk_then)
        if not fresh:
            self._wait_s = _SOON_S
        if now >= self._next_look and (not fresh or now >= self._look_anew):
            touched = self._last_touched()
            if not fresh or self.lacking != 0 or touched != self._touched:
                self._look(stats["frames_fetched"], touched)
            self._next_look = now + _SHARE * (time.monotonic() - now)
            self._look_anew = now + (self._wait_s if self.lacking != 0 else _LATEST_S)
            self._wait_s = min(2 * self._wait_s, _LATEST_S)
        if self.lacking == 0 and idle and stats["frames_fetched"] != self._given_back:
            self._given_back = stats["frames_fetched"]
            self._server.give_back()
        given_up = stats["frames_failed"] > self._failed or (fresh and self.lacking)
        if self.fetches and idle and given_up and now >= self._next_fetch:
            self._next_fetch = now + self._pause_s
            self._fetch_again(stats["frames_failed"])

    def _fetch_again(self, failed: int) -> None:
        if self.lacking == 0:
            return
        if failed == self._failed:
            self._refills += 1
            if self._refills > _REFILLS:
                self.fetches = False
                return
        self._failed = failed
        self._pause_s = min(2 * self._pause_s, _LONGEST_S)
        self._server.prefetch(True)

    def _look(self, fetched: int, touched: int) -> None:
        if 0 <= self._fetched < fetched:  # something has come
            self._pause_s = _AGAIN_S
        shrunk, lacking = self._shrunk, self._server.lacking()
        self._fetched, self._touched, self._shrunk_then = fetched, touched, shrunk
        self.lacking = None if lacking is None else lacking[1]
        self._server.read_far(self.lacking == 0)

    def _last_touched(self) -> int:
        """Return something that changes when an object comes to the cache, or goes."""
        touched = 0
        with contextlib.suppress(OSError):
            for directory in (self._cache_dir / "partial", *(self._cache_dir / "objects").iterdir()):
                with contextlib.suppress(OSError):
                    touched += os.stat(directory).st_mtime_ns
        return touched
