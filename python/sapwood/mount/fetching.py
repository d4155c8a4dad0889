"""Bringing what a mount wants: taken most urgent first, asked of the store, tried again while that is away.

Invariant: a frame that was taken is delivered or failed, so nobody waits for ever, and what nothing is heard of costs
no other a fetcher (docs/mount.md, "What does not answer"). What could not be brought is wanted anew by whoever asks
next. Not here: one request and its attempts (`store`), the order of what is wanted (core).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

from sapwood._core.filemap import Frame
from sapwood._core.mount import Server
from sapwood.digests import PackName
from sapwood.errors import DeniedError, SapwoodError, UnavailableError
from sapwood.fetch import read_frames
from sapwood.mount.origin import Origin
from sapwood.mount.pace import Asked, Pace
from sapwood.mount.saying import say
from sapwood.store import attempts
from sapwood.store.archive import Archive
from sapwood.store.keys import pack_key

__all__ = ["DEADLINE_S", "OF_A_PACK", "Fetching"]

DEADLINE_S = 60.0
"""How long a read waits for a store that brings nothing, unless something else is said."""

# The least urgent class that each fetcher takes: some, and their connections, are free for what somebody waits for.
_FETCHERS = ("demand",) * 3 + ("profile",) * 6 + ("background",) * 5
# Of those that take the background: who reads, and what proves what is read, comes first (decision 0036).
_NICE = 15
OF_A_PACK = (8, 5)
"""How many fetchers one pack may have, and while how many it gets another one for what nobody waits for."""

# A request brings at most so many frames.
_FRAMES = 256
_TICK_S = 0.5
# Between tries, the store's own behind it.
_PAUSE_S = 1.0
# How often it is looked whether a request is silent.
_LOOK_S = 0.25
# So many fetchers may be replaced at a time: three packs' worth. Each costs a thread that waits.
_MOST_REPLACED = 3 * OF_A_PACK[0]
# Connections that are there are given up at most so often.
_RECONNECT_S = 10.0


class _Request:
    """Frames that are asked for together, by a fetcher, and perhaps once more; whoever has them first delivers them."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self.left = set(frames)
        self.begun = time.monotonic()
        self.asked: Asked | None = None
        # When its fetcher's attempt began, or the next one will; None while it waits for no answer.
        self.heard: float | None = None
        # Another fetcher took its fetcher's place.
        self.is_replaced = False
        self.was_asked_again = False
        self._owner: int | None = None
        self._guard = threading.Lock()

    def own(self) -> bool:
        """Say whether this thread is the one that delivers or fails the frames."""
        with self._guard:
            self._owner = self._owner or threading.get_ident()
            return self._owner == threading.get_ident()

    def is_silent(self, silence_s: float) -> bool:
        """Say whether nothing was heard of it for so long."""
        heard = self.heard
        return heard is not None and time.monotonic() - heard > silence_s

    def pause(self, seconds: float) -> None:
        """An attempt has failed, and the next one begins in so long."""
        self.heard = time.monotonic() + seconds


class Fetching:
    """The fetchers of one mount; `lost` hears why reads end in EIO, before they do where that is certain."""

    def __init__(self, origin: Origin, server: Server, deadline_s: float, lost: Callable[[str], object]) -> None:
        self._lost = lost
        self._origin = origin
        self._server = server
        self._deadline_s = deadline_s
        # Frames that arrived damaged, last time.
        self._damaged = set[Frame]()
        self._arrived = time.monotonic()
        self._pace = Pace()
        self._guard = threading.Lock()
        # With the least urgent class that their fetchers take.
        self._under_way = dict[_Request, str]()
        self._reconnected = 0.0
        self._ended: Callable[[], None] = lambda: None
        self.problem = ""
        """What is wrong with the store now, one line; empty when it has brought something since."""

    def start(self, ended: Callable[[], None]) -> None:
        """Fetch until the mount is gone; then call `ended`, at once and maybe more than once."""
        self._ended = ended
        for lowest in _FETCHERS:
            _begin(self._fetch, lowest)
        _begin(self._watch)

    def expire(self) -> None:
        """Give who has waited for longer than the deadline EIO, if nothing came of it, or of anything, for as long."""
        is_away = time.monotonic() - self._arrived >= self._deadline_s
        why = f"nothing{'' if is_away else ' of it'} came within {self._deadline_s:g} s"
        why += f": {self.problem}" if self.problem else ""
        if number := self._server.expire(self._deadline_s, is_away, why):
            self.problem = self.problem or why
            self._lost(why)
            say(f"{self._origin.url}: {why}; reads that failed for it: {number}")

    def _fetch(self, lowest: str) -> None:
        if lowest == "background":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while not self._server.closed:
            if not (frames := self._server.take(_FRAMES, self._pace.batch, lowest, _TICK_S)):
                continue
            request = _Request(frames)
            with self._guard:
                self._under_way[request] = lowest
            try:
                self._bring(request)
            finally:
                with self._guard:
                    del self._under_way[request]
            if request.is_replaced:
                return
        self._ended()

    def _bring(self, request: _Request) -> None:
        while request.left:
            try:
                found = self._ask(request)
                if not request.own():
                    return
                self._deliver(request, found)
            except BaseException as error:  # noqa: BLE001 - no bug of ours, nor of the core, may leave readers waiting
                self._note(request, error)
                late = time.monotonic() + _PAUSE_S > request.begun + self._deadline_s
                if self._server.closed or late or not _may_pass(error):
                    self._fail(request, error)
                    return
                time.sleep(_PAUSE_S)

    def _bring_again(self, request: _Request) -> None:
        """Ask once more for what somebody waits for, and nothing is heard of."""
        try:
            found = list(read_frames(self._origin, request.frames))
        except BaseException as error:  # noqa: BLE001 - it goes on as if this had not been tried
            self._note(request, error)
            return
        if request.own():
            try:
                self._deliver(request, found)
            except BaseException as error:  # noqa: BLE001 - as of the first
                self._fail(request, error)

    def _ask(self, request: _Request) -> list[tuple[Frame, bytes]]:
        frames, count = sorted(request.left), 0
        asked = self._pace.begin(sum(frame.length for frame in frames))
        request.asked, request.heard = asked, asked.begun
        try:
            with attempts.telling(request.pause):
                found = list(read_frames(self._origin, frames))
            count = sum(len(stored) for _, stored in found)
        finally:
            request.heard = None
            self._pace.end(asked, count)
        return found

    def _deliver(self, request: _Request, found: list[tuple[Frame, bytes]]) -> None:
        """Hand frames over, and take from `left` what is done with."""
        # The link is free for others while these are proved and kept.
        self._server.landed([frame for frame, _ in found], self._pace.in_flight)
        for frame, stored in found:
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
                if self._server.stats()["errors"]:
                    self._lost(self.problem)
                self._say(frame, error)
            request.left.discard(frame)

    def _fail(self, request: _Request, error: BaseException) -> None:
        if request.own():
            # What may pass goes on for who has come to it lately.
            patience_s = self._deadline_s if _may_pass(error) and not self._server.closed else 0.0
            if self._server.are_demanded(list(request.left)):
                self._lost(str(error))
            for frame in request.left:
                self._server.fail(frame, str(error), patience_s)

    def _watch(self) -> None:
        """Let no request that nothing is heard of cost others a fetcher, or who waits for it all of the deadline."""
        while not self._server.closed:
            time.sleep(_LOOK_S)
            silence_s = self._pace.silence_s
            with self._guard:
                silent = [request for request in self._under_way if request.is_silent(silence_s)]
            for request in silent:
                with contextlib.suppress(RuntimeError):  # no other thread may begin now
                    self._replace(request)
                    self._hedge(request)

    def _replace(self, request: _Request) -> None:
        with self._guard:
            replaced = sum(other.is_replaced for other in self._under_way)
            if request.is_replaced or request not in self._under_way or replaced >= _MOST_REPLACED:
                return
            _begin(self._fetch, self._under_way[request])
            request.is_replaced = True
        self._server.silent(request.frames)
        if request.asked is not None:
            self._pace.drop(request.asked)

    def _hedge(self, request: _Request) -> None:
        if request.was_asked_again or not self._server.are_demanded(request.frames):
            return
        if time.monotonic() - self._reconnected > _RECONNECT_S:
            # Connections that nobody uses now may be as dead as that of this request.
            self._reconnected = time.monotonic()
            self._origin.reconnect()
        _begin(self._bring_again, request)
        request.was_asked_again = True

    def _note(self, request: _Request, error: BaseException) -> None:
        if self.problem != (problem := str(error)):
            self.problem = problem
            self._say(request.frames[0], error)

    def _say(self, frame: Frame, error: BaseException) -> None:
        origin = self._origin
        pack = PackName(frame.pack)
        where = origin.where(pack) if isinstance(origin, Archive) else f"{origin.url}: {pack_key(pack)}"
        say(f"{where} at {frame.offset}: {error}")


def _begin(work: Callable[..., None], *arguments: object) -> None:
    # A daemon: a request that is under way when the mount ends is nobody's business any more.
    threading.Thread(target=work, args=arguments, daemon=True).start()


def _may_pass(error: BaseException) -> bool:
    # Who was let in when it was mounted has credentials that ran out, and others on the way.
    return isinstance(error, DeniedError) or (isinstance(error, UnavailableError) and getattr(error, "may_pass", True))
