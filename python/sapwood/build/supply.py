"""What actions need of blobs, for a server that runs them: Directories and files, each by its name.

Promise: the Directory of an input root is known at once, and those below it level by level, while others are sent
already; a directory is taken once a build. A blob is read when it is asked for, and what is given is what its name
says. What lies in the server's own CAS is named, never read. Not here: sending (`remote`).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from sapwood.build.inputs import Folder, Node, node_of
from sapwood.build.remoteresult import RemoteResult
from sapwood.build.results import Result
from sapwood.build.sources import Disk, StoredTree
from sapwood.errors import InvalidInputError, NotFoundError, UnavailableError
from sapwood.reapi.cas import Name, Open, message_of
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.tree.disk import read_proved
from sapwood.tree.source import Entry, shown
from sapwood.tree.tree import Tree

__all__ = ["Needs", "Supply", "Walk"]

_PREFIX = len("sha256:")

TreeOf: TypeAlias = "Callable[[Result | StoredTree], Tree]"


@dataclass(frozen=True)
class Needs:
    """Blobs that an action needs: those that are here, and by whose result they are there those in the server's CAS."""

    ours: list[Name]
    theirs: dict[Name, RemoteResult]


@dataclass(frozen=True)
class _Taken:
    """What a directory names."""

    files: list[Name]
    directories: list[Name]
    theirs: dict[Name, RemoteResult]


class Supply:
    """The blobs of one build; `tree_of` gives the trees of stores that inputs lie in."""

    def __init__(self, tree_of: TreeOf) -> None:
        self._tree_of = tree_of
        self._blobs: dict[Name, Open] = {}
        self._taken: dict[Name, _Taken] = {}
        self._walking = 0
        self._changed = threading.Condition()

    def add(self, messages: Iterable[bytes]) -> list[Name]:
        """Take messages for blobs, and return their names."""
        names = []
        for data in messages:
            name = _name(data)
            self._blobs[name] = partial(iter, [data])
            names.append(name)
        return names

    def begin(self, root: Folder) -> Walk:
        """Take the Directory of an input root; who does must `Walk.finish`."""
        with self._changed:
            self._walking += 1
        return Walk(self, root)

    def open(self, name: Name) -> Iterator[bytes]:
        """Begin to read a blob; one that may turn up in a walk is waited for.

        Raises:
            NotFoundError: `blob-missing`: nothing here has it.
            UnavailableError: `source-changed`; when it is read.
        """
        with self._changed:
            self._changed.wait_for(lambda: name in self._blobs or not self._walking)
            found = self._blobs.get(name)
        if found is None:
            raise NotFoundError(f"blob {name[0][:12]} is not here", kind="blob-missing", digest=name[0])
        return iter(found())

    def needs(self, root: Name) -> Needs:
        """Return what an input root needs, once it has been walked through."""
        ours: dict[Name, None] = {}
        theirs: dict[Name, RemoteResult] = {}
        todo = [root]
        while todo:
            name = todo.pop()
            if name in ours or name in theirs:
                continue
            taken = self._taken[name]
            ours[name] = None
            ours.update(dict.fromkeys(taken.files))
            theirs.update(taken.theirs)
            todo += taken.directories
        return Needs(list(ours), theirs)

    def _take(self, at: Folder | Node, known: Name | None) -> tuple[Name, list[tuple[Folder | Node, Name | None]]]:
        """Take one directory; return its name, and the directories in it that are to be taken, too."""
        if known is not None and known in self._taken:
            return known, []
        message = reapi.Directory()
        taken = _Taken([], [], {})
        found: dict[Name, Open] = {}
        below: list[tuple[Folder | Node, Name | None]] = []
        if isinstance(at, Node) and isinstance(at.origin, Disk) and (entries := _entries(at)) is not None:
            self._list(at, at.origin, entries, message, taken, found, below)
        else:
            self._fold(at, message, taken, found, below)
        data = message.SerializeToString(deterministic=True)
        own = _name(data)
        assert known in (None, own)
        found[own] = partial(iter, [data])
        with self._changed:
            self._blobs.update(found)
            self._taken[own] = taken
            self._changed.notify_all()
        return own, below

    def _list(
        self,
        at: Node,
        origin: Disk,
        entries: Sequence[Entry],
        message: reapi.Directory,
        taken: _Taken,
        found: dict[Name, Open],
        below: list[tuple[Folder | Node, Name | None]],
    ) -> None:
        """Take a directory on disk, whose entries its index tells: most that is sent is that, so without nodes."""
        files, directories = message.files, message.directories
        for entry in entries:
            kind, name = entry.kind, _text(entry.name, at)
            if kind == "reg":
                hashed, size = str(entry.digest)[_PREFIX:], entry.size
                files.add(name=name, digest={"hash": hashed, "size_bytes": size}, is_executable=entry.mode & 0o100 != 0)
                taken.files.append((hashed, size))
                found[hashed, size] = partial(_read_file, origin, entry.path, f"sha256:{hashed}")
            elif kind == "dir":
                inner = (str(entry.digest)[_PREFIX:], entry.size)
                directories.add(name=name, digest={"hash": inner[0], "size_bytes": inner[1]})
                taken.directories.append(inner)
                if inner not in self._taken:
                    assert at.folder is not None
                    below.append((node_of(at.folder.lookup(entry.name), origin, entry.path), inner))
            elif kind == "symlink":
                message.symlinks.add(name=name, target=_text(entry.target or b"", at))

    def _fold(
        self,
        at: Folder | Node,
        message: reapi.Directory,
        taken: _Taken,
        found: dict[Name, Open],
        below: list[tuple[Folder | Node, Name | None]],
    ) -> None:
        """Take a directory that is made of nodes."""
        children = at if isinstance(at, dict) else self._children(at)
        for name, child in sorted(children.items()):
            if isinstance(child, dict):
                inner, deeper = self._take(child, None)
                below += deeper
            elif child.kind == "symlink":
                message.symlinks.add(name=_text(name, at), target=_text(child.target, at))
                continue
            else:
                inner = child.blob
            if isinstance(child, dict) or child.kind == "dir":
                message.directories.add(name=_text(name, at), digest=message_of(inner))
                if isinstance(child, Node) and isinstance(child.origin, RemoteResult) and child.origin.has(child):
                    taken.theirs[inner] = child.origin
                    continue
                taken.directories.append(inner)
                if isinstance(child, Node):
                    below.append((child, inner))
                continue
            message.files.add(name=_text(name, at), digest=message_of(inner), is_executable=child.executable)
            if isinstance(child.origin, RemoteResult):
                taken.theirs[inner] = child.origin
            else:
                taken.files.append(inner)
                found[inner] = partial(self._read, child)

    def _children(self, node: Node) -> Mapping[bytes, Folder | Node]:
        if node.children is not None:
            return node.children()
        if isinstance(node.origin, RemoteResult):
            return node.origin.children(node)
        assert isinstance(node.origin, (Result, StoredTree))
        found = node_of(self._tree_of(node.origin).lookup(node.path), node.origin, node.path)
        assert found.children is not None
        return found.children()

    def _read(self, node: Node) -> Iterator[bytes]:
        if isinstance(node.origin, Disk):
            yield from _read_file(node.origin, node.path, node.digest)
            return
        assert isinstance(node.origin, (Result, StoredTree))
        yield from self._tree_of(node.origin).read_blob(node.path)


class Walk:
    """One way through an input root, whose Directory is `root`."""

    def __init__(self, supply: Supply, folder: Folder) -> None:
        self._supply = supply
        self._is_over = False
        self.root, below = supply._take(folder, None)
        self._todo = deque(below)

    def finish(self) -> None:
        """Take all directories, level by level.

        Raises:
            SapwoodError: what a tree in a store raises.
        """
        try:
            while self._todo:
                _, below = self._supply._take(*self._todo.popleft())
                self._todo += below
        finally:
            with self._supply._changed:
                self._supply._walking -= not self._is_over
                self._is_over = True
                self._supply._changed.notify_all()


def _entries(node: Node) -> Sequence[Entry] | None:
    """Return what an index lists in a directory; None: it is to be asked in another way."""
    entries = None if node.folder is None else node.folder.entries()
    if entries is None or any(
        entry.kind == "hardlink" or (entry.digest is None and entry.kind == "dir") for entry in entries
    ):
        return None
    return entries


def _read_file(origin: Disk, path: bytes, digest: str) -> Iterator[bytes]:
    try:
        yield from read_proved(os.fsencode(origin.root), path, digest=digest)
    except (NotFoundError, UnavailableError) as error:
        raise UnavailableError(
            f"{origin.root}/{shown(path)} changed while it was being built", kind="source-changed", hint="build again"
        ) from error


def _text(name: bytes, at: Folder | Node) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        where = shown(at.path + b"/" + name if isinstance(at, Node) and at.path else name)
        raise InvalidInputError(
            f"{where}: not UTF-8, and servers take no other names",
            kind="source-unusable",
            hint="rename it, or build here",
        ) from None


def _name(data: bytes) -> Name:
    return hashlib.sha256(data).hexdigest(), len(data)
