"""What tries to look unchanged: the index is not fooled."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import UnavailableError
from sapwood.tree import Index, Tree
from tests.support.clock import settle
from tests.support.diskimage import disk_image
from tests.support.nobody import as_nobody, nobodys_directory
from tests.support.reapi_digest import tree_digest
from tests.support.smalldisk import small_disk
from tests.support.unmounting import take_away

YEAR_2037 = 2_114_380_800


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Of a tree with a file in a directory."""
    (tmp_path / "root" / "d").mkdir(parents=True)
    (tmp_path / "root" / "d" / "f").write_text("one")
    return Index(tmp_path / "root", tmp_path / "state")


def check(index: Index) -> None:
    assert index.hash().digest == tree_digest(index.root)


@contextmanager
def file_system(kind: str, home: Path) -> Iterator[Path]:
    if kind == "tmpfs":
        with small_disk(home / "disk", 1 << 20) as place:
            yield place
    elif kind == "whole seconds":
        with disk_image(home, coarse=True) as image, image.mounted() as place:
            (place / "probe").touch()
            assert (place / "probe").stat().st_ctime_ns % 10**9 == 0
            yield place
    else:
        yield home


@pytest.mark.parametrize("kind", ["where tests run", "tmpfs", "whole seconds"])
def test_rewritten_in_place_as_fast_as_can_be_with_its_time_set_back(tmp_path: Path, kind: str) -> None:
    with file_system(kind, tmp_path) as place:
        (place / "root").mkdir()
        file = place / "root" / "f"
        file.write_text("one")
        mtime = file.stat().st_mtime_ns
        index = Index(place / "root", tmp_path / "state")
        for number in range(300):
            file.write_text(("two", "six", "ten")[number % 3])
            os.utime(file, ns=(mtime, mtime))
            check(index)
        if kind == "whole seconds":
            # The clock's grain is two seconds here; then it is trusted as elsewhere.
            while time.time_ns() < file.stat().st_ctime_ns + 2_100_000_000:
                time.sleep(0.05)
        settle()
        index.hash()
        assert index.hash().files_hashed == 0
        file.write_text("end")
        check(index)


def test_another_file_with_the_inode_number_size_and_time_of_the_old_one(index: Index) -> None:
    file = index.root / "d" / "f"
    reused = 0
    for number in range(50):
        settle()
        check(index)
        old = file.stat()
        file.unlink()
        file.write_text(f"{number:03}")
        os.utime(file, ns=(old.st_mtime_ns, old.st_mtime_ns))
        reused += file.stat().st_ino == old.st_ino
        check(index)
    assert reused


def test_what_is_mounted_over_a_file_or_a_directory_and_taken_away_again(index: Index, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "f").write_text("two")
    settle()
    check(index)
    for source, target in ((other, index.root / "d"), (other / "f", index.root / "d" / "f")):
        subprocess.run(["mount", "--bind", source, target], check=True)
        try:
            check(index)
            settle()
            (other / "f").write_text("six")
            check(index)
        finally:
            take_away(target)
        check(index)


def test_a_file_from_the_future_is_never_believed_so_a_clock_set_back_hides_nothing(tmp_path: Path) -> None:
    with disk_image(tmp_path) as image:
        index = Index(tmp_path / "disk", tmp_path / "state")
        with image.mounted() as place:
            (place / "f").write_text("one")
        image.set_times("f", YEAR_2037)
        with image.mounted() as place:
            check(index)
            seen = (place / "f").stat()
            assert seen.st_ctime_ns == YEAR_2037 * 10**9
            # As the clock comes to that time again.
            (place / "f").write_text("two")
        image.set_times("f", YEAR_2037)
        with image.mounted() as place:
            assert [*(place / "f").stat()][:9] == [*seen][:9]
            assert (place / "f").stat().st_ctime_ns == seen.st_ctime_ns
            check(index)


def test_a_symlink_that_takes_a_directorys_place_leads_nobody_out_of_the_tree(index: Index, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("f", "of others"):
        (secret / name).write_text("secret")
    (index.root / "e").symlink_to(secret)
    stop = threading.Event()

    def exchange() -> None:
        libc = ctypes.CDLL(None)
        while not stop.is_set():
            libc.renameat2(-100, bytes(index.root / "d"), -100, bytes(index.root / "e"), 2)

    swapping = threading.Thread(target=exchange)
    swapping.start()
    try:
        for _ in range(200):
            try:
                tree = index.tree()
            except UnavailableError as error:
                if error.kind != "file-changing":
                    raise
                continue
            assert {path for path, _ in tree.list()} <= {b"d", b"e", b"d/f", b"e/f"}
            files = [item for _, item in tree.list() if not isinstance(item, Tree) and item.kind == "reg"]
            assert {file.size for file in files} <= {len("one")}
    finally:
        stop.set()
        swapping.join()
    check(index)


def test_a_tree_deeper_than_any_path_is_hashed_looked_at_and_told_of(index: Index) -> None:
    name = "n" * 250
    depth = 40
    here = os.open(index.root, os.O_PATH)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_PATH, dir_fd=here)
        os.close(here)
        here = below
    path = b"/".join([name.encode()] * depth + [b"f"])
    try:
        for content in (b"one", b"two"):
            file = os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here)
            os.write(file, content)
            os.close(file)
            settle()
            status = index.status()
            assert status.fresh or status.changed == (path,)
            check(index)
        assert index.hash().files_hashed == 0
        assert index.verify().wrong == ()
        assert b"".join(index.tree().read_blob(path)) == b"two"
        assert index.describe(path)["differs"] == []
    finally:
        os.close(here)


def test_attributes_of_what_an_index_took_over_are_pushed(index: Index, tmp_path: Path) -> None:
    for path in ("d", "d/f"):
        os.setxattr(index.root / path, "user.sapwood", b"x")
    settle()
    other = Index(index.root, tmp_path / "other")
    other.update_from(index.tree())
    settle()
    assert other.hash().files_hashed == 0
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(index.root, "main", index=other.path)
    store.pull("main", tmp_path / "out")
    for path in ("d", "d/f"):
        assert os.listxattr(tmp_path / "out" / path) == ["user.sapwood"]


def test_an_ordinary_user_is_told_of_the_same_unreadable_paths_with_an_index_as_without() -> None:
    with nobodys_directory() as home:
        said = as_nobody(UNREADABLE, home)
    assert said.code == 0, said.err


UNREADABLE = """
import itertools, os, sys
from pathlib import Path
from sapwood.errors import DeniedError
from sapwood.tree import Index, Options

home = Path(sys.argv[1])
(home / "root" / "a" / "b" / "c").mkdir(parents=True)
paths = [home / "root" / path for path in ("a", "a/b", "a/b/c", "a/b/c/f", "a/f")]
for path in paths[3:]:
    path.write_text("content")
skip = Options(skip_unreadable=True)

def told(index):
    hashed = Index(home / "root", index, skip).hash()
    try:
        Index(home / "root", index).hash()
    except DeniedError as error:
        assert tuple(map(os.fsencode, error.paths)) == hashed.unreadable, (error.paths, hashed.unreadable)
    else:
        assert not hashed.unreadable
    return hashed.digest, hashed.unreadable

def open_all():
    for path in paths:
        path.chmod(0o755)

told(home / "kept")
for closed in itertools.product((0o755, 0o600, 0o300, 0), repeat=len(paths)):
    for path, mode in reversed(list(zip(paths, closed))):
        path.chmod(mode)
    (home / "new").unlink(missing_ok=True)
    kept, new = told(home / "kept"), told(home / "new")
    open_all()
    assert kept == new, (closed, kept, new)
    assert told(home / "kept")[1] == ()
"""
