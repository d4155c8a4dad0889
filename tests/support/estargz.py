"""What containerd's library tells of an archive, and what it is to tell of a directory.

Promise: the second comes from system calls alone. Not here: the program, tests/interop/go/estargz.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.trees import Facts, look

_KINDS = {
    stat.S_IFDIR: "dir",
    stat.S_IFREG: "reg",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


_NO_TIME = (-62135596800, 0)


@dataclass(frozen=True)
class Told:
    """One path; of a directory the number of names is not told."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime: tuple[int, int]
    """Seconds and nanoseconds."""
    content: tuple[int, str]
    """Size and SHA-256 of a file; the target of a symbolic link."""
    device: tuple[int, int]
    xattrs: tuple[tuple[str, bytes], ...]
    names: int


def told(lines: str) -> dict[str, Told]:
    """Return what the program said, by path; the root's is empty. No time, its year 1, is 1970."""
    found = {}
    for line in lines.splitlines():
        said = json.loads(line)
        found[said["name"]] = Told(
            said["type"],
            said["mode"],
            (said["uid"], said["gid"]),
            (0, 0) if tuple(said["mtime"]) == _NO_TIME else tuple(said["mtime"]),
            (said["size"], said.get("sha256") or said.get("link") or ""),
            (said.get("dev_major", 0), said.get("dev_minor", 0)),
            tuple(sorted((name, base64.b64decode(value)) for name, value in said.get("xattrs", {}).items())),
            0 if said["type"] == "dir" else said["links"],
        )
    return found


def expected(root: Path) -> dict[str, Told]:
    """Return what is to be told of the tree below `root`."""
    return {_shown(path) if path != b"." else "": _expected(root, path, facts) for path, facts in look(root).items()}


def whole_seconds(entries: dict[str, Told]) -> dict[str, Told]:
    """Return them with times as upstream's writers round them: half a second and more go up."""
    return {
        name: replace(entry, mtime=(entry.mtime[0] + (entry.mtime[1] >= 500_000_000), 0))
        for name, entry in entries.items()
    }


def _expected(root: Path, path: bytes, facts: Facts) -> Told:
    kind = _KINDS[stat.S_IFMT(facts.mode)]
    content = (facts.size if kind == "reg" else 0, facts.content)
    if kind == "symlink":
        content = (0, _shown(os.readlink(os.fsencode(root) + b"/" + path)))
    return Told(
        kind,
        stat.S_IMODE(facts.mode),
        facts.owner,
        divmod(facts.mtime_ns, 10**9),
        content,
        (os.major(facts.device), os.minor(facts.device)),
        tuple(sorted((_shown(name), value) for name, value in facts.xattrs)),
        0 if kind == "dir" else len(facts.names) or 1,
    )


def _shown(name: bytes) -> str:
    """Return a name as Go's JSON shows it: U+FFFD for each byte that is not UTF-8."""
    return re.sub("[\udc80-\udcff]", "\ufffd", os.fsdecode(name))
