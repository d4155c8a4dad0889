"""The index of a working directory: hashing it costs what changed.

Promise: a digest is never wrong, whatever happened to the state on disk; damage there costs time only.
Not here: the records (the core), pushing what changed (`push`).
"""

from __future__ import annotations

import builtins
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sapwood import places
from sapwood._core import tree as core
from sapwood._core.filemap import Entry
from sapwood.digests import TreeDigest
from sapwood.errors import DeniedError, FormatError, NotFoundError
from sapwood.progress import OnProgress, counter
from sapwood.tree.files import read_file
from sapwood.tree.tree import Tree, shown

__all__ = ["FileId", "Hashed", "Index", "Status", "Verified", "default_index_path", "hash_tree", "status"]


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


class FileId(NamedTuple):
    """What the file system knows an entry by; `kind` as in `Entry`."""

    path: bytes
    kind: str
    dev: int
    ino: int


class Verified(NamedTuple):
    """How many records an index has, and a line for each thing that is wrong."""

    records: int
    wrong: tuple[str, ...]


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

    @classmethod
    def read(cls, path: Path, root: str | os.PathLike[str], *, skip_unreadable: bool = False) -> Tree:
        """Return the directory `root` as a lazy tree over the index at `path`.

        A directory is looked at when it is expanded: what is out of date in it is hashed and the index brought up to
        date, in place. Without a usable index all names are listed at once, and files are hashed as directories are
        expanded. Asking for the digest looks at everything. Errors as `hash`, when a directory is looked at.
        """
        from sapwood._core.index import Live
        from sapwood.tree.live import LiveDirectory

        _make_folder(path.parent)
        return Tree(LiveDirectory(root, Live(root, path, _threads(), skip_unreadable)))

    def update_from(self, tree: Tree) -> None:
        """Make the index that of `tree`, whose plain form lies in the directory.

        It then has the entries of `tree` and no others: `status` tells what else is in the directory as added, and what
        is not as the tree says as changed. Files of the right size are read, unless the index knew them.

        Raises:
            NotFoundError: `path-missing`; `paths` are all that do not exist in plain form.
        """
        from sapwood._core.index import adopt

        _make_folder(self.path.parent)
        adopt(self.root, self.path, [_given(tree, entry) for entry in tree.walk()], _threads())

    @staticmethod
    def is_valid_format(path: Path) -> bool:
        """Say whether there is an index at `path` that this sapwood reads: header, names and structure are whole."""
        from sapwood._core.index import is_valid_format

        try:
            return is_valid_format(path, _threads())
        except FormatError:
            return False

    def file_ids(self) -> list[FileId]:
        """Return the identity of each entry as the index has it, so that a renamed file can be recognised."""
        from sapwood._core.index import file_ids

        return [FileId(*found) for found in file_ids(self.path, _threads())]

    def verify(self) -> Verified:
        """Check the index itself, without the directory.

        Raises:
            NotFoundError: `missing`: there is none.
            FormatError: `format-newer`.
        """
        from sapwood._core.index import verify

        records, wrong = verify(self.path, _threads())
        return Verified(records, tuple(wrong))

    def describe(self, path: bytes) -> dict[str, Any]:
        """Return what the record of `path` says, by field, and under `differs` what the disk says otherwise.

        Raises:
            NotFoundError: `path-missing`: the index has no record of it, or there is no index.
        """
        from sapwood._core.index import describe

        found = describe(self.root, self.path, path.strip(b"/"), _threads())
        if found is None:
            raise NotFoundError(
                f"the index has no record of {shown(path)}", kind="path-missing", hint=f"sapwood hash {self.root}"
            )
        return found

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
        return read_file(os.path.join(os.fsencode(self._root), entry.path), entry.digest)


_TYPES = {
    "dir": stat.S_IFDIR,
    "reg": stat.S_IFREG,
    "symlink": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
}


def _given(tree: Tree, entry: Entry) -> tuple[bytes, int, tuple[str, int] | None, bytes]:
    """An entry as the core takes it."""
    of = tree.lookup(entry.target) if entry.kind == "hardlink" and entry.target is not None else entry
    digest = (of.digest, of.size) if of.kind == "reg" and of.digest is not None else None
    target = of.target if of.kind == "symlink" and of.target is not None else b""
    return entry.path, of.mode | _TYPES[of.kind], digest, target


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
