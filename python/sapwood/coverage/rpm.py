"""Databases of rpm: which files the packages have that they say are installed.

Invariant: a database is only read; what is damaged in it, or not as rpm writes it, ends the reading or names nothing,
and takes no more than its own size of memory. Read are SQLite (rpm 4.16 and later), NDB (SUSE), and the hash tables of
Berkeley DB (before). Sources: rpm's `lib/backend`, docs/manual/format_header; Berkeley DB's `dbinc/db_page.h`.
"""

from __future__ import annotations

import contextlib
import mmap
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["DATABASES", "packages"]

DATABASES = (b"rpmdb.sqlite", b"Packages.db", b"Packages")
"""What they are called, in a directory of rpm's."""

# Of a package's header, a path in it, and how many it may have.
_LONGEST = 64 << 20
_LONGEST_NAME = 4096
_MOST_FILES = 1_000_000
_NAME, _OLD_NAMES, _DIRECTORY_NUMBERS, _BASE_NAMES, _DIRECTORIES = 1000, 1027, 1116, 1117, 1118
_INT32, _STRING, _STRINGS = 4, 6, 8
# Steps of SQLite's machine, some of them for each page of a blob: a view could take any number.
_STEPS, _MOST_STEPS = 10_000, 100_000_000
_TABLE = "CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL)"

_Damage = (struct.error, IndexError, ValueError)


def packages(database: Path) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """Yield name and files of each package; paths without the first `/`. Of what is no database, none."""
    # One that lets many packages lie at one place is none of rpm's.
    left = sum(file.stat().st_size for file in database.parent.iterdir())
    for header in _headers(database):
        left -= len(header)
        if left < 0:
            return
        with contextlib.suppress(*_Damage):
            yield _package(header)


def _headers(database: Path) -> Iterator[bytes]:
    with database.open("rb") as file, contextlib.suppress(*_Damage):
        first = file.read(16)
        if first == b"SQLite format 3\0":
            yield from _of_sqlite(database)
            return
        # An empty file cannot be mapped: ValueError.
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            if first[:4] == b"RpmP":
                yield from _of_ndb(data)
            elif struct.unpack_from("<I", first, 12)[0] == 0x061561:
                yield from _of_hash(data)


def _package(header: bytes) -> tuple[bytes, Iterator[bytes]]:
    count, length = struct.unpack_from(">II", header)
    if 8 + 16 * count + length > len(header):
        raise ValueError("it is cut off")
    store = memoryview(header)[8 + 16 * count : 8 + 16 * count + length]
    found: dict[int, tuple[int, int, int]] = {}
    for at in range(count):
        tag, kind, offset, number = struct.unpack_from(">IIII", header, 8 + 16 * at)
        found[tag] = (kind, offset, number)
    [name] = _strings(store, found[_NAME], 1)
    if _OLD_NAMES in found:
        return name, (path.strip(b"/") for path in _strings(store, found[_OLD_NAMES]))
    if _BASE_NAMES not in found:
        return name, iter(())  # it has no files
    kind, offset, number = found[_DIRECTORY_NUMBERS]
    if kind != _INT32 or number > _MOST_FILES:
        raise ValueError("numbers of directories that are none")
    numbers = struct.unpack_from(f">{number}I", store, offset)
    directories = _strings(store, found[_DIRECTORIES])
    bases = _strings(store, found[_BASE_NAMES])
    if len(numbers) != len(bases) or any(number >= len(directories) for number in numbers):
        raise ValueError("names without directories")
    # One at a time: a directory's name is there once, and paths repeat it.
    return name, ((directories[number] + base).strip(b"/") for number, base in zip(numbers, bases, strict=True))


def _strings(store: memoryview, entry: tuple[int, int, int], most: int | None = None) -> list[bytes]:
    kind, offset, number = entry
    if kind not in (_STRING, _STRINGS) or number > _MOST_FILES:
        raise ValueError("names that are none")
    pieces = bytes(store[offset:]).split(b"\0", number if most is None else most)
    # The last ends with a NUL, too, so something is behind it.
    names = pieces[: number if most is None else most]
    if len(pieces) != len(names) + 1 or any(len(name) > _LONGEST_NAME for name in names):
        raise ValueError("names that are cut off, or too long")
    return names


def _of_sqlite(database: Path) -> Iterator[bytes]:
    steps = 0

    def step() -> bool:
        nonlocal steps
        steps += _STEPS
        return steps > _MOST_STEPS

    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(database, isolation_level=None)) as opened,
    ):
        opened.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        opened.execute("PRAGMA trusted_schema = OFF")
        opened.execute("PRAGMA cell_size_check = ON")
        opened.set_progress_handler(step, _STEPS)
        told = opened.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'Packages'").fetchone()
        if told is not None and "".join(str(told[0]).split()) == "".join(_TABLE.split()):
            for (header,) in opened.execute("SELECT blob FROM Packages ORDER BY hnum"):
                if isinstance(header, bytes):
                    yield header


def _of_ndb(data: mmap.mmap) -> Iterator[bytes]:
    pages = struct.unpack_from("<I", data, 12)[0]
    # Behind the header, which takes the room of two.
    for at in range(32, min(pages * 4096, len(data)), 16):
        magic, package, block, blocks = struct.unpack_from("<4sIII", data, at)
        if magic != b"Slot" or package == 0:
            continue
        mark, owner, _, length = struct.unpack_from("<4sIII", data, block * 16)
        if mark == b"BlbS" and owner == package and length <= min(_LONGEST, blocks * 16):
            yield data[block * 16 + 16 : block * 16 + 16 + length]


# Kinds of pages, and of things on them.
_HASH_PAGES, _OVERFLOW_PAGE, _OFF_PAGE, _ON_PAGE = (2, 13), 7, 3, 1
_PAGE_HEADER = 26


def _of_hash(data: mmap.mmap) -> Iterator[bytes]:
    page_size = struct.unpack_from("<I", data, 20)[0]
    if page_size not in (512 << shift for shift in range(8)):
        raise ValueError("no size of pages")
    for page in range(page_size, len(data) - page_size + 1, page_size):
        entries, kind = struct.unpack_from("<H3xB", data, page + 20)
        if kind not in _HASH_PAGES or _PAGE_HEADER + 2 * entries > page_size:
            continue
        places = struct.unpack_from(f"<{entries}H", data, page + _PAGE_HEADER)
        # Keys and values by turns; items lie one before the other, from the end of the page.
        for number in range(1, entries, 2):
            place, end = places[number], places[number - 1]
            if not _PAGE_HEADER <= place < end <= page_size:
                continue
            if data[page + place] == _OFF_PAGE:
                first, length = struct.unpack_from("<II", data, page + place + 4)
                yield _overflow(data, page_size, first, length)
            elif data[page + place] == _ON_PAGE:
                yield data[page + place + 1 : page + end]


def _overflow(data: mmap.mmap, page_size: int, page: int, length: int) -> bytes:
    """Return what lies on a chain of pages."""
    if length > min(_LONGEST, len(data)):
        raise ValueError("longer than the database")
    pieces, left = [], length
    while page and left > 0:
        following, held, kind = struct.unpack_from("<I2xH1xB", data, page * page_size + 16)
        # All but the last are full.
        if kind != _OVERFLOW_PAGE or held != min(page_size - _PAGE_HEADER, left):
            raise ValueError("no page of a chain")
        begin = page * page_size + _PAGE_HEADER
        pieces.append(data[begin : begin + held])
        left -= held
        page = following
    return b"".join(pieces)[:length]
