"""Blobs by their digests: staged, or packed in the store; read back proved.

Invariant: what is said to be here can be read, and what is read was proved since it last left a disk that this process
had not written. Not here: blobs that were announced and have not come (`announced`), how blobs get into the store
(`packing`), what clients speak (`cas`, `bytestream`).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from sapwood._core.filemap import Frame
from sapwood._core.serve import Batch, Finding, read_chunks
from sapwood.errors import CorruptError, FormatError, NotFoundError
from sapwood.fetch import from_elsewhere, in_pack, read_frames
from sapwood.reapi.blobs import Name
from sapwood.serve.packing import Packed
from sapwood.serve.staging import Place, Staging

__all__ = ["EMPTY", "Blobs"]

EMPTY: Name = (hashlib.sha256().hexdigest(), 0)

_Chunk = tuple[Frame, int, str, int]

# What a stream gives at a time, and how many chunks of a large blob are brought ahead.
PIECE = 1 << 20
_AHEAD = 3
# Frames lately read, as they lie in packs: the small blobs of an action mostly lie together.
_FRAMES = 64 << 20


class Blobs:
    """All blobs of a server. Safe to use from several threads."""

    def __init__(self, staging: Staging, packed: Packed) -> None:
        self.staging = staging
        self.packed = packed
        self._frames = _Frames(packed)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="sapwood-read")

    def missing(self, blobs: Iterable[Name]) -> list[Name]:
        """Return those that are unknown."""
        unstaged = self.staging.missing(blobs)
        return self.packed.missing([blob for blob in unstaged if blob != EMPTY]) if unstaged else []

    def answer(self, finding: Finding) -> bytes:
        """Return the answer to a `FindMissingBlobsRequest`."""
        return finding.answer(self.staging.staged, self.packed.held)

    def records(self, batch: Batch) -> bytes:
        """Return records of what a batch brings that is unknown; it was proved."""
        return batch.records(self.staging.staged, self.packed.held)

    def has(self, blob: Name) -> bool:
        """Say whether a blob is present."""
        return not self.missing([blob])

    def read(self, blob: Name) -> bytes:
        """Return a blob that is not large.

        Raises:
            NotFoundError: `blob-missing`.
            CorruptError: `damaged`, `chunk-corrupt`, or as `Store.read_ranges`.
            UnavailableError, DeniedError: the store does not answer, or refuses to.
        """
        return b"".join(self.stream(blob))

    def stream(self, blob: Name, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield a blob, or `length` bytes of it from `offset` on, in pieces of at most 1 MiB; errors as `read`."""
        name, size = blob
        end = size if length is None else min(size, offset + length)
        if blob == EMPTY:
            return iter(())
        if (place := self.staging.find(name, size)) is not None:
            try:
                return self._staged(place, offset, end)
            except FileNotFoundError:  # it has just left the area, for a pack holds it
                pass
        chunks = self._chunks(blob)
        return self._packed(chunks, offset, end)

    def chunks(self, blob: Name) -> list[Name]:
        """Return the chunks of a blob that is packed, in order; errors as `read`."""
        return [(digest.removeprefix("sha256:"), size) for _, _, digest, size in self._chunks(blob)]

    def close(self) -> None:
        """End what reads ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _chunks(self, blob: Name) -> list[_Chunk]:
        for held in self.packed.held:
            if (chunks := held.chunks(*blob)) is not None:
                return chunks
        raise NotFoundError(f"blob {blob[0][:12]}/{blob[1]} is not here", kind="blob-missing", blob=blob)

    def _staged(self, place: Place, offset: int, end: int) -> Iterator[bytes]:
        source, begin, _ = place
        file = source.open()

        def pieces() -> Iterator[bytes]:
            at = offset
            while at < end:
                piece = os.pread(file.fd, min(PIECE, end - at), begin + at)
                if not piece:
                    raise CorruptError(f"{source.path} is shorter than it was", kind="damaged")
                at += len(piece)
                yield piece

        return pieces()

    def _packed(self, chunks: Sequence[_Chunk], offset: int, end: int) -> Iterator[bytes]:
        """Yield a range, with chunks ahead of it being brought."""
        wanted, at = list[tuple[_Chunk, int, int]](), 0
        for chunk in chunks:
            size = chunk[3]
            if at < end and offset < at + size:
                wanted.append((chunk, max(0, offset - at), min(size, end - at)))
            at += size
        if len(wanted) == 1:
            [(chunk, begin, stop)] = wanted
            yield from _cut(self._frames.chunk(chunk), begin, stop)
            return
        coming = list[Future[bytes]]()
        rest = iter(wanted)
        try:
            for _, begin, stop in wanted:
                while len(coming) < _AHEAD and (following := next(rest, None)):
                    coming.append(self._pool.submit(self._frames.chunk, following[0]))
                yield from _cut(coming.pop(0).result(), begin, stop)
        finally:
            for future in coming:
                future.cancel()


def _cut(data: bytes, begin: int, stop: int) -> Iterator[bytes]:
    if begin == 0 and stop == len(data) <= PIECE:
        yield data
        return
    for at in range(begin, stop, PIECE):
        yield data[at : min(stop, at + PIECE)]


class _Frames:
    """Chunks out of frames of packs; frames that hold several chunks are kept for a while."""

    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self._lock = threading.Lock()
        self._kept: OrderedDict[Frame, bytes] = OrderedDict()
        self._bytes = 0

    def chunk(self, chunk: _Chunk) -> bytes:
        """Return a chunk, proved; errors as `Blobs.read`."""
        frame, inner, digest, size = chunk
        store = self._packed.store
        prove = partial(_one, frame, inner=inner, digest=digest, size=size)
        with self._lock:
            stored = self._kept.get(frame)
            if stored is not None:
                self._kept.move_to_end(frame)
        if stored is not None:
            return prove(stored)
        [(_, stored)] = read_frames(store, [frame])
        try:
            data = prove(stored)
        except (CorruptError, FormatError) as error:
            with in_pack(store, frame):
                return from_elsewhere(store, frame, prove, error)
        if frame.plain > size + 1024:
            self._keep(frame, stored)
        return data

    def _keep(self, frame: Frame, stored: bytes) -> None:
        with self._lock:
            if frame not in self._kept:
                self._kept[frame] = stored
                self._bytes += len(stored)
            while self._bytes > _FRAMES:
                self._bytes -= len(self._kept.popitem(last=False)[1])


def _one(frame: Frame, stored: bytes, *, inner: int, digest: str, size: int) -> bytes:
    [data] = read_chunks(frame, stored, [(inner, digest, size)])
    return data
