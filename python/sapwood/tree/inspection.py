"""What an index says of itself when it is inspected: values of `Index.file_ids` and `Index.verify`."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FileId", "Verified"]


class FileId(NamedTuple):
    """What the file system knows an entry by; `kind` as in `Entry`."""

    path: bytes
    kind: str
    dev: int
    ino: int


class Verified(NamedTuple):
    """How many records an index has, and a line for each thing that is wrong."""

    records: int
    wrong: tuple[str, ...]
