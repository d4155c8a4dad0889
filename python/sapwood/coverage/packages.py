"""Which package a file of a tree belongs to, as package managers wrote it down in the tree itself.

Invariant: what these lists say is only compared with names of the tree; one that is damaged names nothing behind that.
The system's managers (dpkg, apk, rpm) come before those of languages (pip, npm), whose packages they bring, too.
Elsewhere: databases of rpm (`rpm`). Not read: conda, gem, cargo, go, and what no list claims.
"""

from __future__ import annotations

import contextlib
import csv
import io
import posixpath
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sapwood.coverage import rpm
from sapwood.tree.tree import Tree

__all__ = ["packages_of"]

_DPKG = b"var/lib/dpkg/info/"
# Where images without dpkg say what they were made of.
_DISTROLESS = b"var/lib/dpkg/status.d/"
_APK = (b"lib/apk/db/installed", b"usr/lib/apk/db/installed")
_RPM = (b"var/lib/rpm", b"usr/lib/sysimage/rpm", b"usr/share/rpm")
_RECORD = b".dist-info/RECORD"
_NPM = b"node_modules"
# No list of a package has that: 100,000 files or so.
_LONGEST = 16 << 20
_LONGEST_DATABASE = 512 << 20
# Of links on the way to a name, of names in bytes, and of directories whose way is remembered.
_MOST_HOPS = 40
_LONGEST_NAME = 4096
_MOST_REMEMBERED = 100_000


def packages_of(tree: Tree) -> Callable[[bytes], str | None]:
    """Return what says the package of a path, None where none claims it; the first to claim one has it."""
    names = _Names(tree)
    owners: dict[bytes, str] = {}
    for lists in (_system, _pip):
        for name, claimed in lists(tree, names):
            for claim in claimed:
                if (path := names.settled(claim)) is not None:
                    owners.setdefault(path, name)
    return lambda path: owners.get(path) or _npm(path, names)


class _Names:
    """The names of a tree, and where its links lead: `bin` of today's Debian is `usr/bin`, lists say either."""

    def __init__(self, tree: Tree) -> None:
        self.files: dict[bytes, int] = {}
        """Regular files with their sizes."""
        self._others: set[bytes] = set()
        self._links: dict[bytes, bytes] = {}
        for path, item in tree.list():
            if isinstance(item, Tree):
                continue
            if item.kind == "reg":
                self.files[path] = item.size
            else:
                self._others.add(path)
                if item.kind == "symlink" and item.target:
                    self._links[path] = item.target
        self._real: dict[bytes, bytes | None] = {}

    def settled(self, path: bytes) -> bytes | None:
        """Return the name that a path means, its last part not followed; None if there is no such file."""
        if path in self.files or path in self._others:
            return path
        above, _, name = path.rpartition(b"/")
        if above not in self._real:
            if len(self._real) == _MOST_REMEMBERED:
                self._real.clear()
            self._real[above] = self._followed(above)
        real = self._real[above]
        path = name if not real else real + b"/" + name
        return path if real is not None and (path in self.files or path in self._others) else None

    def _followed(self, directory: bytes) -> bytes | None:
        if len(directory) > _LONGEST_NAME:
            return None
        todo = [part for part in reversed(directory.split(b"/")) if part]
        at, hops = b"", 0
        while todo:
            part = todo.pop()
            if part == b"..":
                at = at.rpartition(b"/")[0]
                continue
            at = at + b"/" + part if at else part
            if (target := self._links.get(at)) is not None:
                hops += 1
                if hops > _MOST_HOPS or len(target) > _LONGEST_NAME:
                    return None
                at = b"" if target.startswith(b"/") else at.rpartition(b"/")[0]
                todo += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
        return at


def _system(tree: Tree, names: _Names) -> Iterator[tuple[str, Iterable[bytes]]]:
    for path, size in names.files.items():
        above, _, name = path.rpartition(b"/")
        if above in _RPM and name in rpm.DATABASES and size <= _LONGEST_DATABASE:
            yield from _listed_by_rpm(tree, path, names)
        elif size > _LONGEST:
            continue
        elif path.startswith(_DPKG) and path.endswith(b".list"):
            package = _text(path[len(_DPKG) : -len(b".list")])
            yield f"deb:{package}", (line.strip(b"/") for line in _lines(tree, path))
        elif path.startswith(_DISTROLESS) and path.endswith(b".md5sums"):
            package = _text(path[len(_DISTROLESS) : -len(b".md5sums")])
            yield f"deb:{package}", (line.partition(b"  ")[2].strip(b"/") for line in _lines(tree, path))
        elif path in _APK:
            yield from _listed_by_apk(_lines(tree, path))


def _pip(tree: Tree, names: _Names) -> Iterator[tuple[str, Iterable[bytes]]]:
    for path, size in names.files.items():
        if path.endswith(_RECORD) and size <= _LONGEST:
            info, _, _ = path.rpartition(b"/")
            above, _, package = info.rpartition(b"/")
            name = _text(package.removesuffix(b".dist-info").partition(b"-")[0])
            yield f"pip:{name}", _listed_by_pip(b"".join(tree.read_blob(path)), above)


def _npm(path: bytes, names: _Names) -> str | None:
    """Return the innermost package whose directory a file is in: one below `node_modules` that says what it is."""
    parts = path.split(b"/")
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == _NPM:
            end = at + 3 if parts[at + 1].startswith(b"@") else at + 2
            if end < len(parts) and b"/".join([*parts[:end], b"package.json"]) in names.files:
                return "npm:" + _text(b"/".join(parts[at + 1 : end]))
    return None


def _lines(tree: Tree, path: bytes) -> list[bytes]:
    return b"".join(tree.read_blob(path)).split(b"\n")


def _listed_by_apk(lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    # A letter and a colon a line, an empty line behind each package: apk-tools' doc/apk-v2.5.scd.
    name, directory = "", b""
    for line in lines:
        key, value = line[:2], line[2:]
        if key == b"P:":
            name, directory = _text(value), b""
        elif key == b"F:":
            directory = value.strip(b"/")
        elif key == b"R:" and name:
            yield f"apk:{name}", [directory + b"/" + value if directory else value]
        elif not line:
            name = ""


def _listed_by_rpm(tree: Tree, path: bytes, names: _Names) -> Iterator[tuple[str, Iterator[bytes]]]:
    with tempfile.TemporaryDirectory(prefix="sapwood-rpm-") as folder:
        database = Path(folder) / "database"
        _copy(tree, path, database)
        # What was written last may lie beside it.
        log = path + b"-wal"
        if path.endswith(b".sqlite") and 0 < names.files.get(log, 0) <= _LONGEST_DATABASE:
            _copy(tree, log, database.with_name("database-wal"))
        for name, files in rpm.packages(database):
            yield f"rpm:{_text(name)}", files


def _copy(tree: Tree, path: bytes, out: Path) -> None:
    with out.open("wb") as file:
        for piece in tree.read_blob(path):
            file.write(piece)


def _listed_by_pip(text: bytes, above: bytes) -> Iterator[bytes]:
    # Field by field as PEP 376 has it; `above` is the directory that names are relative to.
    with contextlib.suppress(csv.Error):  # damaged from here on
        for row in csv.reader(io.StringIO(_text(text), newline="")):
            if row:
                yield posixpath.normpath(posixpath.join(above, row[0].encode("utf-8", "surrogateescape")))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
