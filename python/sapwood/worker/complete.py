"""All inputs of an action, before its command starts.

Invariant: when `bring_all` returns, each directory and each blob of the tree was fetched and proved, and is in the
cache, and stays there (`pins`). Each is looked at once, however often the tree has it. Small files that the CAS has
come many in a call. Not here: fetching all else, which the mount does for us as for whoever reads it
(`sapwood.mount.blobs`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from sapwood.errors import CorruptError, SapwoodError, StoppedError, UnavailableError
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
# Files that come in one call: so many, of so many bytes together and each; and how many such calls at a time.
_IN_A_CALL = 500
_CALL_BYTES = 2 << 20
_SMALL_BYTES = 256 << 10
_CALLS = 8
_TICK_S = 0.1


def bring_all(
    root: Name,
    directories: Directories,
    blobs: RemoteBlobs,
    mount: BlobMount,
    tree: Path,
    pins: Pins,
    cancel: threading.Event,
) -> int:
    """Have all of the tree below `root`, which `mount` has of `blobs` at `tree`, here, and pinned.

    Return the bytes of files that were fetched without the mount having asked for them.

    Raises:
        StoppedError: `stopped`: `cancel` was set meanwhile.
        CorruptError: `damaged`: a directory that no tree can have.
        SapwoodError: why an input cannot be had: as `BlobMount.lost`, `Directories.read`, `RemoteBlobs.read`.
    """
    begun: deque[Future[None]] = deque()
    # Calls that are under way, and the files beside theirs that are read each by itself.
    called: deque[tuple[list[Future[tuple[int, list[bytes]]]], list[bytes]]] = deque()
    fetched = 0
    readers = ThreadPoolExecutor(_READERS, "sapwood-complete")
    callers = ThreadPoolExecutor(_CALLS, "sapwood-complete-call")

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

    def touch(paths: Iterable[bytes]) -> None:
        for path in paths:
            begun.append(readers.submit(_touch, os.path.join(os.fsencode(tree), path)))
            if len(begun) > _WAITING:
                ended(begun.popleft())

    def take() -> None:
        nonlocal fetched
        calls, paths = called.popleft()
        for call in calls:
            size, left = ended(call)
            fetched += size
            paths += left
        # Only now: the mount would fetch what lies beside them, too.
        touch(paths)

    try:
        for files in _files(root, messages_of, mount, pins):
            absent = set(mount.absent(list(files)))
            small = {blob: path for blob, path in files.items() if blob in absent and blob[1] <= _SMALL_BYTES}
            calls = [callers.submit(_fetch, part, blobs, mount) for part in _calls(small)]
            called.append((calls, [path for blob, path in files.items() if blob not in small]))
            if len(called) > 1:
                take()
        while called:
            take()
        while begun:
            ended(begun.popleft())
        return fetched
    except OSError as error:
        raise mount.lost or UnavailableError(f"an input cannot be read: {error.strerror}", kind="io") from error
    finally:
        # One that still reads is answered when the mount ends.
        readers.shutdown(wait=False, cancel_futures=True)
        callers.shutdown(wait=False, cancel_futures=True)


def _files(
    root: Name, messages_of: Callable[[list[Name]], dict[Name, bytes]], mount: BlobMount, pins: Pins
) -> Iterator[dict[Name, bytes]]:
    """Yield each blob with a path of it, many together; the mount has its directories by then, and it is pinned."""
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
        yield found


def _calls(files: dict[Name, bytes]) -> Iterator[dict[Name, bytes]]:
    """Yield parts of some files, each for one call."""
    part: dict[Name, bytes] = {}
    room = _CALL_BYTES
    for blob, path in files.items():
        if part and (blob[1] > room or len(part) == _IN_A_CALL):
            yield part
            part, room = {}, _CALL_BYTES
        part[blob] = path
        room -= blob[1]
    if part:
        yield part


def _fetch(files: dict[Name, bytes], blobs: RemoteBlobs, mount: BlobMount) -> tuple[int, list[bytes]]:
    """Bring the files that the CAS has; return their bytes, and the paths of the others, which are read each by itself.

    What goes wrong here goes wrong again there, where it is tried again, and told of.
    """
    size, left = 0, dict(files)
    with contextlib.suppress(SapwoodError):
        here = blobs.present(list(files))
        found = blobs.read_many(here) if here else {}
        for blob in here:
            # The core keeps a file as it keeps a directory: by its digest.
            mount.deliver_directory(found[blob])
            size += blob[1]
            del left[blob]
    return size, list(left.values())


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
