"""A directory that is written: in one piece, or, if there is something in it, by one pull at a time.

Promise: a new one has its name when all is there, and not before; what is interrupted leaves nothing, what is killed a
directory beside it, `.NAME.sapwood-partial`, which the next one clears away.
Not here: what is written (`pull`, `tree.write`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sapwood.errors import ConflictError, DeniedError, InvalidInputError, NotFoundError, SapwoodError, UnavailableError

__all__ = ["appearing", "being_written", "is_filled", "writing"]

_LONGEST_NAME = 255


def is_filled(destination: str | os.PathLike[str]) -> bool:
    """Say whether there is a directory with something in it."""
    target = Path(os.path.abspath(destination))
    with writing(target):
        try:
            return stat.S_ISDIR(target.lstat().st_mode) and any(target.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return False


@contextmanager
def being_written(destination: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the absolute path of a directory that nobody else pulls into until the block ends.

    Raises:
        ConflictError: `pull-running`.
        UnavailableError, DeniedError: the disk.
    """
    target = os.path.abspath(destination)
    with writing(target):
        handle = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with writing(target):
            _lock(handle, target)
        yield target
    finally:
        os.close(handle)


@contextmanager
def appearing(destination: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """Yield a directory to fill and the name it takes when the block ends well: `destination`, missing or empty.

    Raises:
        InvalidInputError: `not-empty`, `not-a-directory`, `mount-point`.
        NotFoundError: `path-missing`: where it would be.
        ConflictError: `pull-running`: another is writing to the same place.
        UnavailableError, DeniedError: the disk.
    """
    target = Path(os.path.abspath(destination))
    _check(target)
    with _working_directory(target) as work:
        yield work, target
        with writing(target):
            os.rename(work, target)


def _check(target: Path) -> None:
    with writing(target):
        try:
            mode = target.lstat().st_mode
        except FileNotFoundError:
            if not target.parent.is_dir():
                raise NotFoundError(
                    f"{target.parent} is missing", kind="path-missing", hint=f"mkdir -p {target.parent}"
                ) from None
            return
        except NotADirectoryError:
            above = next(above for above in target.parents if os.path.exists(above))
            raise InvalidInputError(f"{above} is not a directory", kind="not-a-directory") from None
        if stat.S_ISLNK(mode):
            raise InvalidInputError(
                f"{target} is a symbolic link to {os.readlink(target)}, no directory itself",
                kind="not-a-directory",
                hint=f"name the directory: {os.path.realpath(target)}",
            )
        if not stat.S_ISDIR(mode):
            raise InvalidInputError(f"{target} is not a directory", kind="not-a-directory")
        if any(target.iterdir()):
            raise InvalidInputError(f"{target} is not empty", kind="not-empty", hint="name a new or an empty directory")
        if os.path.ismount(target):
            raise InvalidInputError(
                f"{target} is a mount point, which cannot be replaced",
                kind="mount-point",
                hint=f"name a directory in it: {target}/tree",
            )


@contextmanager
def _working_directory(target: Path) -> Iterator[Path]:
    """A directory beside `target`, locked as long as it is worked in, gone at the end unless it was renamed."""
    work = target.with_name(_working_name(target.name))
    # The user knows nothing of the one beside it.
    with writing(target):
        handle = _claim(work)
    try:
        with writing(work):
            # Left by a pull that was killed: nobody holds its lock.
            _clear(handle)
        yield work
    finally:
        if _is_still(work, handle):
            _clear(handle)
            work.rmdir()
        os.close(handle)


def _working_name(name: str) -> str:
    beside = f".{name}.sapwood-partial"
    if len(os.fsencode(beside)) <= _LONGEST_NAME:
        return beside
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.sapwood-partial"


def _claim(work: Path) -> int:
    """Make the directory if need be, lock it, and return it open."""
    while True:
        work.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _lock(handle, work)
        except ConflictError:
            os.close(handle)
            raise
        if _is_still(work, handle):
            return handle
        # Its pull has just ended and renamed or removed it.
        os.close(handle)


def _lock(handle: int, path: str | Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError(f"another is writing to {path}", kind="pull-running", hint="wait for it to end") from None


def _is_still(work: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), work.lstat())
    except FileNotFoundError:
        return False


def _clear(handle: int) -> None:
    """Remove everything in a directory, whatever its modes and however deep: what lies below is brought to the top."""
    os.fchmod(handle, 0o700)
    while names := os.listdir(handle):
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=handle)
                continue
            os.chmod(name, 0o700, dir_fd=handle)
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            try:
                for below in os.scandir(folder):
                    if below.is_dir(follow_symlinks=False):
                        os.chmod(below.name, 0o700, dir_fd=folder)
                        os.rename(below.name, secrets.token_hex(16), src_dir_fd=folder, dst_dir_fd=handle)
                    else:
                        os.unlink(below.name, dir_fd=folder)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=handle)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says of `path`, which is being written, into our errors."""
    try:
        yield
    except SapwoodError:
        raise
    except PermissionError as error:
        raise DeniedError(f"cannot write {path}: {error.strerror}", kind="path-denied") from error
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise UnavailableError(
            f"cannot write {path}: {error.strerror}",
            kind="disk-full" if is_full else "io",
            hint="free some space and run it again" if is_full else None,
        ) from error
