"""The index of a working directory: hashing it costs what changed.

Promise: a digest is never wrong, whatever happened to the state on disk; damage there costs time only.
Not here: the records (the core), reading the directory as a tree (`working`, `live`), pushing what changed (`push`).
What `sapwood hash` waits for: import at the top only what every hash needs (docs/decisions/0008-start-up.md).
"""

from __future__ import annotations

import os
import stat

from sapwood import places
from sapwood._core import digest as core_digest
from sapwood._core import tree as core
from sapwood.errors import DeniedError, FormatError, NotFoundError
from sapwood.tree.options import Options

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from sapwood.digests import TreeDigest
    from sapwood.progress import OnProgress
    from sapwood.tree.inspection import FileId, Verified
    from sapwood.tree.source import Entry
    from sapwood.tree.tree import Item, Tree

__all__ = ["Hashed", "Index", "Status", "default_index_path", "hash_tree", "status", "watcher_name"]


class Hashed:
    """A tree digest, and what it took. `size` is that of the root's Directory message; sizes in bytes."""

    __slots__ = (
        "bytes",
        "bytes_hashed",
        "digest",
        "directories",
        "files",
        "files_hashed",
        "size",
        "symlinks",
        "unreadable",
    )

    def __init__(
        self,
        *,
        digest: TreeDigest,
        size: int,
        files: int,
        directories: int,
        symlinks: int,
        bytes: int,  # noqa: A002 - the name of the field
        files_hashed: int,
        bytes_hashed: int,
        unreadable: tuple[builtins.bytes, ...],
    ) -> None:
        self.digest = digest
        self.size = size
        self.files = files
        self.directories = directories
        self.symlinks = symlinks
        self.bytes = bytes
        self.files_hashed = files_hashed
        self.bytes_hashed = bytes_hashed
        self.unreadable = unreadable

    def __repr__(self) -> str:
        return f"<Hashed {self.digest[:19]}, {self.files_hashed} of {self.files} files hashed>"


class Status:
    """Paths that differ from the last hash or push, sorted. `fresh`: there was none, so all is added.

    Nothing is said of what is `unreadable`.
    """

    __slots__ = ("added", "changed", "fresh", "removed", "unreadable")

    def __init__(
        self,
        *,
        added: tuple[bytes, ...],
        changed: tuple[bytes, ...],
        removed: tuple[bytes, ...],
        unreadable: tuple[bytes, ...],
        fresh: bool,
    ) -> None:
        self.added = added
        self.changed = changed
        self.removed = removed
        self.unreadable = unreadable
        self.fresh = fresh

    def __repr__(self) -> str:
        return f"<Status {len(self.added)} added, {len(self.changed)} changed, {len(self.removed)} removed>"


def default_index_path(root: str | os.PathLike[str], options: Options | None = None) -> str:
    """Return where the state of `root` is kept unless told otherwise: docs/format.md, "Index"."""
    return os.path.join(places.index_dir(), f"{watcher_name(root, options or Options())}.index")


def watcher_name(root: str | os.PathLike[str], options: Options) -> str:
    """Return the name of the default index of `root`, which is that of its watcher too: docs/watch.md."""
    place = os.fsencode(os.path.realpath(root))
    return core_digest.sha256(place + b"\0" + options.key if options.key else place)[:32]


class Index:
    """The state of the directory `root`, kept at `path`."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        path: str | os.PathLike[str] | None = None,
        options: Options | None = None,
    ) -> None:
        self.options = options or Options()
        self._root = os.fspath(root)
        self._path = os.fspath(path) if path is not None else default_index_path(root, options)

    def __repr__(self) -> str:
        return f"Index({self._root!r}, {self._path!r})"

    @property
    def root(self) -> Path:
        """The directory."""
        from pathlib import Path

        return Path(self._root)

    @property
    def path(self) -> Path:
        """Where its state is kept."""
        from pathlib import Path

        return Path(self._path)

    def hash(self, *, progress: OnProgress | None = None) -> Hashed:
        """Hash what changed, bring the state on disk up to date, return the tree digest.

        Raises:
            DeniedError: `path-denied`; `paths` are all that may not be read, unless they are to be skipped.
            UnavailableError: `file-changing`.
            NotFoundError, InvalidInputError: the root is missing, or no directory.
        """
        if answer := self._ask("hash", progress):
            digest, size, files, directories, symlinks, total, files_hashed, bytes_hashed, unreadable = answer
            return Hashed(
                digest=digest,
                size=size,
                files=files,
                directories=directories,
                symlinks=symlinks,
                bytes=total,
                files_hashed=files_hashed,
                bytes_hashed=bytes_hashed,
                unreadable=self._below(unreadable),
            )
        return self._hash(progress)[1]

    def status(self, *, progress: OnProgress | None = None) -> Status:
        """Say what changed since the last hash or push, and leave the state as it is; errors as `hash`."""
        if answer := self._ask("status", progress):
            added, changed, removed = map(_paths, answer[:3])
            unreadable = self._below(answer[3])
            return Status(added=added, changed=changed, removed=removed, unreadable=unreadable, fresh=False)
        *lists, fresh = core.status(self._root, self._path, self.options, _counter(progress))
        added, changed, removed, unreadable = map(tuple, lists)
        return Status(added=added, changed=changed, removed=removed, unreadable=unreadable, fresh=fresh)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        root: str | os.PathLike[str],
        options: Options | None = None,
        *,
        progress: OnProgress | None = None,
    ) -> Tree:
        """Return the directory `root` as a lazy tree over the index at `path`.

        A directory is looked at when it is expanded: what is out of date in it is hashed and the index brought up to
        date, in place. Without a usable index all names are listed at once, and files are hashed as directories are
        expanded. Asking for the digest looks at everything. Errors as `hash`, when a directory is looked at.
        """
        from sapwood._core.index import Live
        from sapwood.tree.live import LiveDirectory
        from sapwood.tree.tree import Tree

        _make_folder(path)
        counted = _counter(progress)
        return Tree.from_source(LiveDirectory(root, Live(root, path, options or Options(), counted), counted))

    def update_from(self, tree: Tree) -> None:
        """Make the index that of `tree`, whose plain form lies in the directory.

        It then has the entries of `tree` and no others: `status` tells what else is in the directory as added, and what
        is not as the tree says as changed. Files of the right size are read, unless the index knew them.

        Raises:
            NotFoundError: `path-missing`; `paths` are all that do not exist in plain form.
        """
        from sapwood._core.index import adopt

        _make_folder(self._path)
        adopt(self._root, self._path, [_given(path, item) for path, item in [(b"", tree), *tree.list()]], self.options)

    @staticmethod
    def is_valid_format(path: str | os.PathLike[str]) -> bool:
        """Say whether there is an index at `path` that this sapwood reads: header, names and structure are whole."""
        from sapwood._core.index import is_valid_format

        try:
            return is_valid_format(path, Options().threads)
        except FormatError:
            return False

    def file_ids(self) -> list[FileId]:
        """Return the identity of each entry as the index has it, so that a renamed file can be recognised."""
        from sapwood._core.index import file_ids
        from sapwood.tree.inspection import FileId

        return [FileId(*found) for found in file_ids(self._path, self.options.threads)]

    def verify(self) -> Verified:
        """Check the index itself, without the directory.

        Raises:
            NotFoundError: `missing`: there is none.
            FormatError: `format-newer`.
        """
        from sapwood._core.index import verify
        from sapwood.tree.inspection import Verified

        records, wrong = verify(self._path, self.options.threads)
        return Verified(records, tuple(wrong))

    def describe(self, path: bytes) -> dict[str, Any]:
        """Return what the record of `path` says, by field, and under `differs` what the disk says otherwise.

        Raises:
            NotFoundError: `path-missing`: the index has no record of it, or there is no index.
        """
        from sapwood._core.index import describe
        from sapwood.tree.source import shown

        found = describe(self._root, self._path, path.strip(b"/"), self.options.threads)
        if found is None:
            raise NotFoundError(
                f"the index has no record of {shown(path)}", kind="path-missing", hint=f"sapwood hash {self._root}"
            )
        return found

    def recorded(self, path: bytes) -> Entry | None:
        """Return the entry of `path` as it was hashed or pushed last, or None; the disk is not looked at."""
        from sapwood._core.index import Live

        above, _, name = path.rpartition(b"/")
        found = Live(self._root, self._path, self.options).recorded(above) or []
        return next((entry for entry in found if entry.name == name), None)

    def tree(self, *, progress: OnProgress | None = None) -> Tree:
        """Return the directory as a tree, as it is now; errors as `hash`."""
        state, hashed = self._hash(progress)
        from sapwood.tree.tree import Tree
        from sapwood.tree.working import WorkingDirectory

        return Tree.from_source(WorkingDirectory(self._root, state, hashed.digest))

    def _below(self, texts: list[str]) -> tuple[bytes, ...]:
        """Return the watcher's relative paths as a scan names them."""
        return tuple(os.path.join(os.fsencode(self._root), path) for path in _paths(texts))

    def _ask(self, what: str, progress: OnProgress | None) -> list[Any] | None:
        """Ask the watcher, if there is one; None: look for yourself."""
        socket = os.path.join(places.watch_dir(), f"{watcher_name(self._root, self.options)}.sock")
        if not os.path.exists(socket):
            return None
        from sapwood.tree.watched import ask

        return ask(socket, what, self._root, self._path, self.options, _counter(progress))

    def _hash(self, progress: OnProgress | None) -> tuple[core.State, Hashed]:
        _make_folder(self._path)
        state, numbers, unreadable = core.hash(self._root, self._path, self.options, _counter(progress))
        files, directories, symlinks, size, files_hashed, bytes_hashed = numbers
        hashed = Hashed(
            digest=state.digest,
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
    index: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    progress: OnProgress | None = None,
) -> Hashed:
    """Hash a directory; see `Index.hash`."""
    return Index(root, index, options).hash(progress=progress)


def status(
    root: str | os.PathLike[str],
    *,
    index: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    progress: OnProgress | None = None,
) -> Status:
    """Say what changed in a directory; see `Index.status`."""
    return Index(root, index, options).status(progress=progress)


_TYPES = {
    "dir": stat.S_IFDIR,
    "reg": stat.S_IFREG,
    "symlink": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
}


def _given(path: bytes, item: Item) -> tuple[bytes, int, tuple[str, int] | None, bytes]:
    """An item as the core takes it."""
    of = item.resolved()
    digest = (of.digest, of.size) if of.kind == "reg" and of.digest is not None else None
    target = of.target if of.kind == "symlink" and of.target is not None else b""
    return path, of.mode | _TYPES[of.kind], digest, target


def _counter(progress: OnProgress | None) -> Callable[[int, int, int, int], None] | None:
    if progress is None:
        return None
    from sapwood.progress import counter

    return counter(progress)


def _paths(texts: list[str]) -> tuple[bytes, ...]:
    return tuple(text.encode("utf-8", "surrogateescape") for text in texts)


def _make_folder(path: str | os.PathLike[str]) -> None:
    """Make the directory that an index is to lie in."""
    folder = os.path.dirname(path) or "."
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise DeniedError(
            f"cannot make {folder}: {error.strerror}",
            kind="path-denied",
            hint="name a place you may write to with --index or $SAPWOOD_CACHE",
        ) from error
