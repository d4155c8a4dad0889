"""All inputs of an action, before its command starts.

Invariant: when `bring_all` returns, each directory and each blob of the tree was fetched and proved, and is in the
cache, and stays there (`pins`). Each is looked at once, however often the tree has it. Not here: fetching, which the
mount does for us as for whoever reads it (`sapwood.mount.blobs`).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from sapwood.errors import CorruptError, StoppedError, UnavailableError
from sapwood.mount.blobs import BlobMount
from sapwood.reapi.cas import Name, name_of
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.worker.inputs import Directories, RemoteBlobs
from sapwood.worker.pins import Pins

__all__ = ["bring_all"]

_T = TypeVar("_T")

_READERS = 64
# Files that are known and wait for a reader.
_WAITING = 1_000
_TOGETHER = 100
_TICK_S = 0.1


def bring_all(
    root: Name,
    directories: Directories,
    blobs: RemoteBlobs,
    mount: BlobMount,
    tree: Path,
    pins: Pins,
    cancel: threading.Event,
) -> None:
    """Have all of the tree below `root`, which `mount` has of `blobs` at `tree`, here, and pinned.

    Raises:
        StoppedError: `stopped`: `cancel` was set meanwhile.
        CorruptError: `damaged`: a directory that no tree can have.
        SapwoodError: why an input cannot be had: as `BlobMount.lost`, `Directories.read`, `RemoteBlobs.read`.
    """
    begun: deque[Future[None]] = deque()
    readers = ThreadPoolExecutor(_READERS, "sapwood-complete")

    def ended(future: Future[_T]) -> _T:
        while True:
            # Whoever waits longer has another look.
            wait([future], _TICK_S)
            if cancel.is_set():
                raise mount.lost or StoppedError("the lease is not ours any more", kind="stopped")
            if future.done():
                return future.result()

    def messages_of(names: list[Name]) -> dict[Name, bytes]:
        here = ended(readers.submit(blobs.present, names))
        # What is only promised comes by a call of its own, which may take long.
        late = {name: readers.submit(_directory, blobs, name) for name in names if name not in here}
        found = ended(readers.submit(directories.read_many, here))
        return found | {name: ended(future) for name, future in late.items()}

    try:
        for path in _files(root, messages_of, mount, pins):
            begun.append(readers.submit(_touch, os.path.join(os.fsencode(tree), path)))
            if len(begun) > _WAITING:
                ended(begun.popleft())
        while begun:
            ended(begun.popleft())
    except OSError as error:
        raise mount.lost or UnavailableError(f"an input cannot be read: {error.strerror}", kind="io") from error
    finally:
        # One that still reads is answered when the mount ends.
        readers.shutdown(wait=False, cancel_futures=True)


def _files(
    root: Name, messages_of: Callable[[list[Name]], dict[Name, bytes]], mount: BlobMount, pins: Pins
) -> Iterator[bytes]:
    """Yield a path of each blob; the mount has its directories by then, and it is pinned."""
    known, blobs = {root}, set[Name]()
    todo = deque([(b"", root)])
    while todo:
        part = [todo.popleft() for _ in range(min(_TOGETHER, len(todo)))]
        messages = messages_of([name for _, name in part])
        found: dict[Name, bytes] = {}
        for path, name in part:
            mount.deliver_directory(messages[name])
            directory = _decoded(messages[name])
            for node in directory.directories:
                below = name_of(node.digest)
                if below not in known:
                    known.add(below)
                    todo.append((_below(path, node.name), below))
            for node in directory.files:
                blob = name_of(node.digest)
                if blob[1] and blob not in blobs:
                    blobs.add(blob)
                    found[blob] = _below(path, node.name)
        pins.add(found)
        yield from found.values()


def _directory(blobs: RemoteBlobs, name: Name) -> bytes:
    found = blobs.read(name)
    if isinstance(found, Path):
        file, found = found, found.read_bytes()
        file.unlink()
    if hashlib.sha256(found).hexdigest() != name[0]:
        raise CorruptError(f"directory {name[0][:12]} is not what its name says", kind="blob-corrupt", digest=name[0])
    return found


def _below(path: bytes, name: str) -> bytes:
    # What leads elsewhere is no name: no file of this machine is looked at.
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise CorruptError("the input root has a directory with a name that is none", kind="damaged")
    return os.path.join(path, os.fsencode(name))


def _decoded(message: bytes) -> Any:
    try:
        return reapi.Directory.FromString(message)
    except DecodeError as error:
        raise CorruptError("the input root has a directory that is none", kind="damaged") from error


def _touch(path: bytes) -> None:
    """Read the first byte of a file, which is given out when all of it is here and proved."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pread(file, 1, 0)
    finally:
        os.close(file)
