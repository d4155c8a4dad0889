"""What a builder finds: files and trees at places, and the digest of all of them together.

Invariant: `digest` is that of the REAPI Directory that a remote worker would be given, whatever the nodes lie in; a
directory is unfolded only where something else lies in it. Not here: where nodes come from (`sources`, `results`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sapwood.digests import TreeDigest
from sapwood.errors import InvalidInputError
from sapwood.tree.directory import directory_digest
from sapwood.tree.leaf import Leaf
from sapwood.tree.source import shown
from sapwood.tree.tree import Item, Tree

__all__ = ["EMPTY", "Folder", "Node", "digest", "fold", "node_of", "unfold"]


@dataclass(frozen=True, slots=True)
class Node:
    """A file, a directory or a symlink that lies somewhere as it is.

    `kind` is `reg`, `dir` or `symlink`; `digest` and `size` are those of the blob, or of the Directory message.
    `origin` is who can say where it lies, and `path` which part of it this is; `children` lists a directory, of which
    `folder` is the tree, if there is one.
    """

    kind: str
    digest: str = ""
    size: int = 0
    executable: bool = False
    target: bytes = b""
    origin: object = None
    path: bytes = b""
    children: Callable[[], Mapping[bytes, Node]] | None = None
    folder: Tree | None = None

    @property
    def told(self) -> str:
        """What keys depend on, in a word."""
        if self.kind == "symlink":
            return f"-> {self.target.decode(errors='backslashreplace')}"
        return self.digest + ("+x" if self.executable else "")

    @property
    def blob(self) -> tuple[str, int]:
        """The blob that it is, in the words of the Remote Execution API: hex digits and size."""
        return self.digest.removeprefix("sha256:"), self.size


Folder: TypeAlias = "dict[bytes, Folder | Node]"
"""A directory that is no node: names -> what lies there."""

EMPTY = directory_digest([], [], [])
"""Digest and size of the empty directory."""


def node_of(item: Item, origin: object, path: bytes) -> Node:
    """Return an item of a tree as a node; its digest is taken if it has none yet.

    Raises:
        InvalidInputError: `source-unusable`: a device, say, or a name that is not UTF-8.
    """
    if not isinstance(item, Leaf):

        def children() -> Mapping[bytes, Node]:
            return {
                name: node_of(child, origin, path + b"/" + name if path else name)
                for name, child in item.list_immediate()
                if not isinstance(child, Leaf) or child.resolved().kind in ("reg", "symlink")
            }

        digest = item.digest
        return Node("dir", digest, item.size, origin=origin, path=path, children=children, folder=item)
    leaf = item.resolved()
    if leaf.kind == "symlink":
        return Node("symlink", target=leaf.target or b"", origin=origin, path=path)
    if leaf.kind != "reg" or leaf.digest is None:
        raise InvalidInputError(
            f"{shown(path)} is a {leaf.kind}: what is built of must be a file, a directory or a symlink",
            kind="source-unusable",
            path=path,
        )
    return Node("reg", leaf.digest, leaf.size, executable=leaf.executable, origin=origin, path=path)


def fold(inputs: Iterable[tuple[str, Node]]) -> Folder:
    """Return the directory that has each node at its place; one at the empty place is the directory itself.

    Raises:
        InvalidInputError: `input-conflict`: two that cannot both be there.
    """
    root: Folder = {}
    # From above: a directory is there before what lies in it.
    for place, node in sorted(inputs, key=lambda each: each[0]):
        if not place:
            root.update(_children(node, place))
            continue
        *above, name = place.encode().split(b"/")
        folder = _go(root, above, place)
        if name in folder:
            raise _conflict(place)
        folder[name] = node
    return root


def unfold(root: Folder, place: str) -> None:
    """Let the way to `place` be of folders, and nothing at it: something is to be made there; errors as `fold`."""
    *above, name = place.encode().split(b"/")
    if name in _go(root, above, place):
        raise _conflict(place)


def digest(root: Folder) -> tuple[TreeDigest, int]:
    """Return digest and size of the message of a folder."""
    files: list[tuple[bytes, str, int, bool]] = []
    directories: list[tuple[bytes, str, int]] = []
    symlinks: list[tuple[bytes, bytes]] = []
    for name, found in root.items():
        if isinstance(found, dict):
            directories.append((name, *digest(found)))
        elif found.kind == "reg":
            files.append((name, found.digest, found.size, found.executable))
        elif found.kind == "dir":
            directories.append((name, found.digest, found.size))
        else:
            symlinks.append((name, found.target))
    hashed, size = directory_digest(files, directories, symlinks)
    return TreeDigest(hashed), size


def _go(root: Folder, way: list[bytes], place: str) -> Folder:
    folder = root
    for name in way:
        found = folder.setdefault(name, {})
        if isinstance(found, Node):
            found = folder[name] = dict(_children(found, place))
        folder = found
    return folder


def _children(node: Node, place: str) -> Mapping[bytes, Node]:
    if node.kind != "dir" or node.children is None:
        raise _conflict(place)
    return node.children()


def _conflict(place: str) -> InvalidInputError:
    return InvalidInputError(
        f"two inputs, or an input and an output, cannot both be at {place or '.'}",
        kind="input-conflict",
        hint="give one of them another place",
    )
