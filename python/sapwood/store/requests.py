"""How many requests a place was sent, by verb.

Promise: each is counted when it is made, whatever becomes of it; of a local directory each call counts as the request
that a server would have been sent.
"""

from __future__ import annotations

import threading
from typing import Literal

__all__ = ["Requests", "Verb"]

Verb = Literal["get", "put", "list", "head", "delete"]


class Requests:
    """Counts; safe to use from several threads."""

    def __init__(self) -> None:
        self._counted: dict[Verb, int] = {"get": 0, "put": 0, "list": 0, "head": 0, "delete": 0}
        self._guard = threading.Lock()

    def count(self, verb: Verb, number: int = 1) -> None:
        """Add to the requests of a verb."""
        with self._guard:
            self._counted[verb] += number

    def so_far(self) -> dict[str, int]:
        """Return the requests of each verb."""
        with self._guard:
            return dict[str, int](self._counted.items())
