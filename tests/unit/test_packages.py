"""Packages of files: as dpkg, apk, rpm, pip and npm wrote them down, and whatever else lies in their place."""

from __future__ import annotations

import gzip
import random
import sqlite3
import struct
from pathlib import Path

import pytest

from sapwood.coverage import rpm
from sapwood.coverage.packages import packages_of
from sapwood.tree.tree import Tree

GOLDEN = Path("tests/golden/rpm")
PLACES = {
    "rpmdb.sqlite": b"var/lib/rpm/rpmdb.sqlite",
    "Packages.db": b"usr/lib/sysimage/rpm/Packages.db",
    "Packages": b"var/lib/rpm/Packages",
}


def database(name: str) -> bytes:
    return gzip.decompress((GOLDEN / f"{name}.gz").read_bytes())


def tree(files: dict[bytes, bytes], **links: bytes) -> Tree:
    """Return a tree of these files, and links at its top."""
    from sapwood.tree.leaf import Leaf

    made = Tree.of({name.encode(): Leaf.symlink(target) for name, target in links.items()})
    for path, content in files.items():
        made = made.modify(path, content)
    return made


@pytest.mark.parametrize("name", PLACES)
def test_files_of_rpm_are_told_by_each_of_its_databases(name: str) -> None:
    files = {b"usr/bin/hello": b"", b"usr/bin/many": b"", b"usr/bin/other": b"", PLACES[name]: database(name)}
    files |= {b"usr/share/many/file-number-%d" % number: b"" for number in range(1, 202)}
    owner = packages_of(tree(files))
    assert (owner(b"usr/bin/hello"), owner(b"usr/bin/many"), owner(b"usr/bin/other")) == ("rpm:hello", "rpm:many", None)
    assert owner(b"usr/share/many/file-number-200") == "rpm:many"
    assert owner(b"usr/share/many/file-number-201") is None


def test_what_sqlite_wrote_last_is_read_from_beside_its_database(tmp_path: Path) -> None:
    (tmp_path / "rpmdb.sqlite").write_bytes(database("rpmdb.sqlite"))
    opened = sqlite3.connect(tmp_path / "rpmdb.sqlite", isolation_level=None)
    opened.execute("PRAGMA journal_mode = WAL")
    opened.execute("DELETE FROM Packages WHERE hnum = (SELECT min(hnum) FROM Packages)")
    read = {name: (tmp_path / name).read_bytes() for name in ("rpmdb.sqlite", "rpmdb.sqlite-wal")}
    opened.close()
    files = {b"var/lib/rpm/" + name.encode(): data for name, data in read.items()}
    owner = packages_of(tree(files | {b"usr/bin/hello": b"", b"usr/bin/many": b""}))
    assert {owner(b"usr/bin/hello"), owner(b"usr/bin/many")} == {None, "rpm:hello"}


def test_files_of_apk_are_told() -> None:
    installed = (
        b"C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\nZ:Q1x=\n"
        b"R:libc.musl-x86_64.so.1\n\nC:Q1def=\nP:busybox\nF:\n"
        b"F:bin\nR:busybox\nF:etc/network\nM:0:0:755\nF:etc\nR:a b\n\n"
    )
    names = (b"lib/ld-musl-x86_64.so.1", b"bin/busybox", b"etc/a b", b"etc/own")
    for place in (b"lib/apk/db/installed", b"usr/lib/apk/db/installed"):
        owner = packages_of(tree({place: installed} | dict.fromkeys(names, b"")))
        assert [owner(name) for name in names] == ["apk:musl", "apk:busybox", "apk:busybox", None]


def test_files_of_npm_are_those_of_the_innermost_directory_that_is_a_package() -> None:
    names = {
        b"app/node_modules/one/package.json": "npm:one",
        b"app/node_modules/one/lib/a.js": "npm:one",
        b"app/node_modules/one/node_modules/@scope/two/package.json": "npm:@scope/two",
        b"app/node_modules/one/node_modules/@scope/two/b.js": "npm:@scope/two",
        b"app/node_modules/one/node_modules/.bin/none": "npm:one",
        b"app/node_modules/.package-lock.json": None,
        b"app/node_modules/@scope/package.json": None,
        b"app/package.json": None,
        b"app/main.js": None,
    }
    owner = packages_of(tree(dict.fromkeys(names, b"")))
    assert {name: owner(name) for name in names} == names


def test_images_without_dpkg_that_say_what_they_were_made_of_are_read_too() -> None:
    sums = b"d41d8cd98f00b204e9800998ecf8427e  usr/lib/libssl.so.3\nd41d8cd98f00b204e9800998ecf8427e  lib/x\n"
    files = {b"var/lib/dpkg/status.d/libssl3.md5sums": sums, b"usr/lib/libssl.so.3": b"", b"usr/lib/x": b""}
    owner = packages_of(tree(files, lib=b"usr/lib"))
    assert (owner(b"usr/lib/libssl.so.3"), owner(b"usr/lib/x")) == ("deb:libssl3", "deb:libssl3")


def test_a_package_of_the_system_comes_before_that_of_a_language_in_it() -> None:
    record = {b"usr/lib/python3/dist-packages/yaml-6.dist-info/RECORD": b"yaml/a.py,,\nyaml/b.py,,\n"}
    files = {b"usr/lib/python3/dist-packages/yaml/" + name: b"" for name in (b"a.py", b"b.py")}
    listed = {b"var/lib/dpkg/info/python3-yaml.list": b"/.\n/usr/lib/python3/dist-packages/yaml/a.py\n"}
    owner = packages_of(tree(record | files | listed))
    assert [owner(name) for name in files] == ["deb:python3-yaml", "pip:yaml"]


def test_lists_find_what_links_lead_to_and_go_nowhere_in_circles() -> None:
    listed = b"/lib/a\n/round/b\n/sbin/tool\n" + b"/x" * 100_000 + b"/y\n/lib64/a\n"
    files = {b"var/lib/dpkg/info/p.list": listed, b"usr/lib/a": b"", b"usr/bin/tool": b"", b"b": b""}
    owner = packages_of(tree(files, lib=b"/usr/../usr/lib", round=b"round", sbin=b"usr/bin", lib64=b"lib"))
    assert [owner(name) for name in (b"usr/lib/a", b"usr/bin/tool", b"b")] == ["deb:p", "deb:p", None]


@pytest.mark.parametrize("name", PLACES)
def test_a_damaged_database_of_rpm_names_less_and_nothing_else(name: str, tmp_path: Path) -> None:
    whole, place = database(name), tmp_path / "database"
    known = {package: set(files) for package, files in _read(whole, place)}
    assert set(known) == {b"hello", b"many"}
    dice = random.Random(7)
    for _ in range(60):
        data = bytearray(whole)
        if dice.random() < 0.3:
            del data[dice.randrange(len(data)) :]
        for _ in range(dice.randrange(1, 40)):
            if data:
                data[dice.randrange(min(len(data), dice.choice((64, 4096, len(whole)))))] = dice.randrange(256)
        # Whatever comes of it, it ends, and is no error.
        _read(bytes(data), place)
    for data in (b"", b"x", b"RpmP", b"SQLite format 3\0", bytes(1 << 16), whole[: len(whole) // 2]):
        assert {package for package, _ in _read(data, place)} <= set(known)


def _read(data: bytes, place: Path) -> list[tuple[bytes, list[bytes]]]:
    place.write_bytes(data)
    return [(package, list(files)) for package, files in rpm.packages(place)]


def test_a_database_whose_table_is_a_query_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "database"
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x hnum, zeroblob(x) blob FROM n"
    with sqlite3.connect(place) as made:
        made.execute(f"CREATE VIEW Packages AS {endless}")
    assert list(rpm.packages(place)) == []


def header(directories: bytes, count: int) -> bytes:
    """Return a package's header with one directory, and so many files in it that have no names."""
    store = struct.pack(f">{count}I", *[0] * count) + b"p\0" + directories + b"\0" + bytes(count)
    tags = [(1000, 6, 4 * count, 1), (1116, 4, 0, count), (1118, 8, 4 * count + 2, 1)]
    tags.append((1117, 8, 4 * count + 3 + len(directories), count))
    return struct.pack(">II", len(tags), len(store)) + b"".join(struct.pack(">IIII", *tag) for tag in tags) + store


def ndb(*slots: tuple[int, int, int], blobs: bytes) -> bytes:
    page = struct.pack("<4sIIII12x", b"RpmP", 0, 1, 1, 99)
    page += b"".join(struct.pack("<4sIII", b"Slot", *slot) for slot in slots)
    return page.ljust(4096, b"\0") + blobs


def test_headers_that_say_more_than_they_have_cost_no_memory(tmp_path: Path) -> None:
    place = tmp_path / "database"
    for directories, count, listed in ((b"d" * 4000, 2000, True), (b"d" * 5000, 10, False)):
        blob = header(directories, count)
        data = ndb((1, 256, 1 << 20), blobs=struct.pack("<4sIII", b"BlbS", 1, 1, len(blob)) + blob)
        place.write_bytes(data)
        found = list(rpm.packages(place))
        assert len(found) == listed
        # One path at a time, of a directory that is there once.
        assert sum(1 for _, files in found for _ in files) == count * listed
    # A package that lies at one place many times: the database would be shorter than what it has.
    blob = header(b"d", 50_000)
    place.write_bytes(ndb(*[(1, 256, 1 << 20)] * 200, blobs=struct.pack("<4sIII", b"BlbS", 1, 1, len(blob)) + blob))
    assert len(list(rpm.packages(place))) == 1
