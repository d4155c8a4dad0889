"""The small JSON objects of a store: identity, snapshot, ref.

Invariant: a record has exactly one spelling: fields in the order of docs/format.md, no spaces, no newline. What is read
back differently than it would be written is damage; a higher format version is news, and is said before any damage.
"""

from __future__ import annotations

import json
from typing import Any

from sapwood.errors import CorruptError, FormatError

__all__ = ["FORMAT", "Record", "encode"]

FORMAT = 1


def encode(fields: dict[str, Any], version: int = FORMAT) -> bytes:
    """Spell a record. Bytes of names that are not UTF-8 become `\\udcNN`."""
    text = json.dumps({"format": version, **fields}, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


class Record:
    """Fields read from `data`, each checked for its type when asked for.

    `what` names the record in messages, `kind` is that of its `CorruptError`, `remedy` its hint, `context` goes into
    each error. `version` is its format, from 1 to `newest`.
    """

    def __init__(
        self, data: bytes, what: str, *, kind: str, newest: int = FORMAT, remedy: str | None = None, **context: Any
    ) -> None:
        self._what = what
        self._kind = kind
        self._remedy = remedy
        self._context = context
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError):
            raise self.damaged("it is not JSON") from None
        if not isinstance(fields, dict):
            raise self.damaged("it is not a JSON object")
        self._fields = fields
        self.version = self.number("format")
        if self.version > newest:
            raise FormatError(
                f"{what} has format {self.version}; this sapwood reads up to {newest}",
                kind="format-newer",
                hint="pip install --upgrade sapwood",
                **context,
            )
        if self.version < 1:
            raise self.damaged(f"there is no format {self.version}")

    def text(self, name: str) -> str:
        """Return a string."""
        value = self._fields.get(name)
        if not isinstance(value, str):
            raise self.damaged(f'"{name}" is not a string')
        return value

    def number(self, name: str) -> int:
        """Return a count: an integer from 0 to 2^63 - 1."""
        value = self._fields.get(name)
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise self.damaged(f'"{name}" is not a count')
        return value

    def texts(self, name: str) -> list[str]:
        """Return a list of strings."""
        value = self._fields.get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.damaged(f'"{name}" is not a list of strings')
        return value

    def lists(self, name: str) -> dict[str, list[str]]:
        """Return an object whose values are lists of strings."""
        value = self._fields.get(name)
        if not isinstance(value, dict) or not all(
            isinstance(each, list) and all(isinstance(text, str) for text in each) for each in value.values()
        ):
            raise self.damaged(f'"{name}" is no object of lists of strings')
        return value

    def flag(self, name: str) -> bool:
        """Return a truth."""
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise self.damaged(f'"{name}" is neither true nor false')
        return value

    def has(self, name: str) -> bool:
        """Say whether a field is there and not null."""
        return self._fields.get(name) is not None

    def damaged(self, found: str) -> CorruptError:
        """Name the record and the offence."""
        return CorruptError(f"{self._what} is damaged: {found}", kind=self._kind, hint=self._remedy, **self._context)
