"""Messages between the near and the far side of a build: docs/context.md, "The wire".

Invariant: a message is read whole or not at all; one that is longer than any of ours ends the connection before memory
is taken for it.
"""

from __future__ import annotations

import json
import struct
import threading
from typing import IO, Any

from sapwood.errors import (
    ConflictError,
    CorruptError,
    DeniedError,
    FormatError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    StoppedError,
    UnavailableError,
)
from sapwood.store.base import LARGEST_OBJECT

__all__ = ["MAGIC", "VERSIONS", "Head", "Sending", "error_of", "read_message", "told_error"]

MAGIC = b"SAPWOOD\0"
VERSIONS = (1, 1)
"""The oldest and the newest that this program speaks."""

Head = dict[str, Any]
_LENGTHS = struct.Struct(">II")
_LARGEST_HEAD = 16 * 1024 * 1024
_CLASSES: dict[str, type[SapwoodError]] = {
    one.__name__: one
    for one in (
        ConflictError, CorruptError, DeniedError, FormatError, InternalError, InvalidInputError, NotFoundError,
        StoppedError, UnavailableError,
    )
}  # fmt: skip


class Sending:
    """One direction of a connection; several threads may send."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._guard = threading.Lock()
        stream.write(MAGIC)

    def send(self, head: Head, body: bytes | memoryview = b"") -> None:
        """Send a message whole; OSError when nobody is there any more."""
        said = json.dumps(head).encode()
        with self._guard:
            self._stream.write(_LENGTHS.pack(len(said), len(body)) + said)
            self._stream.write(body)
            self._stream.flush()


def read_message(stream: IO[bytes]) -> tuple[Head, bytes] | None:
    """Return the next message, None where the other side ended properly or not.

    Raises:
        CorruptError: `wire-corrupt`: that is no message of ours.
    """
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head_size, body_size = _LENGTHS.unpack(lengths)
    if head_size > _LARGEST_HEAD or body_size > LARGEST_OBJECT:
        raise CorruptError(f"a message of {head_size + body_size} bytes", kind="wire-corrupt")
    said, body = stream.read(head_size), stream.read(body_size)
    if len(said) < head_size or len(body) < body_size:
        return None
    try:
        head = json.loads(said)
    except ValueError:
        head = None
    if not isinstance(head, dict):
        raise CorruptError("a message that is none", kind="wire-corrupt")
    return head, body


def told_error(error: SapwoodError) -> Head:
    """Return an error as a message has it."""
    return {"class": type(error).__name__, "kind": error.kind, "message": str(error), "hint": error.hint}


def error_of(told: Head) -> SapwoodError:
    """Return the error that a message has."""
    made = _CLASSES.get(str(told.get("class")), UnavailableError)
    hint = told.get("hint")
    return made(str(told.get("message")), kind=str(told.get("kind")), hint=None if hint is None else str(hint))
