"""Pull: a snapshot into a directory.

Promise: the directory has its name when all is there and right, and not before; an interrupted pull leaves nothing.
Not here: proving and writing (the core), fetching (`fetch`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sapwood._core.pull import Pull
from sapwood.digests import TreeDigest
from sapwood.errors import ConflictError, DeniedError, InvalidInputError, NotFoundError, SapwoodError, UnavailableError
from sapwood.fetch import fetch_all, load_map
from sapwood.progress import OnProgress, Progress, counter

if TYPE_CHECKING:
    from sapwood.store.snapshot import Snapshot
    from sapwood.store.store import Store

__all__ = ["Pulled", "pull"]


@dataclass(frozen=True)
class Pulled:
    """What a pull did. `notes` name what this user or file system could not set."""

    tree: TreeDigest
    files: int
    bytes: int
    bytes_fetched: int
    requests: int
    notes: tuple[str, ...]
    seconds: float


def pull(
    store: Store, snapshot: Snapshot, destination: str | os.PathLike[str], *, progress: OnProgress | None = None
) -> Pulled:
    """Write the tree of `snapshot` to `destination`, which is missing or an empty directory.

    Raises:
        InvalidInputError: `not-empty`, `not-a-directory`.
        ConflictError: `pull-running`: another pull is writing to the same place.
        CorruptError, NotFoundError: something in the store is damaged or missing; it is named.
        UnavailableError, DeniedError: the store, or the disk.
    """
    started = time.monotonic()
    target = Path(os.path.abspath(destination))
    _check(target)
    with _working_directory(target) as work:
        file_map = load_map(store, snapshot, pages=True)
        run = Pull(file_map, work)
        fetched = fetch_all(store, run, _reporter(progress, run.bytes_needed))
        files, size, notes = run.finish(counter(progress))
        with _named(target):
            os.rename(work, target)
    return Pulled(
        tree=snapshot.tree,
        files=files,
        bytes=size,
        bytes_fetched=fetched.bytes,
        requests=fetched.requests,
        notes=tuple(notes),
        seconds=time.monotonic() - started,
    )


def _reporter(progress: OnProgress | None, total: int) -> Callable[[int], None]:
    if progress is None:
        return lambda _: None
    return lambda done: progress(Progress(0, 0, done, total))


def _check(target: Path) -> None:
    with _named(target):
        try:
            mode = target.lstat().st_mode
        except FileNotFoundError:
            if not target.parent.is_dir():
                raise NotFoundError(
                    f"{target.parent} is missing", kind="path-missing", hint=f"mkdir -p {target.parent}"
                ) from None
            return
        if not stat.S_ISDIR(mode):
            raise InvalidInputError(f"{target} is not a directory", kind="not-a-directory")
        if any(target.iterdir()):
            raise InvalidInputError(f"{target} is not empty", kind="not-empty", hint="name a new or an empty directory")


@contextmanager
def _working_directory(target: Path) -> Iterator[Path]:
    """A directory beside `target`, locked as long as it is worked in, gone at the end unless it was renamed."""
    work = target.with_name(f".{target.name}.sapwood-partial")
    with _named(work):
        handle = _claim(work)
    try:
        with _named(work):
            # Left by a pull that was killed: nobody holds its lock.
            _clear(work, keep=True)
        yield work
    finally:
        if work.exists() and os.path.samestat(os.fstat(handle), work.stat()):
            _clear(work, keep=False)
        os.close(handle)


def _claim(work: Path) -> int:
    work.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ConflictError(
            f"another pull is writing to {work}", kind="pull-running", hint="wait for it to end"
        ) from None
    return handle


def _clear(work: Path, *, keep: bool) -> None:
    """Remove what is in `work`, and itself unless `keep`, whatever modes its directories have by now."""
    os.chmod(work, 0o700)
    for folder, names, _ in os.walk(work):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    for entry in list(os.scandir(work)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    if not keep:
        work.rmdir()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what the system says of `path` into our errors."""
    try:
        yield
    except SapwoodError:
        raise
    except PermissionError as error:
        raise DeniedError(f"cannot write {path}: {error.strerror}", kind="path-denied") from error
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}", kind="io") from error
