"""Durations as people write them: `90s`, `30m`, `24h`, `7d`."""

from __future__ import annotations

import re

from sapwood.errors import InvalidInputError

__all__ = ["grace_of", "seconds_of", "spelt"]

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


def grace_of(text: str | None, command: str) -> int | None:
    """Return the seconds of a store's grace that `command` is given, None for none; errors as `seconds_of`."""
    grace = None if text is None else seconds_of(text)
    if grace == 0:
        raise InvalidInputError(
            "a store without a grace could lose what is just being pushed",
            kind="bad-duration",
            hint=f"{command} --grace 1h",
        )
    return grace


def spelt(seconds: int) -> str:
    """Return seconds in the largest unit that leaves no rest: `24h` is `1d`."""
    unit, size = next((unit, size) for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // size}{unit}" if seconds else "0s"
