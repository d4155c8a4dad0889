"""How much may be in flight: what the link carries in a round trip, measured, and a little more.

Invariant: what nobody waits for keeps the link full, and no fuller: whoever asks meanwhile waits for little that was
asked for before. Not here: the order of what is wanted (core), requests (`fetching`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from sapwood.store import attempts

__all__ = ["BEGIN_BYTES", "Asked", "Pace"]

BEGIN_BYTES = 640 << 10
"""In flight until something is known of the link."""

# Times what the link carries in a round trip: while one request ends and the next begins others fill the gap. Less lets
# the link run empty where requests end together, more is only a longer queue before who asks next. A quarter is free
# until the next request begins.
_GAIN = 3.3
# A request brings so much at least: little enough for who comes meanwhile, and enough to be worth its own cost.
_LEAST_BATCH, _MOST_BATCH = 128 << 10, 2 << 20
_MOST_BYTES = 64 << 20
# The rate is that of the best of so many spans of such a length: in most of them somebody did not keep up.
_SPAN_S = 0.25
_SPANS = 20
# The shortest request is forgotten after so long, for the way may be a longer one by now. What is measured on a full
# link is its queue, not its length; so little is in flight until a request has shared it with so much at most.
_RTT_S = 10.0
_ALONE = _LEAST_BATCH
# A request is silent after several times what it should take; after so long at least, and while nothing is known.
_PATIENCE = 4.0
_LEAST_SILENCE_S, _FIRST_SILENCE_S = 2.0, 5.0


@dataclass
class Asked:
    """A request under way."""

    begun: float
    bytes: int
    before: int
    """Bytes that were asked for before it and had not come, less those that ever were asked for."""
    counts: bool = True
    """It says something of the link."""


class Pace:
    """The rate of a link and its round trip, from requests that ended; safe to use from several threads.

    `gain` is how many round trips' worth may be in flight; `span_s` how long the spans are of which the best tells the
    rate: longer where answers come in bursts.
    """

    def __init__(self, *, gain: float = _GAIN, span_s: float = _SPAN_S) -> None:
        self._gain = gain
        self._span_s = span_s
        self._guard = threading.Lock()
        self._rates: deque[float] = deque(maxlen=_SPANS)
        self._rtt_s: float | None = None
        # When that was measured.
        self._rtt_at = 0.0
        self._is_known = False
        self._under_way = 0
        # Bytes asked for that have not come, and ever.
        self._asked = self._ever = 0
        self._since = 0.0
        # Of the span that is measured now: what came, and seconds in which something was asked for.
        self._bytes = 0
        self._spent_s = 0.0

    @property
    def rate(self) -> float:
        """Bytes a second that the link carries, as far as it was tried; 0 when nothing is known yet."""
        return max(self._rates, default=0.0)

    @property
    def in_flight(self) -> int:
        """Bytes that may be in flight while somebody could still be waiting for others."""
        rtt_s = self._rtt_s
        if rtt_s is None or not self._rates:
            return _ALONE if self._is_known else BEGIN_BYTES
        return min(_MOST_BYTES, round(self._gain * self.rate * rtt_s) + 2 * _LEAST_BATCH)

    @property
    def batch(self) -> int:
        """Bytes to ask for by one request."""
        return max(_LEAST_BATCH, min(_MOST_BATCH, self.in_flight // 4))

    @property
    def silence_s(self) -> float:
        """After how many seconds without a word a request is silent: far more than all that is on its way takes."""
        rtt_s, rate = self._rtt_s, self.rate
        if rtt_s is None or not rate:
            return _FIRST_SILENCE_S
        return min(attempts.QUIET_S, max(_LEAST_SILENCE_S, _PATIENCE * (rtt_s + self._asked / rate)))

    def begin(self, asked: int) -> Asked:
        """A request for so many bytes begins."""
        now = time.monotonic()
        with self._guard:
            if not self._under_way:
                # Time in which nothing was asked for says nothing of the link.
                self._since = now
            if self._rtt_s is not None and now > self._rtt_at + _RTT_S:
                self._rtt_s, self._is_known = None, True
            request = Asked(now, asked, self._asked - self._ever)
            self._under_way += 1
            self._asked += asked
            self._ever += asked
        return request

    def end(self, request: Asked, count: int) -> None:
        """A request has brought so many bytes, none if it failed; of one that was dropped this says nothing."""
        now = time.monotonic()
        with self._guard:
            if not self._leave(request):
                return
            self._bytes += count
            self._spent_s += now - self._since
            self._since = now
            if self._spent_s >= self._span_s:
                self._rates.append(self._bytes / self._spent_s)
                self._bytes, self._spent_s = 0, 0.0
            if count:
                others = request.before + self._ever - request.bytes
                self._measure(now, now - request.begun, is_alone=others <= _ALONE)

    def drop(self, request: Asked) -> None:
        """A request is silent: it says nothing of the link, nor does the time in which it was waited for."""
        with self._guard:
            if self._leave(request):
                self._since = time.monotonic()
                self._bytes, self._spent_s = 0, 0.0

    def _leave(self, request: Asked) -> bool:
        if not request.counts:
            return False
        request.counts = False
        self._under_way -= 1
        self._asked -= request.bytes
        return True

    def _measure(self, now: float, took_s: float, *, is_alone: bool) -> None:
        # The shortest was that of few bytes, on a connection that was there, when nothing stood before them.
        if self._rtt_s is not None and took_s > self._rtt_s:
            return
        if self._rtt_s is not None or is_alone or not self._is_known:
            self._rtt_s, self._rtt_at = took_s, now
