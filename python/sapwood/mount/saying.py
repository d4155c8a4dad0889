"""What a mount's server has to say, to its log or the terminal.

Invariant: to say something never fails: the log may lie on the disk that is full, or the terminal be gone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from sapwood.errors import SapwoodError

__all__ = ["Complaints", "say"]


def say(what: str) -> None:
    """Write one line to stderr, if it can be written."""
    with contextlib.suppress(OSError):
        os.write(2, f"sapwood: {what}\n".encode(errors="backslashreplace"))


class Complaints:
    """What is wrong with a server that goes on: said once, until something else is."""

    def __init__(self) -> None:
        self._last = ""

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Say what is raised, and go on behind."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - no bug of ours, nor of the core, may end a mount
            said = str(error) if isinstance(error, SapwoodError) else f"{type(error).__name__}: {error}"
            if said != self._last:
                self._last = said
                say(said)
