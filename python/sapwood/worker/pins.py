"""Inputs that stay in the cache while an action runs, whatever else has to go.

Invariant: what is pinned here nobody takes out of the cache before it is let go, or the machine is started anew; pins
of a worker that was killed go with what else it left (`worker`). Bytes: docs/native.md.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from sapwood.reapi.cas import Name

__all__ = ["Pins", "let_go"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Pins:
    """The pins of an action, `name`, of the worker whose room is `room`. A context, which lets go of them."""

    def __init__(self, cache_dir: Path, room: str, name: str) -> None:
        self._cache_dir = cache_dir
        self._path = cache_dir / "mounts" / f"worker-{room}-{name}.pin"

    def __enter__(self) -> Self:
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(f"{_BOOT.read_text().strip()}\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)

    def add(self, blobs: Iterable[Name]) -> None:
        """Pin blobs: those that are in the cache already, too, and those that will be."""
        # Who chooses now what goes knows nothing of these.
        with open(self._cache_dir / "tidying", "ab") as choice:
            fcntl.flock(choice, fcntl.LOCK_EX)
            with open(self._path, "ab") as file:
                file.write(b"".join(bytes.fromhex(name[:16]) for name, _ in blobs))


def let_go(cache_dir: Path, room: str) -> None:
    """Let go of all that a worker has pinned which is no more."""
    for left in (cache_dir / "mounts").glob(f"worker-{room}-*.pin"):
        with contextlib.suppress(FileNotFoundError):
            left.unlink()
