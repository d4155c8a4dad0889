"""How far long work has come.

A callback gets a `Progress` at most ten times a second, in the thread that waits for the work; raising in it cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["OnProgress", "Progress", "counter"]


class Progress(NamedTuple):
    """Totals are 0 while they are not known."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int


OnProgress = Callable[[Progress], None]


def counter(on_progress: OnProgress | None) -> Callable[[int, int, int, int], None] | None:
    """Return the callback in the form the core calls."""
    if on_progress is None:
        return None
    return lambda *numbers: on_progress(Progress(*numbers))
