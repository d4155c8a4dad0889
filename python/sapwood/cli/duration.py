"""Durations as people write them: `90s`, `30m`, `24h`, `7d`."""

from __future__ import annotations

import re

from sapwood.errors import InvalidInputError

__all__ = ["seconds_of", "spelt"]

_DURATION = re.compile(r"(\d{1,9})([smhd])\Z")
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def seconds_of(text: str) -> int:
    """Return the seconds that a duration has; `0` needs no unit.

    Raises:
        InvalidInputError: `bad-duration`.
    """
    if text == "0":
        return 0
    found = _DURATION.match(text)
    if found is None:
        raise InvalidInputError(
            f"{text!r} is no duration", kind="bad-duration", hint="a number and s, m, h or d: 90s, 30m, 24h, 7d"
        )
    return int(found.group(1)) * _UNITS[found.group(2)]


def spelt(seconds: int) -> str:
    """Return seconds in the largest unit that leaves no rest: `24h` is `1d`."""
    unit, size = next((unit, size) for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // size}{unit}" if seconds else "0s"
