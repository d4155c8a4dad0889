"""Trees of very many small files, alike on every machine, and a git repository of one.

Made once into build/bench/. A tree has its files at the third level, `d000/d000/d000/file-000.txt`; each holds a line
of 100 bytes that no other file has, its number ten times, and with `filled` above 1 only one in so many holds anything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks.corpus import BUILD, say


class Shape(NamedTuple):
    """How many directories on each level, how many files in each of the third; one file in `filled` is not empty."""

    first: int
    second: int
    third: int
    files: int
    filled: int = 1

    @property
    def all_files(self) -> int:
        """How many files there are."""
        return self.first * self.second * self.third * self.files

    @property
    def entries(self) -> int:
        """How many files and directories there are, the root among them."""
        directories = self.first * (1 + self.second * (1 + self.third))
        return 1 + directories + self.all_files


MILLION = Shape(50, 50, 20, 20)
# A block for each of ten million files would be 41 GB.
TEN_MILLION = Shape(100, 100, 50, 20, filled=10)
_EDITS = 10


def generated(name: str, shape: Shape) -> Path:
    """Return the tree `name`, making it if this is the first time."""
    place = BUILD / name
    if not place.exists():
        need = os.statvfs(BUILD)
        if need.f_favail < shape.entries * 1.05:
            raise SystemExit(f"bench: {BUILD}: {shape.entries:,} inodes are needed, {need.f_favail:,} are free")
        say(f"making {shape.all_files:,} files in {place}")
        unfinished = BUILD / f"unfinished-{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        with ProcessPoolExecutor() as pool:
            list(pool.map(_make, *zip(*[(unfinished, shape, first) for first in range(shape.first)], strict=True)))
        os.sync()
        unfinished.rename(place)
    return place


def edited_twin(name: str, shape: Shape) -> Path:
    """Return a tree that differs from `generated` of the same shape in ten files, which lie far from each other."""
    place = BUILD / name
    if not place.exists():
        twin = generated(f"unedited-{name}", shape)
        for number in _edited(shape):
            (twin / os.fsdecode(_path(shape, number))).write_bytes(_edit(number))
        twin.rename(place)
    return place


def git_directory(name: str, shape: Shape) -> Path:
    """Return a repository in which the tree `name` is committed as `main`, and as `edited` what its twin is."""
    place = BUILD / f"{name}.git"
    if not place.exists():
        tree = generated(name, shape)
        say(f"importing {shape.all_files:,} files into {place}")
        unfinished = BUILD / f"unfinished-{name}.git"
        shutil.rmtree(unfinished, ignore_errors=True)
        git: list[str | Path] = ["git", "--git-dir", unfinished, "--work-tree", tree]
        subprocess.run([*git, "init", "--quiet", "--initial-branch", "main"], check=True)
        subprocess.run([*git, "config", "gc.auto", "0"], check=True)
        # Into one pack: `git add` would make an object file of each.
        importing = subprocess.Popen([*git, "fast-import", "--quiet"], stdin=subprocess.PIPE)
        assert importing.stdin is not None
        with importing.stdin as stream:
            for piece in _commits(shape):
                stream.write(piece)
        if importing.wait():
            raise SystemExit(f"bench: git fast-import ended with code {importing.returncode}")
        subprocess.run([*git, "read-tree", "main"], check=True)
        subprocess.run([*git, "update-index", "-q", "--refresh"], check=True)
        unfinished.rename(place)
    return place


def _make(root: Path, shape: Shape, first: int) -> None:
    """Make one directory of the first level and what is below."""
    number = first * shape.second * shape.third * shape.files
    for second in range(shape.second):
        for third in range(shape.third):
            folder = root / f"d{first:03}" / f"d{second:03}" / f"d{third:03}"
            folder.mkdir(parents=True)
            at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            for file in range(shape.files):
                made = os.open(b"file-%03d.txt" % file, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644, dir_fd=at)
                if number % shape.filled == 0:
                    os.write(made, _line(number))
                os.close(made)
                number += 1
            os.close(at)


def _commits(shape: Shape) -> Iterator[bytes]:
    """Yield what git fast-import reads."""
    who = b"committer bench <bench@localhost> 0 +0000\n"
    yield b"commit refs/heads/main\nmark :1\n" + who + b"data 0\n"
    for number in range(shape.all_files):
        yield _import(shape, number, _line(number) if number % shape.filled == 0 else b"")
    yield b"commit refs/heads/edited\n" + who + b"data 0\nfrom :1\n"
    for number in _edited(shape):
        yield _import(shape, number, _edit(number))
    yield b"done\n"


def _import(shape: Shape, number: int, content: bytes) -> bytes:
    return b"M 100644 inline %s\ndata %d\n%s\n" % (_path(shape, number), len(content), content)


def _path(shape: Shape, number: int) -> bytes:
    number, file = divmod(number, shape.files)
    number, third = divmod(number, shape.third)
    first, second = divmod(number, shape.second)
    return b"d%03d/d%03d/d%03d/file-%03d.txt" % (first, second, third, file)


def _edited(shape: Shape) -> range:
    return range(0, shape.all_files, shape.all_files // _EDITS)


def _line(number: int) -> bytes:
    return b"%09d " % number * 9 + b"%09d\n" % number


def _edit(number: int) -> bytes:
    return _line(number) + b"edited\n"
