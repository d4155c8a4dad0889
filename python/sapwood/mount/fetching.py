"""Bringing what a mount wants: taken most urgent first, asked of the store, tried again while that is away.

Invariant: a frame that was taken is delivered or failed, so nobody waits for ever: not for longer than the deadline
while nothing arrives. What could not be brought is wanted anew by whoever asks next. Not here: one request and its
attempts (`store`), the order of what is wanted (core).
"""

from __future__ import annotations

import threading
import time

from sapwood._core.filemap import Frame
from sapwood._core.mount import Server
from sapwood.digests import PackName
from sapwood.errors import DeniedError, SapwoodError, UnavailableError
from sapwood.fetch import read_frames
from sapwood.mount.origin import Origin
from sapwood.mount.pace import Pace
from sapwood.mount.saying import say
from sapwood.store.archive import Archive
from sapwood.store.keys import pack_key

__all__ = ["DEADLINE_S", "Fetching"]

DEADLINE_S = 60.0
"""How long a read waits for a store that brings nothing, unless something else is said."""

# The least urgent class that each fetcher takes: some, and their connections, are free for what somebody waits for.
_FETCHERS = ("demand",) * 3 + ("background",) * 8
# A request brings at most so many frames.
_FRAMES = 64
_TICK_S = 0.5
# Between tries, the store's own behind it.
_PAUSE_S = 1.0


class Fetching:
    """The fetchers of one mount."""

    def __init__(self, origin: Origin, server: Server, deadline_s: float) -> None:
        self._origin = origin
        self._server = server
        self._deadline_s = deadline_s
        # Frames that arrived damaged, last time.
        self._damaged = set[Frame]()
        self._arrived = time.monotonic()
        self._pace = Pace()
        self.problem = ""
        """What is wrong with the store now, one line; empty when it has brought something since."""

    def start(self) -> None:
        """Fetch until the mount is gone."""
        for lowest in _FETCHERS:
            # Daemons: a request that is under way when the mount ends is nobody's business any more.
            threading.Thread(target=self._fetch, args=(lowest,), daemon=True).start()

    def expire(self) -> None:
        """Give who has waited for longer than the deadline EIO, when nothing has arrived for as long."""
        if time.monotonic() - self._arrived < self._deadline_s:
            return
        why = f"nothing came within {self._deadline_s:g} s" + (f": {self.problem}" if self.problem else "")
        if number := self._server.expire(self._deadline_s, why):
            say(f"{self._origin.url}: {why}; reads that failed for it: {number}")

    def _fetch(self, lowest: str) -> None:
        while not self._server.closed:
            if frames := self._server.take(_FRAMES, self._pace.batch, lowest, _TICK_S):
                self._bring(frames)

    def _bring(self, frames: list[Frame]) -> None:
        left, begun = set(frames), time.monotonic()
        while left:
            try:
                self._read(left)
            except BaseException as error:  # noqa: BLE001 - no bug of ours, nor of the core, may leave readers waiting
                if self.problem != (problem := str(error)):
                    self.problem = problem
                    self._say(min(left), error)
                late = time.monotonic() + _PAUSE_S > begun + self._deadline_s
                if self._server.closed or late or not _may_pass(error):
                    for frame in left:
                        self._server.fail(frame, problem)
                    return
                time.sleep(_PAUSE_S)

    def _ask(self, frames: list[Frame]) -> list[tuple[Frame, bytes]]:
        begun, count = self._pace.begin(), 0
        try:
            found = list(read_frames(self._origin, frames))
            count = sum(len(stored) for _, stored in found)
        finally:
            self._pace.end(begun, count)
        # The link is free for others while these are proved and kept.
        self._server.landed(frames, self._pace.in_flight)
        return found

    def _read(self, left: set[Frame]) -> None:
        """Bring frames, and take from `left` what is done with."""
        for frame, stored in self._ask(sorted(left)):
            moved = None
            if frame in self._damaged:
                self._damaged.discard(frame)
                moved = self._origin.read_moved(PackName(frame.pack), frame.offset, frame.length, again=True)
            try:
                self._server.deliver(frame, stored if moved is None else moved)
                self._arrived, self.problem = time.monotonic(), ""
            except SapwoodError as error:
                # The core wants it once more if somebody waits for it, and then gives it up.
                self._damaged.add(frame)
                self.problem = str(error)
                self._say(frame, error)
            left.discard(frame)

    def _say(self, frame: Frame, error: BaseException) -> None:
        origin = self._origin
        where = origin.url if isinstance(origin, Archive) else f"{origin.url}: {pack_key(PackName(frame.pack))}"
        say(f"{where} at {frame.offset}: {error}")


def _may_pass(error: BaseException) -> bool:
    # Who was let in when it was mounted has credentials that ran out, and others on the way.
    return isinstance(error, DeniedError) or (isinstance(error, UnavailableError) and getattr(error, "may_pass", True))
