"""What a command will probably read, fetched before it does: files called like one that it has read, wherever they lie.

Promise: nothing waits for this, and nobody is asked to send anything for it: only what the CAS has is fetched. Not
here: what lies beside what is read (`sapwood.mount.blobs`), which files are alike (`sapwood.reapi.layout`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol, Self

from sapwood.errors import SapwoodError
from sapwood.reapi.blobs import Name, directory_of
from sapwood.reapi.layout import Layout

__all__ = ["Ahead"]

# So many are looked for again.
_LATE = 1_000


class _Blobs(Protocol):
    def present(self, blobs: Sequence[Name], /) -> list[Name]: ...
    def read_many(self, blobs: Sequence[Name], /) -> dict[Name, bytes]: ...


class Ahead:
    """Fetches from `blobs`, and gives `keep` what came. A context; what is under way when it ends comes to nothing."""

    def __init__(self, blobs: _Blobs, keep: Callable[[bytes], None]) -> None:
        self._blobs = blobs
        self._keep = keep
        # An action whose files are all here has no use of what its directories have: that is looked at when one is not.
        self._unread = deque[tuple[Name, bytes]]()
        self._layout = Layout()
        self._wanted = SimpleQueue[Name | None]()
        # What was not there when it was looked for, and may come: its client guesses alike.
        self._late: list[Name] = []
        self._is_over = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, daemon=True, name="sapwood-alike").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._wanted.put(None)

    def learn(self, name: Name, message: bytes) -> None:
        """Know a directory."""
        self._unread.append((name, message))

    def want(self, blob: Name) -> None:
        """Know that a file is read that was not here."""
        self._wanted.put(blob)

    def _run(self) -> None:
        while True:
            wanted = [self._wanted.get()]
            with suppress(Empty):
                while True:
                    wanted.append(self._wanted.get_nowait())
            self._read()
            if self._is_over:
                return
            alike = [name for blob in wanted if blob is not None for name in self._layout.want(blob)]
            names = [*self._late[-_LATE:], *alike]
            # Whoever needs what cannot be had asks for it.
            with suppress(SapwoodError):
                here = set(self._blobs.present(names)) if names else set()
                self._late = [name for name in names if name not in here]
                for data in self._blobs.read_many(list(here)).values() if here else ():
                    self._keep(data)

    def _read(self) -> None:
        """Look at what directories have that were not looked at."""
        while self._unread and not self._is_over:
            name, message = self._unread.popleft()
            with suppress(SapwoodError):  # who looks into it finds out
                files, called, _ = directory_of(message, name)
                self._layout.add(files, called)
