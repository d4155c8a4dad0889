"""What can go wrong, grouped by what the caller does next.

Promise: every error that leaves sapwood is a `SapwoodError`; its class says what to do, its `kind` is a stable code
whose meaning never changes, and `str(error)` is one printable line that names the thing, the place and what was found.
Errors survive pickling, so they can cross processes. Not here: printing them and exit codes (`cli`).
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ConflictError",
    "CorruptError",
    "DeniedError",
    "FormatError",
    "InternalError",
    "InvalidInputError",
    "NotFoundError",
    "SapwoodError",
    "StoppedError",
    "UnavailableError",
]


class SapwoodError(Exception):
    """The root of all of them.

    `kind` is a stable code such as `chunk-missing`; `hint`, when there is one, a command to paste or a remedy. Further
    keywords become attributes: `error.digest`, `error.store`.
    """

    kind: str
    hint: str | None

    def __init__(self, message: str, *, kind: str, hint: str | None = None, **context: Any) -> None:
        super().__init__(_one_line(message))
        self.kind = kind
        self.hint = None if hint is None else _one_line(hint)
        for name, value in context.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), str(self)), self.__dict__

    if TYPE_CHECKING:  # the context of each kind, which no class can list

        def __getattr__(self, name: str) -> Any: ...


class NotFoundError(SapwoodError):
    """It is not there: ask another store, or push it."""


class ConflictError(SapwoodError):
    """Somebody else was first: read the ref again and retry."""


class CorruptError(SapwoodError):
    """Stored bytes are damaged: drop this copy and fetch another."""


class UnavailableError(SapwoodError):
    """It does not work now: wait `retry_after_s` seconds and retry."""

    retry_after_s: float

    def __init__(
        self, message: str, *, kind: str, hint: str | None = None, retry_after_s: float = 1.0, **context: Any
    ) -> None:
        super().__init__(message, kind=kind, hint=hint, **context)
        self.retry_after_s = retry_after_s


class DeniedError(SapwoodError):
    """It is not allowed: renew credentials or permissions."""


class InvalidInputError(SapwoodError, ValueError):
    """The call cannot be right: fix it."""


class FormatError(SapwoodError):
    """Written by a newer sapwood: upgrade."""


class StoppedError(SapwoodError):
    """You cancelled it: nothing to do."""


class InternalError(SapwoodError):
    """A bug of ours: report it."""


def _revive(kind_of_error: type[SapwoodError], message: str) -> SapwoodError:
    """Make the error without its constructor, whose keywords pickle restores as attributes."""
    return kind_of_error.__new__(kind_of_error, message)


def _one_line(message: str) -> str:
    """Escape what would break the line or drive a terminal: names come from archives and servers, perhaps hostile."""
    return "".join(character if character.isprintable() else _escaped(character) for character in message)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, shown as the core shows it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
