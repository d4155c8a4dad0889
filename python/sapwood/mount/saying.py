"""What a mount's server has to say, to its log or the terminal.

Invariant: to say something never fails: the log may lie on the disk that is full, or the terminal be gone.
"""

from __future__ import annotations

import contextlib
import os

__all__ = ["say"]


def say(what: str) -> None:
    """Write one line to stderr, if it can be written."""
    with contextlib.suppress(OSError):
        os.write(2, f"sapwood: {what}\n".encode(errors="backslashreplace"))
