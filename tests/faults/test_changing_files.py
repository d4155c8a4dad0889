"""Files and directories that change while they are pushed: what is stored was there, or the push says it cannot."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sapwood import hash_tree, open_store
from sapwood.errors import UnavailableError
from sapwood.open import OpenStore
from sapwood.pack import pack
from tests.support.reapi_digest import tree_digest
from tests.support.trees import LARGE

ROUNDS = 12

# A stream in which no piece is like another, so that a hole in what was read of it would be seen.
APPENDING = """
import os, sys
file, count, wrap = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT), 0, int(sys.argv[2])
print("begins", flush=True)
while True:
    os.write(file, b"%015d\\n" % count * 64)
    count += 1
    if count * 1024 > wrap:
        os.ftruncate(file, 0)
        count = 0
"""

# First the head, then the tail: whoever reads from head to tail at one time finds them equal, or the head one ahead.
BOTH_ENDS = """
import os, sys
size, count = int(sys.argv[2]), 0
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.ftruncate(file, size)
print("begins", flush=True)
while True:
    number = count.to_bytes(8, "big")
    os.pwrite(file, number, 0)
    os.pwrite(file, number, size - 8)
    count += 1
"""

CHURNING = """
import os, random, shutil, sys
os.chdir(sys.argv[1])
print("begins", flush=True)
while True:
    name, other = (random.choice("abcdefgh") for _ in "12")
    try:
        match random.randrange(8):
            case 0: os.unlink(name)
            case 1: open(name, "wb").write(os.urandom(random.choice((10, 5000))))
            case 2: os.mkdir(name)
            case 3: os.rename(name, other)
            case 4: os.link(name, other)
            case 5: os.setxattr(name, "user.x", os.urandom(10))
            case 6: open(name, "wb").truncate(1 << 20)
            case 7: shutil.rmtree(name)
    except OSError:
        pass
"""

# One name of a file becomes one of another file, and back.
SWAPPING = """
import os, sys
os.chdir(sys.argv[1])
print("begins", flush=True)
while True:
    for other in "two", "one":
        os.link(other, "next")
        os.rename("next", "tree/a")
"""


@contextmanager
def running(program: str, *arguments: str | Path) -> Iterator[None]:
    """Run a Python program that goes on until it is killed."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "begins\n"
            yield
        finally:
            process.kill()


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "still").write_text("still")
    return tmp_path / "tree"


def push(store: OpenStore, tree: Path) -> UnavailableError | None:
    """Push to `main`; return the error if there was one."""
    try:
        store.push(tree, "main")
    except UnavailableError as error:
        return error
    return None


def pushed(store: OpenStore, tree: Path) -> bytes | None:
    """Push and return what was stored of the file `busy`; None if the push said that it changes."""
    if error := push(store, tree):
        assert error.kind == "file-changing"
        assert str(tree / "busy") in str(error)
        assert error.hint
        return None
    there = store.tree("main")
    assert b"".join(there.read_blob(b"still")) == b"still"
    return b"".join(there.read_blob(b"busy"))


@pytest.mark.parametrize("wrap", [200_000, 4 * LARGE])
def test_of_a_file_that_grows_and_shrinks_only_what_it_held_at_one_time_is_stored(
    store: OpenStore, tree: Path, wrap: int
) -> None:
    with running(APPENDING, tree / "busy", wrap):
        for _ in range(ROUNDS):
            content = pushed(store, tree)
            if content is not None:
                whole = b"".join(b"%015d\n" % number * 64 for number in range(len(content) // 1024 + 1))
                assert whole.startswith(content)


@pytest.mark.parametrize("size", [100_000, LARGE - 1, 3 * LARGE])
def test_of_a_file_that_is_rewritten_in_place_no_mixture_is_stored(store: OpenStore, tree: Path, size: int) -> None:
    with running(BOTH_ENDS, tree / "busy", size):
        for _ in range(ROUNDS):
            content = pushed(store, tree)
            if content is not None:
                assert len(content) == size
                head, tail = (int.from_bytes(end, "big") for end in (content[:8], content[-8:]))
                assert head - tail in (0, 1)
    # And when it has come to rest, no digest of its restless days is believed.
    store.push(tree, "main")
    assert b"".join(store.tree("main").read_blob(b"busy")) == (tree / "busy").read_bytes()
    assert hash_tree(tree).digest == store.tree("main").digest == tree_digest(tree)


def test_entries_that_come_and_go_make_no_push_fail_but_for_a_file_that_changes(
    store: OpenStore, tree: Path, tmp_path: Path
) -> None:
    with running(CHURNING, tree):
        for number in range(4 * ROUNDS):
            if error := push(store, tree):
                assert error.kind == "file-changing", error
                continue
            pulled = store.pull("main", tmp_path / f"out-{number}")
            assert hash_tree(tmp_path / f"out-{number}").digest == pulled.tree
            assert (tmp_path / f"out-{number}" / "still").read_text() == "still"
    store.push(tree, "main")
    assert hash_tree(tree).digest == store.tree("main").digest == tree_digest(tree)


def test_a_second_name_is_never_packed_with_what_took_the_place_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "one").write_text("one")
    (tmp_path / "two").write_text("two")
    for name in "a", "b":
        (tmp_path / "tree" / name).hardlink_to(tmp_path / "one")
    packed = 0
    with running(SWAPPING, tmp_path):
        for _ in range(200):
            try:
                pack(tmp_path / "tree", str(tmp_path / "a.tar.gz"))
            except UnavailableError:  # which says that it changes
                continue
            with tarfile.open(tmp_path / "a.tar.gz") as tar:
                second = tar.extractfile("b")
                assert second is not None
                assert second.read() == b"one"
            packed += 1
    assert packed > 0
