"""How values look: names, sizes, times, JSON.

Promise: no name can drive a terminal: one with control characters or bytes that are not UTF-8 is shown there as `$'…'`,
which a shell reads back as the very bytes. Into a pipe names go as they are. In JSON a path is text in which a byte
0xNN that is not UTF-8 is the escape `\\udcNN`, as in docs/format.md.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\'"}


def quoted(name: bytes) -> str:
    """Return a name as a person may see it."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def text(path: bytes) -> str:
    """Return a path as it stands in JSON."""
    return path.decode("utf-8", "surrogateescape")


def document(value: object) -> None:
    """Write one JSON document to stdout, in ASCII, so that every escape survives whatever reads it."""
    import json

    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def requests(by_verb: dict[str, int]) -> dict[str, object]:
    """Return the fields of a document that say what a store was asked."""
    return {"requests": sum(by_verb.values()), "requestsByVerb": by_verb}


class listing:
    """A list of what is done one by one, which is written as one document at the end, if that is `wanted`.

    After an error in the midst the document says what was done before it. `whole` makes the document of the list.
    """

    def __init__(self, wanted: bool, whole: Callable[[list[dict[str, object]]], object] = list) -> None:
        self._wanted = wanted
        self._whole = whole
        self._done: list[dict[str, object]] = []

    def __enter__(self) -> list[dict[str, object]]:
        return self._done

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._wanted and (self._done or kind is None):
            document(self._whole(self._done))


def line(*parts: str | bytes) -> None:
    """Write a line of data to stdout; parts that are bytes are names."""
    if sys.stdout.isatty():
        sys.stdout.write("".join(part if isinstance(part, str) else quoted(part) for part in parts) + "\n")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(b"".join(part.encode() if isinstance(part, str) else part for part in parts) + b"\n")


def record(*parts: str | bytes) -> None:
    """Write data that a NUL ends to stdout, names as they are wherever it goes."""
    sys.stdout.flush()
    sys.stdout.buffer.write(b"".join(part.encode() if isinstance(part, str) else part for part in parts) + b"\0")


def talk(words: str) -> None:
    """Write a line for the person to stderr."""
    print(words, file=sys.stderr)


def human(size: int) -> str:
    """Return a size in the unit that suits it: `1.3 GB`."""
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def exact(size: int) -> str:
    """Return a size in human and in exact form: `1.3 GB (1,297,311,744 B)`."""
    return human(size) if size < 1000 else f"{human(size)} ({size:,} B)"


def counted(number: int, noun: str) -> str:
    """Return `1 file`, `78,273 files`, `2 directories`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def seconds(duration: float) -> str:
    """Return a duration: `0.42 s`, `12.3 s`, `3 min 20 s`."""
    if duration < 100:
        return f"{duration:.2f} s" if duration < 10 else f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes} min {rest} s"


def time(ns: int) -> str:
    """Return nanoseconds since 1970 as `2024-02-29T12:00:00.000000000Z`; of an unheard-of year `@` and seconds."""
    from datetime import UTC, datetime

    whole, fraction = divmod(ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):  # a year that datetime does not know
        moment = f"@{whole}"
    return f"{moment}.{fraction:09d}Z"


def unreadable(paths: Iterable[bytes]) -> None:
    """Name on stderr what was left out because it could not be read."""
    for path in paths:
        talk(f"skipped, no permission: {quoted(path)}")
