"""A session: what one client has announced, and what it is to be told.

Invariant: what a tree names is announced as far as its Directories are present, those that come later, too; a tree is
walked only when somebody asks for what is missing. Not here: who waits for it (`announced`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue

from sapwood.errors import SapwoodError, UnavailableError
from sapwood.reapi.blobs import Name, directory_of
from sapwood.serve.blobs import EMPTY, Blobs

__all__ = ["ONE_CLIENT", "Session", "key_of"]

ONE_CLIENT = 1_000_000
"""How many blobs one client may announce."""


def key_of(name: Name) -> bytes:
    """Return a name in the least memory."""
    return bytes.fromhex(name[0]) + name[1].to_bytes(8, "little")


class Session:
    """A session. `stream` is what tells its client; None while it is away.

    Through it go (`wanted`, `unwanted` or `arrived`, a blob), an error that cuts it off, and None: that is all.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stream: SimpleQueue[object] | None = None
        self.away_s = 0.0
        self.is_lost = False
        self.asked: dict[Name, float] = {}
        """What it was asked for and has not come, and since when."""
        self.heard_s = time.monotonic()
        """When bytes last came of it."""
        self._lock = threading.Lock()
        self._keys: set[bytes] = set()
        self._walked: set[bytes] = set()
        # Directories whose files are not known yet.
        self._unwalked: deque[Name] = deque()

    @property
    def count(self) -> int:
        """How many blobs it has announced."""
        return len(self._keys)

    def add(self, names: Sequence[Name], trees: Sequence[Name]) -> None:
        """Take announcements.

        Raises:
            UnavailableError: `too-many-announced`.
        """
        with self._lock:
            self._keys.update(map(key_of, names))
            self._reach(trees)
            if len(self._keys) > ONE_CLIENT:
                raise UnavailableError(
                    f"more than {ONE_CLIENT} blobs are announced by one client",
                    kind="too-many-announced",
                    hint="announce fewer at a time",
                )

    def remove(self, names: Sequence[Name]) -> None:
        """Forget announcements."""
        with self._lock:
            self._keys.difference_update(map(key_of, names))

    def can_deliver(self, key: bytes, blobs: Blobs) -> bool:
        """Say whether it has announced a blob."""
        if key in self._keys:
            return True
        with self._lock:  # what somebody walks through just now counts
            self._walk(blobs)
            return key in self._keys

    def _walk(self, blobs: Blobs) -> None:
        """Learn the files of all directories that have come."""
        while self._unwalked:
            missing = set(blobs.missing(self._unwalked))
            here = [name for name in self._unwalked if name not in missing]
            if not here:
                return
            self._unwalked = deque(name for name in self._unwalked if name in missing)
            for name in here:
                try:
                    files, _, directories = directory_of(blobs.read(name) if name != EMPTY else b"", name)
                except SapwoodError:
                    continue  # what it names nobody has promised
                self._keys.update(map(key_of, files))
                self._reach(directories)
                if len(self._keys) > ONE_CLIENT:
                    self._unwalked.clear()  # more than that nobody may promise
                    return

    def _reach(self, directories: Sequence[Name]) -> None:
        for name in directories:
            key = key_of(name)
            if key not in self._walked:
                self._walked.add(key)
                self._keys.add(key)
                self._unwalked.append(name)

    # --- What it is told; under the lock of `Announced`

    def enter(self) -> None:
        """Begin a stream, in place of one that there may be; what was asked before is asked again."""
        if self.stream is not None:
            self.stream.put(None)
        self.stream = SimpleQueue()
        self.heard_s = time.monotonic()
        for name in self.asked:
            self.stream.put(("wanted", name))

    def ask(self, name: Name) -> None:
        """Tell it that somebody waits for a blob."""
        if not self.asked:
            self.heard_s = time.monotonic()
        self.asked[name] = time.monotonic()
        if self.stream is not None:
            self.stream.put(("wanted", name))

    def settle(self, name: Name, word: str) -> None:
        """Tell it that nobody waits any more for what it was asked for: it has `arrived`, or is `unwanted`."""
        if self.asked.pop(name, None) is not None and self.stream is not None:
            self.stream.put((word, name))

    def close(self, error: SapwoodError | None) -> None:
        """End its stream."""
        self.asked.clear()
        if self.stream is not None:
            self.stream.put(error)

    def silent_s(self, now_s: float) -> float:
        """Return for how long nothing has come of a client that was asked for something."""
        return now_s - self.heard_s if self.asked and self.stream is not None else 0.0
