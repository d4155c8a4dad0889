"""How much may be in flight: what the link carries in a round trip, measured, and a little more.

Invariant: what nobody waits for keeps the link full, and no fuller: whoever asks meanwhile waits for little that was
asked for before. Not here: the order of what is wanted (core), requests (`fetching`).
"""

from __future__ import annotations

import threading
import time
from collections import deque

__all__ = ["BEGIN_BYTES", "Pace"]

BEGIN_BYTES = 384 << 10
"""In flight until something is known of the link."""

# Times what the link carries in a round trip: while one request ends and the next begins others fill the gap. Measured
# with a profile, which is all of use: 7.0 s at 1.5, 6.5 s at 3; without one the same at both, and more waste at 6.
_GAIN = 2.5
# A request brings so much at least: little enough for who comes meanwhile, and enough to be worth its own cost.
_LEAST_BATCH, _MOST_BATCH = 128 << 10, 2 << 20
_MOST_BYTES = 64 << 20
# The rate is that of the best of so many spans of such a length: in most of them somebody did not keep up.
_SPAN_S = 0.25
_SPANS = 20


class Pace:
    """The rate of a link and its round trip, from requests that ended; safe to use from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._rates: deque[float] = deque(maxlen=_SPANS)
        self._rtt_s: float | None = None
        self._under_way = 0
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
        if not self._rates or self._rtt_s is None:
            return BEGIN_BYTES
        return min(_MOST_BYTES, round(_GAIN * self.rate * self._rtt_s) + 2 * _LEAST_BATCH)

    @property
    def batch(self) -> int:
        """Bytes to ask for by one request."""
        return max(_LEAST_BATCH, min(_MOST_BATCH, self.in_flight // 4))

    def begin(self) -> float:
        """A request begins; return when."""
        now = time.monotonic()
        with self._guard:
            if not self._under_way:
                # Time in which nothing was asked for says nothing of the link.
                self._since = now
            self._under_way += 1
        return now

    def end(self, begun: float, count: int) -> None:
        """A request that began then has brought so many bytes, none if it failed."""
        now = time.monotonic()
        with self._guard:
            self._under_way -= 1
            self._bytes += count
            self._spent_s += now - self._since
            self._since = now
            if self._spent_s >= _SPAN_S:
                self._rates.append(self._bytes / self._spent_s)
                self._bytes, self._spent_s = 0, 0.0
            if count:
                # The shortest was that of few bytes, on a connection that was there, when nothing stood before them.
                self._rtt_s = min(self._rtt_s or now - begun, now - begun)
