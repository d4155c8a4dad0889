"""What a command will probably read, fetched before it does: files called like one that it has read, wherever they lie.

Promise: nothing waits for this, and nobody is asked to send anything for it: only what the CAS has is fetched. Not
here: what lies beside what is read (`sapwood.mount.blobs`), which files are alike (`sapwood.reapi.layout`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
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
        self._layout = Layout()
        self._guard = threading.Lock()
        self._todo = SimpleQueue[list[Name]]()
        # What was not there when it was looked for, and may come: its client guesses alike.
        self._late: list[Name] = []
        self._is_over = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, daemon=True, name="sapwood-alike").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._todo.put([])

    def learn(self, name: Name, message: bytes) -> None:
        """Know what a directory has."""
        with contextlib.suppress(SapwoodError):  # who looks into it finds out
            files, called, _ = directory_of(message, name)
            with self._guard:
                self._layout.add(files, called)

    def want(self, blob: Name) -> None:
        """Know that a file is read that was not here."""
        with self._guard:
            alike = self._layout.want(blob)
        if alike or self._late:
            self._todo.put(alike)

    def _run(self) -> None:
        while True:
            names = [*self._late[-_LATE:], *self._todo.get()]
            with contextlib.suppress(Empty):
                while True:
                    names += self._todo.get_nowait()
            if self._is_over:
                return
            # Whoever needs what cannot be had asks for it.
            with contextlib.suppress(SapwoodError):
                here = set(self._blobs.present(names))
                self._late = [name for name in names if name not in here]
                for data in self._blobs.read_many(list(here)).values() if here else ():
                    self._keep(data)
