"""Taking away what is mounted and is no mount of ours, on a machine where others look at all that is mounted."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

__all__ = ["take_away"]

_PATIENCE_S = 60.0


def take_away(place: Path) -> None:
    """Unmount what is at `place`; who only asks about it, or reads a link to it in /proc, holds it for a moment."""
    until = time.monotonic() + _PATIENCE_S
    command = ["umount", str(place)]
    while (done := subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)).returncode:
        assert "busy" in done.stderr, done.stderr
        assert time.monotonic() < until, done.stderr
        time.sleep(0.05)
