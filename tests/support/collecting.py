"""Stores with something to collect, and what must be true of them afterwards."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sapwood.open import OpenStore, open_store
from tests.support.trees import differences, noise

DAY_NS = 86_400 * 10**9


def make_tree(root: Path, seed: int, *, files: int = 12, size: int = 300_000) -> None:
    """Fill a directory, and two below it, with files that no other seed has."""
    for number in range(files):
        folder = root / f"folder-{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number}").write_bytes(noise(size, 1000 * seed + number))


def change(root: Path, seed: int, every: int) -> None:
    """Give each so-manieth file another content."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for number, path in enumerate(files):
        if number % every:
            path.write_bytes(noise(path.stat().st_size, 1000 * seed + number))


def two_versions(home: Path) -> OpenStore:
    """Make `home/store` with two versions of `home/tree` in ref `main`, little the same; `home/first` is the first."""
    tree = home / "tree"
    made = open_store(str(home / "store"), create=True)
    make_tree(tree, 1)
    made.push(tree, "main")
    shutil.copytree(tree, home / "first", symlinks=True)
    change(tree, 2, 4)
    made.push(tree, "main")
    return made


def place(store: OpenStore) -> Path:
    """Return the directory of a local store."""
    return Path(store.url)


def age(store: Path, ns: int = DAY_NS) -> None:
    """Let everything in a local store have been put so much earlier."""
    for path in store.rglob("*"):
        if path.is_file():
            seen = path.stat()
            os.utime(path, ns=(seen.st_atime_ns - ns, seen.st_mtime_ns - ns))


def objects(store: Path) -> set[str]:
    """Return the keys of all objects that collection looks after."""
    folders = ("packs", "maps", "snapshots", "index", "gc", "leases")
    found = (path for folder in folders for path in (store / folder).glob("*"))
    return {path.relative_to(store).as_posix() for path in found}


def assert_reads_back(store: OpenStore, ref: str, expected: Path, scratch: Path) -> None:
    """The whole tree that `ref` names is the one expected, byte for byte."""
    number = sum(1 for _ in scratch.parent.glob(f"{scratch.name}*"))
    place = scratch.with_name(f"{scratch.name}-{number}")
    store.pull(ref, place)
    assert differences(expected, place) == []
