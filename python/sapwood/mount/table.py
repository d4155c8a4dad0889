"""Which trees are mounted where.

Invariant: the kernel's table decides what is mounted; the notes beside the logs only say what and by whom.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from sapwood import places
from sapwood._core import mount as core

__all__ = ["Mount", "forget", "mounts", "record", "unmount"]


@dataclass(frozen=True)
class Mount:
    """A mount of this machine. `address` and `pid` are empty and 0 when another user's server made it."""

    path: Path
    address: str
    pid: int

    @property
    def alive(self) -> bool:
        """Whether its server runs."""
        if not self.pid:
            return os.path.isdir(self.path)
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return False
        # One that nobody has waited for yet is dead all the same.
        return state != "Z"


def mounts(cache_dir: Path | None = None) -> list[Mount]:
    """Return all mounts, sorted by path."""
    found = []
    for raw in core.mounts():
        path = Path(os.fsdecode(raw))
        note = _read(_note(cache_dir or places.cache_dir(), path))
        found.append(Mount(path, str(note.get("address", "")), int(str(note.get("pid", 0)))))
    return sorted(found, key=lambda mount: mount.path)


def unmount(place: str | os.PathLike[str], *, lazy: bool = False, cache_dir: Path | None = None) -> None:
    """Unmount `place`, also when its server is gone; `lazy`, also when somebody uses it: they get errors from then on.

    Raises:
        InvalidInputError: `bad-mount-point`: it is no mount, or not one of ours.
        UnavailableError: `mount-failed`: it is in use.
    """
    path = Path(os.path.abspath(place))
    core.unmount(path, lazy)
    forget(cache_dir or places.cache_dir(), path)


def record(cache_dir: Path, place: Path, address: str) -> None:
    """Note that this process serves `address` at `place`."""
    note = _note(cache_dir, place)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"place": os.fsdecode(place), "address": address, "pid": os.getpid()}))


def forget(cache_dir: Path, place: Path) -> None:
    """Remove the note of `place`, if there is one."""
    with contextlib.suppress(OSError):
        _note(cache_dir, place).unlink()


def _note(cache_dir: Path, place: Path) -> Path:
    return cache_dir / "mounts" / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}.json"


def _read(note: Path) -> dict[str, object]:
    try:
        data = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
