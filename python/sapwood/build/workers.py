"""Whether anybody works at what a build has asked for: nothing that an execution server tells of says that nobody will.

Promise: who waits for a worker for half a minute, while none has anything of this build, is told so, once. Not here:
asking (`engine`), showing it (`sapwood.cli`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sapwood.build.listener import Stage

__all__ = ["Workers"]

PATIENCE_S = 30.0


class Workers:
    """The workers of the server at `url`; `say` hears when there seem to be none."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self._url = url
        self._say = say
        self._lock = threading.Lock()
        self._at: dict[str, Stage] = {}
        # Since when nothing but waiting was told of; None: something else is.
        self._since_s: float | None = None
        self._is_said = False

    def note(self, name: str, stage: Stage | None) -> None:
        """Know what a derivation is at there; None: it is not there any more."""
        with self._lock:
            if stage is None:
                self._at.pop(name, None)
            else:
                self._at[name] = stage
            if not self._at or any(each is not Stage.QUEUED for each in self._at.values()):
                self._since_s, self._is_said = None, False
            elif self._since_s is None:
                self._since_s = time.monotonic()

    def look(self) -> None:
        """Say it, if it is time; to be called now and then."""
        with self._lock:
            if self._since_s is None or self._is_said or time.monotonic() - self._since_s < PATIENCE_S:
                return
            self._is_said = True
            first, *more = self._at
        whom = first + (f" and {len(more):,} more" if more else "")
        self._say(
            f"{self._url}: no worker has taken {whom} for {PATIENCE_S:g} s: is one there, with the platform that is"
            " asked for? Ctrl-C ends waiting"
        )
