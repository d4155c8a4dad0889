"""A tree of REAPI directories as a directory that takes changes, whose blobs are fetched as they are read.

Invariant: what somebody waits for is asked for at once, each blob by a call of its own, so one that has not arrived
holds up no other; of what nobody waits for little is under way, and less while it is on its way only because we ask. A
read whose blob cannot be had ends in EIO, and `lost` says why. Not here: where blobs come from, running what reads them
(`sapwood.worker`), proving and keeping (core).

The server of this mount is threads of our own process: nobody in it may map a file of the mount, nor start a program
from it (docs/decisions/0026-worker.md).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from sapwood._core.filemap import FileMap, Frame
from sapwood._core.mount import Server, unmount
from sapwood.errors import CorruptError, InternalError, InvalidInputError, SapwoodError, StoppedError, UnavailableError

__all__ = ["Blob", "BlobMount", "Blobs"]

Blob = tuple[str, int]
"""Hex digits of its SHA-256, and its size."""

# Calls that may wait at a time; more readers wait for their turn. Those of blobs that are there are over soon.
_WAITING = 512
_AHEAD = 4
# What may be under way, before more is asked for that nobody waits for: if that is there, and if it is only promised,
# and whoever asks next stands in line behind it.
_AHEAD_BYTES = 4 << 20
_PROMISED_BYTES = 1 << 20
# What is larger, and only promised, is not sent on a guess: 20 Mbit/s carry that in 50 ms.
_GUESSED_BYTES = 128 << 10
# What is asked for together.
_TOGETHER_BYTES = 1 << 20
_TOGETHER = 500
_TICK_S = 0.5
# A frame that nobody waits for fails for nobody.
_NOBODY_S = 1e9
# Each blob is a pack: no pack has more than one frame.
_OF_A_PACK = (1 << 20, 1 << 20)


class Blobs(Protocol):
    """Where the blobs of a mount come from."""

    def read(self, blob: Blob, /) -> bytes | Path:
        """Return a blob, however long that takes: its bytes, or a new file on the cache's disk."""

    def present(self, blobs: Sequence[Blob], /) -> list[Blob]:
        """Return those that can be read without waiting."""

    def read_many(self, blobs: Sequence[Blob], /) -> dict[Blob, bytes]:
        """Return small blobs."""

    def close(self) -> None:
        """End all calls; reads raise `StoppedError`."""


class BlobMount:
    """The tree below the directory `root`, whose message is `message`, at `place`; changes lie in `changes`. A context.

    It belongs to the calling user. `lost` is called, by any thread, when an input is lost.

    Raises:
        InvalidInputError: `bad-mount-point`.
        UnavailableError: `mount-failed`, `io`.
        CorruptError: `damaged`: the root is a directory that none can be.
    """

    def __init__(
        self,
        root: Blob,
        message: bytes,
        blobs: Blobs,
        place: Path,
        *,
        changes: Path,
        cache_dir: Path,
        lost: Callable[[], None],
    ) -> None:
        file_map = FileMap.of_directory(f"sha256:{root[0]}", root[1], (os.geteuid(), os.getegid()))
        self._blobs = blobs
        self._place = place
        self._tell = lost
        self._root = message
        # What arrived damaged, last time.
        self._damaged = set[Blob]()
        # Whether what was last looked for ahead of readers was not there.
        self._promised = False
        self._server = Server(
            file_map,
            cache_dir,
            place,
            native=False,
            in_flight=_AHEAD_BYTES,
            of_a_pack=_OF_A_PACK,
            changes=changes,
        )
        self._readers = ThreadPoolExecutor(_WAITING, "sapwood-input")
        self._ahead = ThreadPoolExecutor(_AHEAD, "sapwood-ahead")
        self.lost: SapwoodError | None = None
        """Why a read has ended in EIO, the first time."""

    def __enter__(self) -> BlobMount:
        threading.Thread(target=self._bring, daemon=True, name="sapwood-bring").start()
        try:
            self._server.deliver_directory(self._root)
            self._server.establish()
        except BaseException as error:
            self.end()
            self._readers.shutdown()  # whose calls have ended: one of them knows, perhaps, what the mount failed of
            if isinstance(error, UnavailableError) and self.lost is not None:
                raise self.lost from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def blocked_s(self) -> float:
        """For how many seconds anybody has waited for an input."""
        return float(self.stats()["blocked_s"])

    def stats(self) -> dict[str, Any]:
        """Return the counts of the core's server."""
        return self._server.stats()

    def deliver_directory(self, message: bytes) -> None:
        """Have a directory before anybody asks for it.

        Raises:
            CorruptError: `damaged`: no tree can have it.
        """
        self._server.deliver_directory(message)

    def absent(self, blobs: Sequence[Blob]) -> list[Blob]:
        """Return those that the cache has not; what it has is proved when it is read."""
        return self._server.absent(blobs)

    @property
    def is_over(self) -> bool:
        """Whether it was taken away."""
        return self._server.closed

    def end(self) -> None:
        """Take the mount away, whoever uses it; all calls for it end."""
        with contextlib.suppress(InvalidInputError, UnavailableError):  # it was never made
            unmount(self._place, True)
        self._server.stop("the mount has ended")
        self._blobs.close()
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._ahead.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(SapwoodError):
            self._server.tidy(None)

    def _bring(self) -> None:
        """Hand out what is wanted until the mount is gone."""
        with contextlib.suppress(RuntimeError):  # the pools have ended, and so has the mount
            while not self._server.closed:
                together: list[Frame] = []
                room = _TOGETHER_BYTES
                timeout_s = _TICK_S
                while room > 0 and len(together) < _TOGETHER:
                    frames = self._server.take(1, 0, "readahead", timeout_s)
                    if not frames:
                        break
                    if self._server.are_demanded(frames):
                        self._readers.submit(self._read, frames[0], is_demanded=True)
                    else:
                        together += frames
                        room -= frames[0].length
                    timeout_s = 0.0
                if together:
                    self._ahead.submit(self._read_ahead, together)

    def _read(self, frame: Frame, *, is_demanded: bool) -> None:
        """Bring what somebody waits for, or may wait for soon."""
        blob = self._blob(frame)
        try:
            found = self._blobs.read(blob)
            self._server.landed([frame], _PROMISED_BYTES if self._promised else _AHEAD_BYTES)
            try:
                self._deliver(frame, found)
            except CorruptError as error:
                # The core wants it once more if somebody waits for it, and then gives it up.
                if blob in self._damaged:
                    self._note(error)
                self._damaged.add(blob)
        except BaseException as error:  # noqa: BLE001 - nothing may leave readers waiting
            if is_demanded and not isinstance(error, StoppedError):
                self._note(error)
            # Who has come to wait for what nobody waited for asks for it anew.
            self._server.fail(frame, str(error), 0.0 if is_demanded else _NOBODY_S)

    def _deliver(self, frame: Frame, found: bytes | Path) -> None:
        if not isinstance(found, Path):
            self._server.deliver(frame, found)
            return
        try:
            self._server.deliver_file(frame, found)
        finally:
            found.unlink(missing_ok=True)

    def _note(self, error: BaseException) -> None:
        self.lost = self.lost or (error if isinstance(error, SapwoodError) else _foreign(error))
        self._tell()

    def _read_ahead(self, frames: list[Frame]) -> None:
        left = {self._blob(frame): frame for frame in frames}
        try:
            here = [blob for blob in self._blobs.present(list(left)) if blob in left]
            self._promised = len(here) < len(left)
            for blob, data in (self._blobs.read_many(here) if here else {}).items():
                frame = left.pop(blob)
                self._server.landed([frame], _AHEAD_BYTES)
                # Whoever needs what is damaged finds out.
                with contextlib.suppress(CorruptError):
                    self._server.deliver(frame, data)
            for frame in left.values():
                if frame.length > _GUESSED_BYTES:
                    self._server.fail(frame, "it would have to be sent, and nobody waits for it", _NOBODY_S)
                else:
                    self._readers.submit(self._read, frame, is_demanded=False)
        except BaseException as error:  # noqa: BLE001 - as of what is demanded
            for frame in left.values():
                self._server.fail(frame, str(error), _NOBODY_S)

    def _blob(self, frame: Frame) -> Blob:
        return frame.pack, frame.offset


def _foreign(error: BaseException) -> SapwoodError:
    return InternalError(f"an input cannot be brought: {type(error).__name__}: {error}", kind="internal")
