"""What this machine remembers of the builds of one build file: the parts of keys, logs, what was saved.

Promise: losing it costs explanations (`why`) and counts, never a right result. Not here: results (`results`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Counts", "State", "add_counts", "kept_bytes", "read_counts"]


class State:
    """Of the build file `file`, below the builds of the user's cache, `home`."""

    def __init__(self, home: Path, file: Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(file))).hexdigest()[:32]
        self._folder = home / "files" / name
        self._last = self._folder / "last.json"
        self._known: dict[str, list[dict[str, Any]]] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = json.loads(self._last.read_bytes())
        self._changed = False

    def parts(self, name: str) -> list[dict[str, Any]]:
        """Return what the key of a derivation depended on: in the last build, and before it last changed."""
        found = self._known.get(name)
        return found if isinstance(found, list) else []

    def note(self, name: str, key: str, parts: dict[str, Any]) -> None:
        """Remember the parts of a key for the next build."""
        before = self.parts(name)
        if not before or before[0].get("key") != key:
            self._known[name] = [{"key": key, **parts}, *before[:1]]
            self._changed = True

    def log(self, name: str) -> Path:
        """Return where a derivation's builder is heard."""
        folder = self._folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def index(self, root: Path) -> Path:
        """Return where the index of a directory of sources is kept as it was in the last build."""
        return self._folder / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.index"

    def save(self, indexes: dict[Path, Path]) -> None:
        """Write what was noted; `indexes` are those of directories of sources."""
        if not self._changed:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for root, index in indexes.items():
            with contextlib.suppress(FileNotFoundError):
                _replace(self.index(root), index.read_bytes())
        _replace(self._last, json.dumps(self._known, separators=(",", ":")).encode())
        self._changed = False


@dataclass
class Counts:
    """Of all builds of this user: how often a result was there, or had to be made, and the seconds that were saved."""

    hits: int = 0
    built: int = 0
    saved_s: float = 0.0


def read_counts(home: Path) -> Counts:
    """Return what was counted so far."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Counts(**json.loads((home / "counts.json").read_bytes()))
    return Counts()


def add_counts(home: Path, more: Counts) -> None:
    """Count a build. Two that end at the same moment may count as one."""
    so_far = read_counts(home)
    total = Counts(so_far.hits + more.hits, so_far.built + more.built, so_far.saved_s + more.saved_s)
    home.mkdir(parents=True, exist_ok=True)
    _replace(home / "counts.json", json.dumps(vars(total)).encode())


def kept_bytes(outputs: Path) -> int:
    """Return how many bytes of outputs are kept on this machine."""
    total = 0
    for size in outputs.glob("*/size"):
        with contextlib.suppress(OSError, ValueError):
            total += int(size.read_text())
    return total


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(data)
    os.replace(beside, path)
