"""Reading blobs to be sent: small ones whole, large ones in pieces that can be sent again.

Invariant: bytes are hashed as they are read, and the last piece of a blob is given only if all of them are what its
name says. Offsets count bytes as they travel: compressed, if they do.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator

from sapwood._core.serve import compress
from sapwood.errors import SapwoodError, UnavailableError
from sapwood.reapi.blobs import Name

__all__ = ["Large", "read_whole"]

_Source = Callable[[Name], Iterable[bytes]]
# What is compressed as one frame.
_FRAME = 256 << 10
# A message has room for so much.
_MOST_BYTES = 3 << 20


def _changed(name: Name) -> SapwoodError:
    return UnavailableError(
        f"blob {name[0][:12]}/{name[1]}: its source has changed", kind="source-changed", hint="build again", blob=name
    )


def read_whole(source: _Source, name: Name) -> bytes:
    """Return a blob.

    Raises:
        UnavailableError: `source-changed`.
        SapwoodError: what `source` raises.
    """
    parts, size = list[bytes](), 0
    for part in source(name):
        size += len(part)
        if size > name[1]:
            raise _changed(name)
        parts.append(part)
    data = b"".join(parts)
    if hashlib.sha256(data).hexdigest() != name[0]:
        raise _changed(name)
    return data


class Large:
    """A blob that is sent in pieces, under a resource name of its own; `reached` is how far another came before."""

    def __init__(self, source: _Source, name: Name, *, is_zstd: bool, reached: int = 0) -> None:
        self.name = name
        form = "compressed-blobs/zstd" if is_zstd else "blobs"
        self.resource = f"uploads/{uuid.uuid4()}/{form}/{name[0]}/{name[1]}"
        self.offset = 0
        """Where the piece begins that was given last."""
        self.reached = reached
        """How much of it ever had come."""
        self.is_unsure = False
        """Nobody knows whether that has come."""
        self.is_lost = False
        """It is to be sent from its beginning."""
        self._piece: tuple[bytes, bool] | None = None
        self._is_zstd = is_zstd
        self._hash = hashlib.sha256()
        self._read = 0
        self._frames = self._cut(source(name))

    def next(self, most: int) -> tuple[bytes, bool]:
        """Return the next piece, of about `most` bytes, and whether it is the last; the same again until `acknowledge`.

        Raises:
            UnavailableError: `source-changed`.
            SapwoodError: what the source raises.
        """
        if self._piece is None:
            frames, size, is_last = list[bytes](), 0, False
            while size < min(most, _MOST_BYTES) and not is_last:
                frame, is_last = next(self._frames)
                frames.append(frame)
                size += len(frame)
            self._piece = b"".join(frames), is_last
        return self._piece

    def acknowledge(self, committed: int) -> bool:
        """Know how much the server has, and say whether that is all."""
        assert self._piece is not None
        data, is_last = self._piece
        if is_last or committed == -1 or (committed == self.name[1] and not self._is_zstd):
            return True  # also if somebody else was faster
        self.offset += len(data)
        self._piece = None
        return False

    def has_advanced(self) -> bool:
        """Say whether more of it has come than ever before, since this was asked last."""
        before, self.reached = self.reached, max(self.reached, self.offset)
        return self.reached > before

    def resume(self, committed: int) -> None:
        """Know how much the server had of a write that was interrupted."""
        self.is_unsure = False
        end = self.offset + len(self._piece[0]) if self._piece else self.offset
        if self._piece and committed == end and not self._piece[1]:
            self.offset, self._piece = end, None
        elif committed != self.offset:
            self.is_lost = True

    def _cut(self, parts: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
        held = bytearray()
        for part in parts:
            held += part
            self._hash.update(part)
            self._read += len(part)
            while len(held) > _FRAME:
                yield self._packed(bytes(held[:_FRAME])), False
                del held[:_FRAME]
            if self._read > self.name[1]:
                raise _changed(self.name)
        if self._hash.hexdigest() != self.name[0]:
            raise _changed(self.name)
        yield self._packed(bytes(held)), True

    def _packed(self, data: bytes) -> bytes:
        return compress(data) if self._is_zstd else data
