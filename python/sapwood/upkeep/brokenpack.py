"""A damaged or missing pack: its frames as they should be, and what of them is sound.

Invariant: what file maps need of a frame stands where they say; what the pack says of itself only fills the rest. A
frame that its redirect leads away from is none of its own any more. Not here: where chunks come from (`sources`).
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from dataclasses import dataclass, field

from sapwood._core.filemap import Frame, read_chunk
from sapwood._core.upkeep import Rebuild, Toc, prove, read_toc, redirect_rows
from sapwood.digests import PackName
from sapwood.errors import CorruptError, FormatError
from sapwood.store.keys import pack_key
from sapwood.store.store import Store
from sapwood.upkeep.outline import read_outline
from sapwood.upkeep.survey import DAMAGES, Place, Survey

__all__ = ["BrokenPack"]

# Of a chunk's tar entry, before its bytes.
_HEADER = 512


@dataclass
class _Frame:
    """A frame as it was: its chunks (digest, size) by where they begin."""

    length: int
    plain: int
    holds: str
    chunks: dict[int, tuple[str, int]] = field(default_factory=dict)

    def yield_to(self, needed: set[int]) -> None:
        """Forget chunks that overlap others that are needed: what filled a frame when nobody had these."""
        taken = [(inner - _HEADER, inner + self.chunks[inner][1]) for inner in needed]
        for inner in sorted(self.chunks.keys() - needed):
            if any(start < inner + self.chunks[inner][1] and inner - _HEADER < end for start, end in taken):
                del self.chunks[inner]


class BrokenPack:
    """One pack, as a survey and its own bytes tell it."""

    def __init__(self, survey: Survey, name: PackName) -> None:
        self.name = name
        self.redirect = survey.moved.get(name)
        self._data = _data(survey.store, name)
        self._moved = {row[0] for row in redirect_rows(name, self.redirect)} if self.redirect else set[int]()
        self._frames: dict[int, _Frame] = {}
        needs = survey.needs.of(name)
        self.is_newer = self._data is not None and _is_newer(name, self._data)
        """Whether it is whole, and of a newer format."""
        toc = _toc(self._data)
        for place in needs:
            self._note(place, "page" if place[4] in survey.page_digests else "content")
        for holds in ("content", "page", "outline") if toc else ():
            for place in toc.held(holds) if toc else ():
                self._note(place, holds)
        frames = [(offset, frame.length, frame.plain) for offset, frame in sorted(self._frames.items())]
        sound = prove(name, self._data, frames).sound() if self._data is not None else []
        for place in sound:
            if place[0] not in self._frames:
                self._note(place, "outline" if _is_outline(survey.store, name, place) else "content")
            self._note(place, "content")
        self._sound = {(offset, inner): (digest, size) for offset, inner, _, _, digest, size in sound}
        # What file maps need is said first and last: TOC and contents of a damaged pack may tell otherwise.
        for place in needs:
            self._note(place, "page" if place[4] in survey.page_digests else "content")
        needed = {(place[0], place[1]) for place in needs}
        for offset, frame in self._frames.items():
            frame.yield_to({inner for inner in frame.chunks if (offset, inner) in needed})
        self.lost: dict[str, int] = {}
        """What is not sound: digest -> size."""
        for offset, frame in self._frames.items():
            for inner, (digest, size) in frame.chunks.items():
                if self._sound.get((offset, inner)) != (digest, size):
                    self.lost[digest] = size
        self.lost_needs = {place[4] for place in needs} & self.lost.keys()
        """Digests of those that file maps need."""
        self.is_needed = bool(needs or survey.users.get(name))
        """Also as one that snapshots list for its outline."""

    @property
    def is_there(self) -> bool:
        """Whether there is anything to read."""
        return self._data is not None

    def _note(self, place: Place, holds: str) -> None:
        offset, inner, length, plain, digest, size = place
        if offset in self._moved:
            return
        frame = self._frames.setdefault(offset, _Frame(length, plain, holds))
        if (frame.length, frame.plain) == (length, plain):
            frame.chunks[inner] = (digest, size)

    def make_again(self, found: dict[str, bytes]) -> tuple[PackName, bytes, bytes] | None:
        """Return name and bytes of the pack that takes its place, and the redirect; None if nothing is left of it.

        `found` are chunks that were lost, by digest. Of a frame none of which is there nothing is said.
        """
        again = Rebuild(secrets.token_hex(8), self.name)
        for offset, frame in sorted(self._frames.items()):
            stored = self._data[offset : offset + frame.length] if self._data is not None else b""
            chunks = sorted(frame.chunks.items())
            if all(self._sound.get((offset, inner)) == chunk for inner, chunk in chunks):
                again.copy(offset, stored, frame.plain, [(*chunk, inner) for inner, chunk in chunks], frame.holds)
                continue
            parts = []
            for inner, (digest, size) in chunks:
                if self._sound.get((offset, inner)) == (digest, size):
                    whole = Frame(self.name, offset, frame.length, frame.plain)
                    parts.append((inner, digest, read_chunk(whole, stored, inner, digest, size)))
                elif digest in found:
                    parts.append((inner, digest, found[digest]))
            if parts:
                # Chunks that cannot lie as a damaged TOC says are not needed by anybody.
                with contextlib.suppress(CorruptError):
                    again.make(offset, frame.length, frame.plain, parts, frame.holds)
        made = again.finish(self.redirect)
        return (PackName(made[0]), made[1], made[3]) if made else None


def _is_newer(name: PackName, data: bytes) -> bool:
    try:
        read_toc(data, len(data))
    except FormatError:
        return hashlib.sha256(data).hexdigest() == name
    except CorruptError:
        pass
    return False


def _is_outline(store: Store, name: PackName, place: Place) -> bool:
    """Say whether it is an outline, by how it reads: its TOC, which should say so, is damaged."""
    try:
        read_outline(store, name, place)
    except DAMAGES:
        return False
    return True


def _data(store: Store, name: PackName) -> bytes | None:
    try:
        return store._objects.get(pack_key(name))
    except DAMAGES:
        return None


def _toc(data: bytes | None) -> Toc | None:
    if data is None:
        return None
    try:
        return read_toc(data, len(data))[0]
    except (CorruptError, FormatError):
        return None
