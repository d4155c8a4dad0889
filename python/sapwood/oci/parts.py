"""A tar as parts: bytes that are no file's content, and contents, in order.

Invariant: whatever the tar has, its parts one behind the other are its bytes. What is seen as a content decides only
what is shared with files. Not here: where contents lie (`storing`, `stored`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Content", "contents"]

_BLOCK = 512
_SPACES = b" " * 8
_FILES = b"\x000"
_PAX = b"x"
_OTHERS = b"xgLKS"
# Of a pax header, which may say a size.
_MOST_OF_A_PAX = 1 << 20
_SIZE = re.compile(rb"(?:\A|\n)[0-9]+ size=([0-9]{1,19})\n")


@dataclass(frozen=True)
class Content:
    """Bytes `offset` to `offset + size` of a tar."""

    offset: int
    size: int


def contents(tar: int, size: int) -> Iterator[Content]:
    """Yield the contents of files of the tar in the open file `tar`, in order; none that is empty."""
    at, said = 0, -1
    while at + _BLOCK <= size:
        header = os.pread(tar, _BLOCK, at)
        at += _BLOCK
        length = _size(header)
        if length is None:
            continue  # of no header; what follows may be one
        kind = header[156:157]
        if kind == _PAX and length <= _MOST_OF_A_PAX:
            found = _SIZE.findall(os.pread(tar, length, at))
            said = int(found[-1]) if found else -1
        elif kind not in _OTHERS:
            length, said = length if said < 0 else said, -1
            if kind not in _FILES:
                continue  # nothing else has a content
            if 0 < length <= size - at:
                yield Content(at, length)
        at += -(-length // _BLOCK) * _BLOCK


def _size(header: bytes) -> int | None:
    """Return the size that a header says; None of what is no header."""
    if not any(header[:1]):
        return None
    try:
        total = int(header[148:156].strip(b"\0 ") or b"-", 8)
        field = header[124:136]
        size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        return None
    return size if total == sum(header[:148]) + sum(_SPACES) + sum(header[156:]) and 0 <= size < 1 << 62 else None
