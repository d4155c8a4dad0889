"""Sources: files and directories of this machine, and trees in stores, as nodes of an input root.

Promise: what did not change costs a stat; a directory is looked at once a build, and again after a builder has used it,
so that what changed meanwhile enters no cache. Not here: hashing (`sapwood.tree.index`).
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sapwood.address import open_address
from sapwood.build.derivation import Derivation, Stored
from sapwood.build.inputs import Node, node_of
from sapwood.errors import NotFoundError, UnavailableError
from sapwood.progress import Progress
from sapwood.tree.index import Index, default_index_path
from sapwood.tree.tree import Tree

_RACY_NS = 2 * 10**9

__all__ = ["Disk", "Sources", "StoredTree", "root_of"]


@dataclass(frozen=True)
class Disk:
    """A directory of this machine as the origin of nodes."""

    root: Path


@dataclass(frozen=True)
class StoredTree:
    """A tree in a store as the origin of nodes; `address` is pinned."""

    address: str


class Sources:
    """All sources of one build; `go_on` is called now and then while they are hashed, and ends that by raising."""

    def __init__(self, go_on: Callable[[Progress | None], None] = lambda _: None) -> None:
        self._go_on = go_on
        self._trees: dict[Path, Tree] = {}
        self._nodes: dict[tuple[Path, str | Stored], Node] = {}
        self._stats: dict[tuple[Path, str | Stored], tuple[int, ...] | None] = {}
        # When what lies there was last seen to be the same, by the monotonic clock.
        self._looked_s: dict[tuple[Path, bytes], float] = {}
        # An index is brought up to date by one look at a time.
        self._lock = threading.Lock()

    def nodes(self, one: Derivation) -> list[tuple[str, Node]]:
        """Return place and node of each source of a derivation.

        Raises:
            NotFoundError: `source-missing`.
            SapwoodError: as `sapwood.tree.index.Index.hash`; of a stored one as `open_address`.
        """
        found = []
        for place, source in one.sources:
            key = (one.base, source)
            if key not in self._nodes:
                if not isinstance(source, Stored):
                    self._stats.setdefault(key, _file_stat(one.base / source))
                self._nodes[key] = _stored(source) if isinstance(source, Stored) else self._look(one, source)
            found.append((place, self._nodes[key]))
        return found

    def require_unchanged(self, one: Derivation) -> None:
        """Look again at what a builder has used, once for all builders that have ended by then.

        Raises:
            UnavailableError: `source-changed`.
        """
        ended_s = time.monotonic()
        again: dict[Path, Tree] = {}
        for (_, source), (_, before) in zip(one.sources, self.nodes(one), strict=True):
            if isinstance(source, Stored):
                continue
            known = self._stats[one.base, source]
            if known is not None and known == _file_stat(one.base / source):
                continue
            root, path = root_of(one.base, source)
            with self._lock:
                if self._looked_s.get((root, path), -1.0) >= ended_s:
                    continue
                began_s = time.monotonic()
                if root not in again:
                    again[root] = self._tree(root)
                item = again[root].find(path)
                now = None if item is None else node_of(item, before.origin, path)
                if now is not None and now.told == before.told:
                    self._looked_s[root, path] = began_s
            if now is None or now.told != before.told:
                raise UnavailableError(
                    f"derivation {one.name}: {source} changed while it was being built",
                    kind="source-changed",
                    hint="build again",
                )

    def roots(self) -> list[Path]:
        """Return the directories whose indexes were used."""
        return sorted(self._trees)

    def _look(self, one: Derivation, source: str) -> Node:
        root, path = root_of(one.base, source)
        with self._lock:
            self._go_on(None)
            if root not in self._trees:
                self._trees[root] = self._tree(root)
            item = self._trees[root].find(path)
            if item is None:
                raise NotFoundError(
                    f"derivation {one.name}: no source {source} in {one.base}",
                    kind="source-missing",
                    hint="is it left out by a .sapwoodignore?" if os.path.lexists(one.base / source) else None,
                    path=os.fsencode(source),
                )
            return node_of(item, Disk(root), path)

    def _tree(self, root: Path) -> Tree:
        if not root.is_dir():
            raise NotFoundError(f"{root}: no such directory", kind="source-missing", path=os.fsencode(root))
        return Index.read(default_index_path(root), root, progress=self._go_on)


def _stored(source: Stored) -> Node:
    from sapwood.open import tree_of
    from sapwood.store.snapshot import Snapshot

    store, snapshot = open_address(source.address)
    address = source.address
    if isinstance(snapshot, Snapshot):
        address = f"{address.partition('@sha256:')[0]}@{snapshot.digest}"
    return node_of(tree_of(store, snapshot), StoredTree(address), b"")


def _file_stat(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file does; None of what is no file, or has changed too lately for that to be sure."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode) or time.time_ns() - found.st_ctime_ns < _RACY_NS:
        return None
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def root_of(base: Path, source: str) -> tuple[Path, bytes]:
    """Return the directory that is looked at for a source, and the source's path in it.

    That of the build file for all that lies in it; else the source itself, or of a file the directory it lies in.
    """
    base = Path(os.path.abspath(base))
    place = os.path.normpath(base / source)
    if place == str(base):
        return base, b""
    if place.startswith(f"{base}/"):
        return base, os.fsencode(place[len(str(base)) + 1 :])
    if os.path.isdir(place):
        return Path(place), b""
    above, name = os.path.split(place)
    return Path(above), os.fsencode(name)
