"""The index of a working directory: hashing it costs what changed.

Promise: a digest is never wrong, whatever happened to the state on disk; damage there costs time only.
Not here: the records (the core), pushing what changed (`push`).
"""

from __future__ import annotations

import builtins
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sapwood import places
from sapwood._core import tree as core
from sapwood._core.filemap import Entry
from sapwood.digests import TreeDigest
from sapwood.errors import DeniedError, NotFoundError, UnavailableError
from sapwood.progress import OnProgress, counter
from sapwood.tree.tree import Tree, shown

__all__ = ["Hashed", "Index", "Status", "default_index_path", "hash_tree", "status"]

_PIECE = 1 << 20


@dataclass(frozen=True)
class Hashed:
    """A tree digest, and what it took. `size` is that of the root's Directory message; sizes in bytes."""

    digest: TreeDigest
    size: int
    files: int
    directories: int
    symlinks: int
    bytes: int
    files_hashed: int
    bytes_hashed: int
    unreadable: tuple[builtins.bytes, ...]


@dataclass(frozen=True)
class Status:
    """Paths that differ from the last hash or push, sorted. `fresh`: there was none, so all is added.

    Nothing is said of what is `unreadable`.
    """

    added: tuple[bytes, ...]
    changed: tuple[bytes, ...]
    removed: tuple[bytes, ...]
    unreadable: tuple[bytes, ...]
    fresh: bool


def default_index_path(root: str | os.PathLike[str]) -> Path:
    """Return where the state of `root` is kept unless told otherwise: docs/format.md, "Index"."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
    return places.cache_dir() / "index" / f"{name}.index"


class Index:
    """The state of the directory `root`, kept at `path`."""

    def __init__(self, root: str | os.PathLike[str], path: Path | None = None) -> None:
        self.root = Path(root)
        self.path = path or default_index_path(root)

    def __repr__(self) -> str:
        return f"Index({str(self.root)!r}, {str(self.path)!r})"

    def hash(self, *, skip_unreadable: bool = False, progress: OnProgress | None = None) -> Hashed:
        """Hash what changed, bring the state on disk up to date, return the tree digest.

        Raises:
            DeniedError: `path-denied`; `paths` are all that may not be read, unless they are to be skipped.
            UnavailableError: `file-changing`.
            NotFoundError, InvalidInputError: the root is missing, or no directory.
        """
        return self._hash(skip_unreadable, progress)[1]

    def status(self, *, progress: OnProgress | None = None) -> Status:
        """Say what changed since the last hash or push, and leave the state as it is; errors as `hash`."""
        found = core.status(self.root, self.path, _threads(), counter(progress))
        added, changed, removed, unreadable, fresh = found
        return Status(tuple(added), tuple(changed), tuple(removed), tuple(unreadable), fresh)

    def tree(self, *, progress: OnProgress | None = None) -> Tree:
        """Return the directory as a tree, as it is now; errors as `hash`."""
        state, hashed = self._hash(False, progress)
        return Tree(_Directory(self.root, state, hashed.digest))

    def _hash(self, skip_unreadable: bool, progress: OnProgress | None) -> tuple[core.State, Hashed]:
        _make_folder(self.path.parent)
        state, numbers, unreadable = core.hash(self.root, self.path, _threads(), skip_unreadable, counter(progress))
        files, directories, symlinks, size, files_hashed, bytes_hashed = numbers
        hashed = Hashed(
            digest=TreeDigest(state.digest),
            size=state.size,
            files=files,
            directories=directories,
            symlinks=symlinks,
            bytes=size,
            files_hashed=files_hashed,
            bytes_hashed=bytes_hashed,
            unreadable=tuple(unreadable),
        )
        return state, hashed


def hash_tree(
    root: str | os.PathLike[str],
    *,
    index: Path | None = None,
    skip_unreadable: bool = False,
    progress: OnProgress | None = None,
) -> Hashed:
    """Hash a directory; see `Index.hash`."""
    return Index(root, index).hash(skip_unreadable=skip_unreadable, progress=progress)


def status(root: str | os.PathLike[str], *, index: Path | None = None, progress: OnProgress | None = None) -> Status:
    """Say what changed in a directory; see `Index.status`."""
    return Index(root, index).status(progress=progress)


class _Directory:
    """A working directory as a source: entries from the state, contents from the disk, proved against it."""

    def __init__(self, root: Path, state: core.State, digest: TreeDigest) -> None:
        self._root = root
        self._state = state
        self._digest = digest

    @property
    def digest(self) -> TreeDigest:
        return self._digest

    def lookup(self, path: bytes) -> Entry | None:
        return self._state.lookup(path)

    def list(self, path: bytes) -> list[Entry]:
        return self._state.list(path)

    def read(self, entry: Entry) -> Iterator[bytes]:
        path = os.path.join(os.fsencode(self._root), entry.path)
        # A small file is proved before its first byte is given; of a large one nobody is told that it was right.
        with _opened(path) as file:
            digest = hashlib.sha256()
            held: list[bytes] = []
            while piece := file.read(_PIECE):
                digest.update(piece)
                held.append(piece)
                if len(held) > 1:
                    yield held.pop(0)
            if f"sha256:{digest.hexdigest()}" != entry.digest:
                raise _changed(path)
            yield from held


@contextmanager
def _opened(path: bytes) -> Iterator[BinaryIO]:
    """Open a regular file: neither through a symlink nor waiting for the writer of a FIFO that took its place."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFoundError(f"{shown(path)} is gone", kind="path-missing", path=path) from error
    except PermissionError as error:
        raise DeniedError(f"no permission to read {shown(path)}", kind="path-denied", path=path) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise _changed(path) from error
        raise UnavailableError(f"cannot read {shown(path)}: {error.strerror}", kind="io", path=path) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _changed(path)
    with os.fdopen(handle, "rb") as file:
        yield file


def _changed(path: bytes) -> UnavailableError:
    return UnavailableError(
        f"{shown(path)} changed while it was read", kind="file-changing", hint="try again", path=path
    )


def _threads() -> int:
    return os.cpu_count() or 1


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeniedError(
            f"cannot make {folder}: {error.strerror}",
            kind="path-denied",
            hint="name a place you may write to with --index or $SAPWOOD_CACHE",
        ) from error
