"""The local executor: an action in a sandbox on this machine, on inputs that are bound, not copied.

Invariant: the builder finds what the key tells and nothing else: what lies beside a source on disk, but is no part of
its tree, is not there. Not here: the sandbox (`sandbox`), where outputs lie (`kept`), what is stored (`outputs`).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sapwood.build.action import Action
from sapwood.build.derivation import Derivation
from sapwood.build.inputs import Folder, Node, fold, unfold
from sapwood.build.kept import Kept
from sapwood.build.limits import DISK
from sapwood.build.results import Result
from sapwood.build.sandbox import Ended, Sandbox, run
from sapwood.build.sources import Disk, StoredTree

__all__ = ["Local"]

_RULES = ".sapwoodignore"
# bwrap takes the longer for each bind the more there are: 12 ms for none, 20 for 50, 1,400 for 1,000.
_BINDS = 64
_COPIED_BYTES = 1 << 20


class Local:
    """Runs actions; `kept` knows where outputs of others lie."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._bare: dict[tuple[str, str], bool] = {}

    def run(
        self,
        one: Derivation,
        action: Action,
        inputs: list[tuple[str, Node]],
        place: Path,
        said: Callable[[bytes], None],
        cancel: threading.Event,
        *,
        lazy: bool,
    ) -> Ended:
        """Run an action in `place`, an empty directory; what it makes lies below `place/root`.

        Raises:
            SapwoodError: inputs cannot be had, and as `sapwood.build.sandbox.run`.
        """
        root = place / "root"
        root.mkdir()
        folder = fold(inputs)
        for path in one.outputs:
            unfold(folder, path)
        laying = _Laying(root, [], [])
        self._lay(folder, b"", laying, lazy=lazy)
        before_s = self._kept.blocked_s()
        sandbox = Sandbox(
            root,
            laying.binds(),
            action.environment,
            network=one.network,
            timeout_s=one.timeout_s,
            memory=one.memory,
            disk=one.disk or DISK,
            blocked_s=lambda: self._kept.blocked_s() - before_s,
        )
        return run(one.command, sandbox, said, cancel)

    def _lay(self, folder: Folder, above: bytes, laying: _Laying, *, lazy: bool) -> None:
        for name, found in folder.items():
            path = above + b"/" + name if above else name
            if isinstance(found, dict):
                os.mkdir(os.path.join(os.fsencode(laying.root), path))
                self._lay(found, path, laying, lazy=lazy)
            elif found.kind == "symlink":
                os.symlink(found.target, os.path.join(os.fsencode(laying.root), path))
            else:
                here = self._locate(found, lazy=lazy)
                if found.kind == "dir" and found.children is not None and not self._is_bare(found, here):
                    os.mkdir(os.path.join(os.fsencode(laying.root), path))
                    self._lay(dict(found.children()), path, laying, lazy=lazy)
                elif found.kind == "dir":
                    laying.folders.append((here, path))
                else:
                    laying.files.append((here, path, found))

    def _locate(self, node: Node, *, lazy: bool) -> bytes:
        """Return where a node lies on this machine."""
        origin = node.origin
        if isinstance(origin, Disk):
            return os.path.join(os.fsencode(origin.root), node.path) if node.path else os.fsencode(origin.root)
        if isinstance(origin, Result):
            top = os.fsencode(self._kept.place(origin, lazy=lazy))
        else:
            assert isinstance(origin, StoredTree)
            top = os.fsencode(self._kept.tree(origin.address, lazy=lazy))
        return os.path.join(top, node.path) if node.path else top

    def _is_bare(self, node: Node, here: bytes) -> bool:
        """Say whether a directory on disk has nothing that its tree leaves out."""
        if not isinstance(node.origin, Disk):
            return True
        key = (os.fsdecode(here), node.digest)
        if key not in self._bare:
            self._bare[key] = not _has_rules(node, here) or _is_whole(node, here)
        return self._bare[key]


@dataclass
class _Laying:
    root: Path
    folders: list[tuple[bytes, bytes]]
    files: list[tuple[bytes, bytes, Node]]

    def binds(self) -> list[tuple[str, str]]:
        """Return what is to be bound; where that is much, small files are copied."""
        bound = [(os.fsdecode(here), os.fsdecode(path)) for here, path in self.folders]
        many = len(self.files) + len(bound) > _BINDS
        for here, path, node in self.files:
            if many and node.size <= _COPIED_BYTES:
                copy = os.path.join(os.fsencode(self.root), path)
                shutil.copyfile(here, copy)
                os.chmod(copy, 0o555 if node.executable else 0o444)
            else:
                bound.append((os.fsdecode(here), os.fsdecode(path)))
        return bound


def _has_rules(node: Node, here: bytes) -> bool:
    """Say whether anything may be left out: rules in the directory, above it, or below."""
    assert isinstance(node.origin, Disk)
    way = os.fsencode(node.origin.root)
    for name in [b"", *node.path.split(b"/")]:
        way = os.path.join(way, name) if name else way
        if os.path.lexists(os.path.join(way, os.fsencode(_RULES))):
            return True
    return any(_RULES in map(os.fsdecode, names) for _, _, names in os.walk(here))


def _is_whole(node: Node, here: bytes) -> bool:
    """Say whether a directory on disk has what its tree has, and no more."""
    assert node.children is not None
    children = node.children()
    if set(os.listdir(here)) != set(children):
        return False
    return all(_is_whole(child, os.path.join(here, name)) for name, child in children.items() if child.kind == "dir")
