"""Which package a file of a tree belongs to, as dpkg and pip wrote it down in the tree itself.

Invariant: what these lists say is only compared with names of the tree; one that is damaged names nothing behind that.
"""

from __future__ import annotations

import contextlib
import csv
import io
import posixpath
from collections.abc import Callable, Iterator

from sapwood.tree.tree import Tree

__all__ = ["packages_of"]

_DPKG = b"var/lib/dpkg/info/"
_RECORD = b".dist-info/RECORD"
# No list of a package has that: 100,000 files or so.
_LONGEST = 16 << 20


def packages_of(tree: Tree) -> Callable[[bytes], str | None]:
    """Return what says the package of a path, None where none claims it; the first to claim one has it."""
    owners: dict[bytes, str] = {}
    aliases = _aliases(tree)
    for path, item in tree.list():
        if item.kind != "reg" or item.size > _LONGEST:
            continue
        if path.startswith(_DPKG) and path.endswith(b".list"):
            claimed = _listed_by_dpkg(b"".join(tree.read_blob(path)), aliases)
            name = "deb:" + _text(path[len(_DPKG) : -len(b".list")])
        elif path.endswith(_RECORD):
            info, _, _ = path.rpartition(b"/")
            above, _, package = info.rpartition(b"/")
            claimed = _listed_by_pip(b"".join(tree.read_blob(path)), above)
            name = "pip:" + _text(package.removesuffix(b".dist-info").partition(b"-")[0])
        else:
            continue
        for claim in claimed:
            owners.setdefault(claim, name)
    return owners.get


def _aliases(tree: Tree) -> dict[bytes, bytes]:
    """Return what directories at the top are links to: `bin` of today's Debian is `usr/bin`, its lists say either."""
    return {
        name: item.target.lstrip(b"/")
        for name, item in tree.list_immediate()
        if not isinstance(item, Tree) and item.kind == "symlink" and item.target
    }


def _listed_by_dpkg(text: bytes, aliases: dict[bytes, bytes]) -> Iterator[bytes]:
    for line in text.split(b"\n"):
        path = line.strip(b"/")
        top, slash, rest = path.partition(b"/")
        yield aliases[top] + b"/" + rest if slash and top in aliases else path


def _listed_by_pip(text: bytes, above: bytes) -> Iterator[bytes]:
    # Field by field as PEP 376 has it; `above` is the directory that names are relative to.
    with contextlib.suppress(csv.Error):  # damaged from here on
        for row in csv.reader(io.StringIO(_text(text), newline="")):
            if row:
                yield posixpath.normpath(posixpath.join(above, row[0].encode("utf-8", "surrogateescape")))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
