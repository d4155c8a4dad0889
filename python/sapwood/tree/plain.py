"""A plain directory as a tree, without an index: read when looked at, hashed when asked.

Promise: a directory is listed once, a file hashed at most once; a file that was touched after it was listed is an error
(`file-changing`), never another content. Sockets are left out. Hard links stand each alone, as with an index.
Not here: remembering digests from run to run (`index`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from sapwood.digests import TreeDigest
from sapwood.errors import InvalidInputError
from sapwood.tree import disk
from sapwood.tree.source import joined, shown
from sapwood.tree.tree import Tree

__all__ = ["read_plain"]

_KINDS = {
    stat.S_IFDIR: "dir",
    stat.S_IFREG: "reg",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


def read_plain(directory: str | os.PathLike[str]) -> Tree:
    """Return a directory as a tree; each part of it is as it was when first looked at.

    Raises:
        NotFoundError: `path-missing`.
        InvalidInputError: `not-a-directory`.
    """
    root = os.path.abspath(os.fsencode(directory))
    if os.path.lexists(root) and not os.path.isdir(root):
        raise InvalidInputError(f"{shown(root)} is not a directory", kind="not-a-directory", path=root)
    return Tree.from_source(_Plain(root))


class _Entry:
    """What `lstat` said, and the digest once it was asked for."""

    __slots__ = ("_digest", "_root", "path", "seen", "stat", "target")

    links = 1

    def __init__(self, root: bytes, path: bytes, found: os.stat_result, target: bytes | None) -> None:
        self._root = root
        self.path = path
        self.stat = found
        self.seen = disk.seen_of(found)
        self.target = target
        self._digest: str | None = None

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    @property
    def kind(self) -> str:
        return _KINDS[stat.S_IFMT(self.stat.st_mode)]

    @property
    def size(self) -> int:
        return self.stat.st_size if self.kind in ("reg", "symlink") else 0

    @property
    def mode(self) -> int:
        return stat.S_IMODE(self.stat.st_mode)

    @property
    def uid(self) -> int:
        return self.stat.st_uid

    @property
    def gid(self) -> int:
        return self.stat.st_gid

    @property
    def mtime_ns(self) -> int:
        return self.stat.st_mtime_ns

    @property
    def device(self) -> tuple[int, int] | None:
        if self.kind not in ("char", "block"):
            return None
        return os.major(self.stat.st_rdev), os.minor(self.stat.st_rdev)

    @property
    def xattrs(self) -> dict[bytes, bytes]:
        return {}

    @property
    def digest(self) -> str | None:
        if self._digest is None and self.kind == "reg":
            import hashlib

            taken = hashlib.sha256()
            for piece in self.read():
                taken.update(piece)
            self._digest = f"sha256:{taken.hexdigest()}"
        return self._digest

    def read(self) -> Iterator[bytes]:
        return disk.read_proved(self._root, self.path, digest=self._digest, seen=self.seen)


class _Plain:
    """A directory as a source."""

    digest: TreeDigest | None = None

    def __init__(self, root: bytes) -> None:
        self._root = root
        with disk.opened_directory(root, b"") as handle:
            self._top = _Entry(root, b"", os.fstat(handle), None)
        self._folders: dict[bytes, dict[bytes, _Entry]] = {}

    def hashed(self) -> None:
        return None

    def lookup(self, path: bytes) -> _Entry | None:
        at = self._top
        for name in path.split(b"/") if path else ():
            below = self._folder(at.path).get(name) if at.kind == "dir" else None
            if below is None:
                return None
            at = below
        return at

    def list(self, path: bytes) -> Sequence[_Entry]:
        return list(self._folder(path).values())

    def read(self, entry: _Entry) -> Iterator[bytes]:
        return entry.read()

    def listing(self, path: bytes) -> None:  # noqa: ARG002
        return None

    def _folder(self, path: bytes) -> dict[bytes, _Entry]:
        if path not in self._folders:
            with disk.opened_directory(self._root, path) as handle:
                found = (self._seen(handle, path, os.fsencode(name)) for name in sorted(os.listdir(handle)))
                entries = sorted((entry for entry in found if entry is not None), key=lambda entry: entry.name)
            # What another thread has listed meanwhile holds.
            self._folders.setdefault(path, {entry.name: entry for entry in entries})
        return self._folders[path]

    def _seen(self, handle: int, folder: bytes, name: bytes) -> _Entry | None:
        try:
            found = os.stat(name, dir_fd=handle, follow_symlinks=False)
            target = os.readlink(name, dir_fd=handle) if stat.S_ISLNK(found.st_mode) else None
        except FileNotFoundError:
            return None
        except OSError as error:  # no symlink any more
            raise disk.changed(os.path.join(self._root, folder, name)) from error
        return None if stat.S_ISSOCK(found.st_mode) else _Entry(self._root, joined(folder, name), found, target)
