"""What `status` goes by, found by looking at everything each time.

Promise: shares nothing with the index; two trees with equal facts differ in nothing that `status` tells of.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple


class Fact(NamedTuple):
    """Of one path: type and permission bits; the content of a file, the target of a symlink, the number of a device."""

    mode: int
    what: bytes | int


Facts = dict[bytes, Fact]
Changes = dict[str, tuple[bytes, ...]]


def facts(root: str | os.PathLike[str]) -> Facts:
    """Return those of everything in a tree but sockets, by path relative to it; its own is empty."""
    found: Facts = {}
    todo = [b""]
    while todo:
        path = todo.pop()
        full = os.path.join(os.fsencode(root), path)
        seen = os.lstat(full)
        what: bytes | int = seen.st_rdev
        if stat.S_ISSOCK(seen.st_mode):
            continue
        if stat.S_ISREG(seen.st_mode):
            with open(full, "rb") as file:
                what = file.read()
        elif stat.S_ISLNK(seen.st_mode):
            what = os.readlink(full)
        elif stat.S_ISDIR(seen.st_mode):
            todo += [os.path.join(path, name) for name in os.listdir(full)]
        found[path] = Fact(seen.st_mode, what)
    return found


def changes(before: Facts, after: Facts) -> Changes:
    """Return what `status` is to say: sorted paths that were added, changed and removed."""
    return {
        "added": tuple(sorted(after.keys() - before.keys())),
        "changed": tuple(sorted(path for path in before.keys() & after.keys() if before[path] != after[path])),
        "removed": tuple(sorted(before.keys() - after.keys())),
    }
