"""Which files lie where in the trees that a client has announced, and so what is likely to be wanted next.

Invariant: it only guesses, and each file once: what it leaves out is sent in its turn. Not here: sending (`sending`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Sequence

from sapwood.reapi.blobs import Name

__all__ = ["Layout"]

# Of files that are called alike so many more each time that one of them is wanted, twice as many the next time.
_FIRST = 4
_MOST = 512
_MOST_BYTES = 1 << 20


class Layout:
    """The files of trees, directory by directory."""

    def __init__(self) -> None:
        self._order: list[Name] = []
        # Where each is, where directories begin, and from where on it is sent next.
        self._place: dict[Name, int] = {}
        self._starts: list[int] = []
        self._next: int | None = None
        # Where files that are called alike are, how many of them were wanted, and which were guessed or came.
        self._called: dict[str, list[int]] = {}
        self._calls: list[str] = []
        self._wanted = Counter[str]()
        self._over: set[Name] = set()

    def add(self, files: Sequence[Name], called: Sequence[str]) -> None:
        """Take a directory: its files, and what each is called."""
        self._starts.append(len(self._order))
        for name, call in zip(files, called, strict=True):
            if name not in self._place:
                self._place[name] = len(self._order)
                self._called.setdefault(call, []).append(len(self._order))
            self._order.append(name)
            self._calls.append(call)

    def want(self, name: Name) -> list[Name]:
        """Know that somebody waits for a file; return those of other directories that may be wanted as well.

        A program that reads one `Makefile`, `Kconfig` or `package.json` reads others, each of which lies alone.
        """
        place = self._place.get(name)
        if place is None:
            return []
        self._next = self._starts[bisect_right(self._starts, place) - 1]
        self._over.add(name)
        call = self._calls[place]
        number, room, found = min(_MOST, _FIRST << self._wanted[call]), _MOST_BYTES, list[Name]()
        self._wanted[call] = min(self._wanted[call] + 1, _MOST)
        alike = self._called[call]
        after = bisect_right(alike, place)
        for at in (*alike[after:], *alike[:after]):
            one = self._order[at]
            if one in self._over:
                continue
            room -= one[1]
            if len(found) == number or room < 0:
                break
            found.append(one)
        self._over.update(found)
        return found

    def forget(self, name: Name) -> None:
        """Know that a file need not be sent."""
        if name in self._place:
            self._over.add(name)

    def first(self, queue: Container[Name]) -> Name | None:
        """Return of `queue` what lies in the directory of what was wanted last, else in those that follow it."""
        if self._next is not None:
            for at in range(self._next, len(self._order)):
                if self._order[at] in queue:
                    self._next = at
                    return self._order[at]
            self._next = None
        return None
