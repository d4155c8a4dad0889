"""The staging area: what clients were told is stored, until packs of the store hold it, and for reads some time after.

Invariant: `add` and `Upload.finish` return when what they were given survives power loss; nothing leaves the area
before the store has it, which `settle` is told. Large blobs have a file each, the rest lies in logs. One process has
the area at a time. Bytes: docs/format.md, "Staging". Not here: packing (`packing`), looking further (`blobs`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import logging
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sapwood._core.serve import Batch as SentBatch
from sapwood._core.serve import Staged, read_log, record
from sapwood.errors import ConflictError, InvalidInputError
from sapwood.serve.log import ACTION, BLOB, HEAD, Descriptor, Log, disk_error

__all__ = ["LARGE", "Batch", "Large", "Staging", "Upload"]

_LOG = logging.getLogger("sapwood.serve")

# A blob of more has a file of its own.
LARGE = 1 << 20
# To hash less takes no longer than to hand it to another thread.
_MUCH = 256 << 10
# How much is written before the disk is set to work on it, so that the end has not to wait for all.
_STRIDE = 8 << 20


class Large:
    """A large blob in a file of its own."""

    __slots__ = ("name", "number", "path", "size")

    def __init__(self, path: Path, size: int, number: int) -> None:
        self.path = path
        self.number = number
        self.name = path.name
        self.size = size

    def open(self) -> Descriptor:
        """Return a file to read it from.

        Raises:
            FileNotFoundError: it has left the area.
        """
        return Descriptor(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))


_File = TypeVar("_File", Log, Large)

Place = tuple[Log | Large, int, int]
"""Where a blob lies: the file, where in it, bytes."""


@dataclass
class Batch:
    """What is to be packed: closed logs and large blobs, in the order in which they came."""

    logs: list[Log] = field(default_factory=list)
    larges: list[Large] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.larges) or any(log.end for log in self.logs)


def mismatch(name: str, size: int, found: str) -> InvalidInputError:
    """Return what to raise when bytes are not the blob that they were said to be."""
    return InvalidInputError(f"blob {name[:12]}/{size}: {found}", kind="blob-mismatch")


class Staging:
    """The area in `folder`. Safe to use from several threads. `keep`: bytes that may stay after they were packed."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Take the area, and remove what was not acknowledged.

        Raises:
            ConflictError: `staging-taken`: another server has it.
            UnavailableError: `disk-full`, `io`.
        """
        self.folder = folder
        self._keep = keep
        self.hashers = ThreadPoolExecutor(4, thread_name_prefix="sapwood-hash")
        self._lock = threading.Lock()
        self.staged = Staged()
        # By numbers, as `staged` has them.
        self._files: dict[int, Log | Large] = {}
        self._numbers = itertools.count(1)
        self._kept: deque[Log | Large] = deque()
        self._kept_bytes = 0
        self._settled = threading.Condition(self._lock)
        self.unpacked = 0
        """Bytes that no pack holds."""
        self.on_arrival: Callable[[list[tuple[str, int]]], None] = lambda _: None
        """Told of each blob, by (hex digits, size), when it is here."""
        self._batch = Batch()
        try:
            for name in ("logs", "large", "parts"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._taken = self._take()
            for part in (folder / "parts").iterdir():
                if part.is_dir():  # what was being packed
                    shutil.rmtree(part)
                else:
                    part.unlink()
            self._log_number = max((int(path.stem) for path in (folder / "logs").glob("*.log")), default=0)
            self._open: Log = self._next_log()
        except OSError as error:
            raise disk_error(error, folder) from error

    def _take(self) -> Descriptor:
        file = Descriptor(os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"another server has the staging area {self.folder}",
                kind="staging-taken",
                hint=f"fuser -v {self.folder}/lock",
            ) from error
        return file

    def recover(self, packed: Callable[[str, int], bool]) -> list[tuple[str, bytes]]:
        """Take up what an earlier process left and no pack holds, as `packed` says; once, before anything else.

        Return the results of actions that were found, in order, as (hex digits of the action, result).
        """
        actions: list[tuple[str, bytes]] = []
        for path in (self.folder / "logs").glob("*.packed"):
            path.unlink()
        for path in sorted((self.folder / "logs").glob("*.log")):
            if path == self._open.path:
                continue
            log = self._numbered(Log(path, next(self._numbers)))
            lacking, end = False, 0
            found = list[tuple[str, int, int]]()
            for kind, name, begin, size in read_log(path):
                end = begin + size
                if kind == ACTION:
                    actions.append((name, os.pread(log.file.fd, size, begin)))
                    lacking = True
                elif not packed(name, size):
                    found.append((name, begin, size))
                    lacking = True
            if lost := log.end - end:
                _LOG.error("%s: its last %d bytes are no sound record, and were cut off", path, lost)
            log.cut(end)
            if lacking:
                self.staged.put(log.number, found)
                self._batch.logs.append(log)
                self.unpacked += log.end
            else:
                del self._files[log.number]
                path.unlink()
        for path in sorted((self.folder / "large").iterdir()):
            size = path.stat().st_size
            if packed(path.name, size):
                path.unlink()
                continue
            with path.open("rb") as content:
                is_sound = hashlib.file_digest(content, "sha256").hexdigest() == path.name
            if not is_sound:
                _LOG.error("%s is damaged, and was removed: no pack holds this blob", path)
                path.unlink()
                continue
            large = self._numbered(self.large(path, size))
            self._batch.larges.append(large)
            self.staged.put(large.number, [(path.name, 0, size)])
            self.unpacked += size
        return actions

    def find(self, name: str, size: int) -> Place | None:
        """Return where the blob of these hex digits lies, if it is here."""
        found = self.staged.find(name, size)
        file = self._files.get(found[0]) if found else None
        return (file, found[1], size) if found and file else None

    def missing(self, blobs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return those of (hex digits, size) that are not here."""
        return self.staged.missing(list(blobs))

    def add(self, blobs: Iterable[tuple[str, bytes]], actions: Sequence[tuple[str, bytes]] = ()) -> None:
        """Stage blobs, whose digests were proved, and results of actions; durable when it returns.

        Raises:
            UnavailableError: `disk-full`, `io`.
        """
        pieces, places, length = [], [], 0
        for name, data in blobs:
            pieces.append(record(BLOB, bytes.fromhex(name), data))
            places.append((name, length + HEAD, len(data)))
            length += HEAD + len(data)
        for name, data in actions:
            pieces.append(record(ACTION, bytes.fromhex(name), data))
            length += HEAD + len(data)
        log, begin = self._append(b"".join(pieces))
        # Only now: what is found here a client may be told of.
        self.staged.put(log.number, [(name, begin + at, size) for name, at, size in places])
        self.on_arrival([(name, size) for name, _, size in places])

    def add_batch(self, batch: SentBatch, records: bytes) -> None:
        """Stage the blobs of a batch, which were proved and made `records`; as `add`."""
        log, begin = self._append(records)
        self.staged.put_batch(log.number, begin, batch)
        self.on_arrival(batch.new_blobs())

    def _append(self, records: bytes) -> tuple[Log, int]:
        """Return in which log records lie, and where; they are durable."""
        with self._lock:
            log = self._open
            begin = log.append(records)
            self.unpacked += len(records)
        log.sync(begin + len(records))
        return log, begin

    def large(self, path: Path, size: int) -> Large:
        """Return what stands for a large blob; it is not taken in by that."""
        return Large(path, size, next(self._numbers))

    def _numbered(self, file: _File) -> _File:
        self._files[file.number] = file
        return file

    def upload(self, name: str, size: int) -> Upload:
        """Begin to stage a blob that arrives in pieces."""
        return Upload(self, name, size)

    def take_in(self, large: Large) -> None:
        """Count a large blob, whose file is durable, as here."""
        with self._lock:
            if self.staged.find(large.name, large.size) is None:
                self.unpacked += large.size
                self._batch.larges.append(self._numbered(large))
                self.staged.put(large.number, [(large.name, 0, large.size)])
        self.on_arrival([(large.name, large.size)])

    def rotate(self) -> Batch:
        """Return all that is to be packed, and let what comes from now on be for the next batch."""
        with self._lock:
            if self._open.end:
                log, self._open = self._open, self._next_log()
                self._batch.logs.append(log)
            batch, self._batch = self._batch, Batch()
        for log in batch.logs:
            log.sync(log.end)
        return batch

    def settle(self, batch: Batch) -> None:
        """Know that the store has all of a batch: it stays, as long as there is room."""
        with self._settled:
            files: list[Log | Large] = [*batch.logs, *batch.larges]
            for file in files:
                self._kept.append(file)
                if isinstance(file, Log):
                    # Its results are never taken up again, over newer ones.
                    file.path = file.path.rename(file.path.with_suffix(".packed"))
                size = file.end if isinstance(file, Log) else file.size
                self.unpacked -= size
                self._kept_bytes += size
            while self._kept and self._kept_bytes > self._keep:
                self._drop(self._kept.popleft())
            self._settled.notify_all()

    def put_back(self, batch: Batch) -> None:
        """Know that a batch could not be packed: it is part of the next."""
        with self._lock:
            self._batch = Batch(batch.logs + self._batch.logs, batch.larges + self._batch.larges)

    def wait_below(self, most: int, timeout_s: float) -> bool:
        """Wait until less than `most` bytes are to be packed, and say whether that came."""
        with self._settled:
            return self._settled.wait_for(lambda: self.unpacked < most, timeout_s)

    def close(self) -> None:
        """Give up the area; what was not packed stays in it."""
        with self._lock:
            if not self._open.end:
                with contextlib.suppress(OSError):
                    self._open.path.unlink()
            del self._taken
        self.hashers.shutdown(wait=False)

    def _drop(self, file: Log | Large) -> None:
        self._kept_bytes -= file.end if isinstance(file, Log) else file.size
        self.staged.drop_file(file.number)
        del self._files[file.number]
        with contextlib.suppress(OSError):
            file.path.unlink()

    def _next_log(self) -> Log:
        self._log_number += 1
        path = self.folder / "logs" / f"{self._log_number:06d}.log"
        log = self._numbered(Log(path, next(self._numbers)))
        sync_folder(self.folder / "logs")
        return log


def sync_folder(folder: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Upload:
    """A blob on its way in, hashed as it comes. By one thread at a time; `finish` it or `drop` it."""

    def __init__(self, staging: Staging, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.received = 0
        self._staging = staging
        self._hash = hashlib.sha256()
        self._hashing: Future[None] = Future()
        self._hashing.set_result(None)
        self._small: bytearray | None = bytearray() if size <= LARGE else None
        self._fd = -1
        self._path = staging.folder / "parts" / os.urandom(8).hex()
        self._begun = 0

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes, which nobody changes any more.

        Raises:
            InvalidInputError: `blob-mismatch`: they are more than the blob has.
            UnavailableError: `disk-full`, `io`.
        """
        if self.received + len(data) > self.size:
            raise mismatch(self.name, self.size, f"{self.received + len(data)} bytes came, which is more")
        self._digest(data)
        if self._small is not None:
            # Not the view: that would hold on to its message, which may be much longer than what is taken from it.
            self._small += data
            self.received += len(data)
            return
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            view = memoryview(data)
            while view:
                view = view[os.pwrite(self._fd, view, self.received + len(data) - len(view)) :]
            self.received += len(data)
            if self.received - self._begun >= _STRIDE:
                # Linux begins to write what it is told it may forget, and forgets only what is written.
                os.posix_fadvise(self._fd, self._begun, self.received - self._begun, os.POSIX_FADV_DONTNEED)
                self._begun = self.received
        except OSError as error:
            raise disk_error(error, self._path) from error

    def finish(self) -> None:
        """Prove the blob and stage it; durable when it returns.

        Raises:
            InvalidInputError: `blob-mismatch`; nothing was stored.
            UnavailableError: `disk-full`, `io`.
        """
        if self.received != self.size:
            raise mismatch(self.name, self.size, f"{self.received} bytes came")
        self._hashing.result()
        if self._hash.hexdigest() != self.name:
            raise mismatch(self.name, self.size, f"what came hashes to {self._hash.hexdigest()[:12]}")
        if self._small is not None:
            self._staging.add([(self.name, bytes(self._small))])
            return
        try:
            os.fdatasync(self._fd)
            final = self._staging.folder / "large" / self.name
            os.rename(self._path, final)
            sync_folder(final.parent)
        except OSError as error:
            raise disk_error(error, self._path) from error
        self._close()
        self._staging.take_in(self._staging.large(final, self.size))

    def _digest(self, data: bytes | memoryview) -> None:
        """Hash the next bytes: of much, while it is being written and the next is on its way."""
        self._hashing.result()
        if len(data) >= _MUCH:
            self._hashing = self._staging.hashers.submit(self._hash.update, data)
        else:
            self._hash.update(data)

    def drop(self) -> None:
        """Forget what came."""
        self._close()
        self._small = None
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
