"""A tree in plain form: files in a directory.

Promise: the directory has its name when all is there and proved, and not before; a crash leaves at most a directory
beside it that the next one clears away (`destination`). No name can write elsewhere. Names of one inode become hard
links again where the source tells them. Not here: owners, attributes and holes, which a pull restores.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from sapwood.destination import appearing, writing
from sapwood.tree import disk
from sapwood.tree.leaf import Leaf
from sapwood.tree.source import check_name, joined
from sapwood.tree.tree import Tree

__all__ = ["write_plain"]

_SET_ID = stat.S_ISUID | stat.S_ISGID


def write_plain(tree: Tree, directory: str | os.PathLike[str]) -> None:
    """Write a tree to `directory`, which is missing or empty, with modes and, where they are known, times.

    Without its owner a file has no set-id bits.

    Raises:
        InvalidInputError: `not-empty`, `not-a-directory`, `mount-point`; `bad-name`: a source gave such a name.
        DeniedError: `path-denied`; only root can make devices.
        ConflictError, UnavailableError, NotFoundError: as `OpenStore.pull`.
        SapwoodError: what reading the tree raises.
    """
    with appearing(directory) as (work, target):
        _Writer(os.fsencode(work), os.fsencode(target)).write(tree)


class _Writer:
    def __init__(self, root: bytes, target: bytes) -> None:
        self._root = root
        self._target = target
        self._firsts: dict[tuple[int, bytes], bytes] = {}

    def write(self, tree: Tree) -> None:
        todo: list[tuple[bytes, Tree]] = [(b"", tree)]
        folders: list[tuple[bytes, int, int | None]] = []
        while todo:
            path, folder = todo.pop()
            folders.append((path, folder.mode, folder.mtime_ns))
            with disk.opened_directory(self._root, path) as handle:
                for name, item in folder.items.items():
                    check_name(name)
                    below = joined(path, name)
                    with self._writing(below):
                        if isinstance(item, Tree):
                            os.mkdir(name, 0o700, dir_fd=handle)
                            todo.append((below, item))
                        else:
                            self._put(handle, name, below, item)
        # Last, and from below: what is written into a directory changes its time, and its mode may forbid it.
        for path, mode, mtime_ns in reversed(folders):
            with self._writing(path), disk.opened_directory(self._root, path) as handle:
                os.fchmod(handle, mode)
                _date(handle, mtime_ns)

    def _put(self, handle: int, name: bytes, path: bytes, leaf: Leaf) -> None:
        if leaf.inode is not None:
            first = self._firsts.setdefault(leaf.inode, path)
            if first != path:
                folder, _, other = first.rpartition(b"/")
                with disk.opened_directory(self._root, folder) as there:
                    os.link(other, name, src_dir_fd=there, dst_dir_fd=handle, follow_symlinks=False)
                return
        leaf = leaf.resolved()
        if leaf.kind == "reg":
            _write_file(handle, name, leaf)
            return
        if leaf.kind == "symlink":
            os.symlink(leaf.target or b"", name, dir_fd=handle)
        elif leaf.kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=handle)
        else:
            kind = stat.S_IFCHR if leaf.kind == "char" else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(*(leaf.device or (0, 0))), dir_fd=handle)
        if leaf.kind != "symlink":
            os.chmod(name, leaf.mode, dir_fd=handle)
        if leaf.mtime_ns is not None:
            os.utime(name, ns=(leaf.mtime_ns, leaf.mtime_ns), dir_fd=handle, follow_symlinks=False)

    @contextmanager
    def _writing(self, path: bytes) -> Iterator[None]:
        with writing(os.fsdecode(os.path.join(self._target, path))):
            yield


def _write_file(handle: int, name: bytes, leaf: Leaf) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=handle)
    with os.fdopen(file, "wb", buffering=0) as out:
        for piece in leaf.read():
            rest = memoryview(piece)
            while rest:
                rest = rest[out.write(rest) :]
        is_ours = (leaf.uid, leaf.gid) == (os.geteuid(), os.getegid())
        os.fchmod(file, leaf.mode if is_ours else leaf.mode & ~_SET_ID)
        _date(file, leaf.mtime_ns)


def _date(handle: int, mtime_ns: int | None) -> None:
    if mtime_ns is not None:
        os.utime(handle, ns=(mtime_ns, mtime_ns))
