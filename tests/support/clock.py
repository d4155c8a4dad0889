"""Waiting for the clock that stamps files."""

from __future__ import annotations

import os
import time

GRAIN_NS = 20_000_000
"""What was changed within this time before it was looked at is racy: docs/format.md, "Index"."""


def settle() -> None:
    """Return when nothing that was changed before the call is racy any more, as far as its times are true."""
    # What is waited for is the clock itself, so there is nothing else to look at.
    until = time.time_ns() + GRAIN_NS + 1_000_000
    while time.time_ns() < until:
        os.sched_yield()
