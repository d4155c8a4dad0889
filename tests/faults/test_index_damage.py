"""Indexes that are not this tree's, or not whole: a right digest or a rebuild, never a wrong digest.

Each byte flipped and each length cut: `crates/core/src/index/tests/damage.rs`.
"""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

from sapwood.tree import Index
from tests.support.clock import settle
from tests.support.reapi_digest import tree_digest

HEADER, RECORD = 64, 128
FILES = {"a": "one", "b": "two", "c/a": "six", "c/b": "ten", "d/a": "one"}


def make_tree(root: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    (root / "link").symlink_to(files["a"])


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Of a tree whose files are all of one size, hashed and settled."""
    make_tree(tmp_path / "root", FILES)
    settle()
    index = Index(tmp_path / "root", tmp_path / "index")
    index.hash()
    return index


def check(index: Index, put: bytes) -> int:
    """Put an index in place; return how many files the next hash read."""
    index.path.write_bytes(put)
    hashed = index.hash()
    assert hashed.digest == tree_digest(index.root)
    again = index.hash()
    assert (again.digest, again.files_hashed) == (hashed.digest, 0)
    return hashed.files_hashed


def test_any_two_records_exchanged(index: Index) -> None:
    stored = index.path.read_bytes()
    count = (len(stored) - HEADER) // RECORD
    places = [slice(HEADER + number * RECORD, HEADER + (number + 1) * RECORD) for number in range(count)]
    for one, other in combinations(places, 2):
        mixed = bytearray(stored)
        mixed[one], mixed[other] = stored[other], stored[one]
        check(index, mixed)


def test_any_block_twice_missing_or_zero(index: Index) -> None:
    stored = index.path.read_bytes()
    for size in (8, 64, 128, 512):
        for at in range(0, len(stored) - size, size // 2):
            check(index, stored[:at] + stored[at + size :])
            check(index, stored[:at] + stored[at : at + size] * 2 + stored[at + size :])
            check(index, stored[:at] + bytes(size) + stored[at + size :])


def hard_links(root: Path, other: Path) -> None:
    """All files are the same, and all directories others."""
    shutil.copytree(root, other, symlinks=True, copy_function=os.link)
    (other / "a").unlink()
    os.link(root / "b", other / "a")


def a_copy(root: Path, other: Path) -> None:
    """All times of mtime are the same."""
    shutil.copytree(root, other, symlinks=True)
    (other / "a").write_text("TWO")


def other_contents(root: Path, other: Path) -> None:
    """Only inode and time tell."""
    make_tree(other, {path: content.upper() for path, content in FILES.items()})


@pytest.mark.parametrize("make", [hard_links, a_copy, other_contents])
def test_the_index_of_another_tree_whole_and_block_by_block(
    index: Index, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    make(index.root, tmp_path / "other")
    settle()
    other = Index(tmp_path / "other", tmp_path / "other-index")
    other.hash()
    index.hash()
    mine, theirs = index.path.read_bytes(), other.path.read_bytes()
    assert len(mine) == len(theirs)
    check(index, theirs)
    check(other, mine)
    for size in (8, 64, RECORD):
        for at in range(0, len(mine), size):
            check(index, mine[:at] + theirs[at : at + size] + mine[at + size :])
            check(index, theirs[:at] + mine[at : at + size] + theirs[at + size :])


def test_an_index_of_a_state_of_long_ago(index: Index) -> None:
    """As from a backup, or from a snapshot of the disk that holds the cache."""
    states = []
    for number in range(6):
        states.append(index.path.read_bytes())
        (index.root / "c" / "a").write_text(f"{number:03}")
        os.rename(index.root / "d", index.root / "e")
        os.rename(index.root / "e", index.root / "d")
        if number % 2:
            (index.root / "d" / f"new-{number}").write_text("new")
        settle()
        index.hash()
    for stored in states:
        check(index, stored)


@pytest.mark.parametrize(("version", "order", "files"), [(2, 0x01020304, 0), (2, 0x04030201, 5), (1, 0x01020304, 5)])
def test_an_index_of_another_byte_order_or_an_older_version_counts_as_none(
    index: Index, version: int, order: int, files: int
) -> None:
    stored = index.path.read_bytes()
    header = stored[:8] + struct.pack("<II", version, order) + stored[16:60]
    assert check(index, header + struct.pack("<I", zlib.crc32(header)) + stored[64:]) == files
