"""Ways in which an object of a store can be damaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Damage", "copy_of", "damages", "flipped", "harm"]

Damage = Callable[[bytes], bytes | None]


def flipped(at: int, bits: int) -> Damage:
    """Flip some bits of one byte."""
    return lambda data: data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def damages(size: int, *, flips: int) -> Iterator[tuple[str, Damage]]:
    """Each way in which an object of `size` bytes is damaged: one bit at `flips` places, cut, longer, emptied, gone."""
    for number in range(min(flips, size)):
        at = number * size // min(flips, size)
        yield f"flipped at {at}", flipped(at, 1 << number % 8)
    yield f"flipped at {size - 1}", flipped(size - 1, 1)
    for length in (size // 2, size - 1):
        yield f"cut at {length}", lambda data, length=length: data[:length]
    yield "longer by a byte", lambda data: data + b"\0"
    yield "emptied", lambda data: b""
    yield "zeros", lambda data: bytes(len(data))
    yield "gone", lambda data: None


def copy_of(store: Path, place: Path) -> Path:
    """Return a copy of a store whose objects may be harmed."""
    shutil.copytree(store, place, copy_function=os.link)
    return place


def harm(path: Path, change: Damage) -> None:
    """Change an object; what else links to the file stays as it was."""
    data = change(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)
