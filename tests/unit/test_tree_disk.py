"""Trees and disks: plain directories as trees, trees as plain directories, and whether the two still agree."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError, UnavailableError
from sapwood.open import OpenStore
from sapwood.tree import Index, Leaf, Tree, read_plain, write_plain
from tests.support.trees import LARGE, differences, make_hard, noise


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hard tree, and in `store` beside it a store that has it."""
    place = tmp_path_factory.mktemp("disk")
    make_hard(place / "hard")
    open_store(str(place / "store"), create=True, cache_dir=place / "cache").push(
        place / "hard", "main", index=place / "index"
    )
    return place / "hard"


def test_a_plain_directory_is_the_tree_that_an_index_makes_of_it(hard: Path, tmp_path: Path) -> None:
    plain, indexed = read_plain(hard), Index(hard, tmp_path / "index").tree()
    assert plain.digest == indexed.digest
    for (path, mine), (other, theirs) in zip(plain.list(), indexed.list(), strict=True):
        assert path == other
        for fact in ("kind", "mode", "uid", "gid", "mtime_ns", "digest", "target", "device", "size"):
            assert getattr(mine, fact) == getattr(theirs, fact), (path, fact)


def test_what_is_written_is_as_it_was_but_for_owners_attributes_and_holes(hard: Path, tmp_path: Path) -> None:
    write_plain(open_store(str(hard.parent / "store")).tree("main"), tmp_path / "out")
    assert differences(hard, tmp_path / "out", but=frozenset({"owner", "xattrs", "holes", "mode"})) == []
    for path, item in read_plain(hard).list():
        mode = os.lstat(os.path.join(os.fsencode(tmp_path / "out"), path)).st_mode & 0o7777
        ours = (item.uid, item.gid) == (os.geteuid(), os.getegid()) or item.kind == "dir"
        assert mode == item.mode if ours else mode == item.mode & 0o1777


def test_a_file_of_somebody_else_has_no_set_id_bits_when_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "tool"
    file.write_text("#!/bin/sh\n")
    if os.geteuid() == 0:
        os.chown(file, 1234, 1234)
        file.chmod(0o6755)
        write_plain(read_plain(tmp_path / "in"), tmp_path / "out")
        assert stat.S_IMODE((tmp_path / "out" / "tool").stat().st_mode) == 0o755
    file.chmod(0o4755)
    os.chown(file, os.geteuid(), os.getegid())
    file.chmod(0o4755)
    write_plain(read_plain(tmp_path / "in"), tmp_path / "mine")
    assert stat.S_IMODE((tmp_path / "mine" / "tool").stat().st_mode) == 0o4755


def test_hard_links_of_a_store_are_hard_links_again_wherever_they_were_put(hard: Path, tmp_path: Path) -> None:
    tree = open_store(str(hard.parent / "store")).tree("main")
    # The first name of the inode is left out; the others still share one.
    left = tree.filter(lambda path, _: path != b"links/0-first")
    write_plain(left.modify(b"elsewhere", tree.lookup(b"links/z/three")), tmp_path / "out")
    inodes = {(tmp_path / "out" / name).stat().st_ino for name in ("links/a/one", "links/a/two", "elsewhere")}
    assert len(inodes) == 1
    assert (tmp_path / "out" / "elsewhere").read_text() == "several names"


def test_only_a_missing_or_empty_directory_is_written_to(tmp_path: Path) -> None:
    tree = Tree.of({b"a": b"x"})
    (tmp_path / "empty").mkdir()
    write_plain(tree, tmp_path / "empty")
    for place, kind in (("empty", "not-empty"), ("empty/a", "not-a-directory")):
        with pytest.raises(InvalidInputError) as refused:
            write_plain(tree, tmp_path / place)
        assert refused.value.kind == kind
    with pytest.raises(NotFoundError):
        write_plain(tree, tmp_path / "no" / "where")


class Hostile:
    """A source with one file of a name of its own choosing."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    digest = None

    def hashed(self) -> None:
        return None

    def lookup(self, path: bytes) -> None:
        return None

    def list(self, path: bytes) -> list[object]:
        entry = Leaf.file(b"hostile").entry

        class Named:
            name = self.name
            path = self.name
            kind, mode, links, size, mtime_ns, uid, gid = "reg", 0o644, 1, 7, None, None, None
            target = device = None
            digest = entry.digest

        return [Named()]

    def read(self, entry: object) -> Iterator[bytes]:
        yield b"hostile"

    def listing(self, path: bytes) -> None:
        return None


@pytest.mark.parametrize("name", [b"..", b".", b"/etc/passwd", b"../out-of-it", b"a/b", b"", b"nul\0"])
def test_no_name_writes_elsewhere_nor_gets_into_a_tree(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(InvalidInputError) as refused:
        write_plain(Tree.from_source(Hostile(name)), tmp_path / "out")
    assert refused.value.kind == "bad-name"
    assert os.listdir(tmp_path) == []
    with pytest.raises(InvalidInputError) as refused:
        Tree.of({name: b"x"})
    assert refused.value.kind == "bad-name"
    if name not in (b"", b"a/b", b"/etc/passwd"):
        with pytest.raises(InvalidInputError):
            Tree.of({}).modify(b"d/" + name, b"x")


def test_a_write_that_fails_leaves_nothing_and_two_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / name).write_text("before")
    tree = read_plain(tmp_path / "in")
    assert tree.digest
    (tmp_path / "in" / "b").write_text("after!")
    with pytest.raises(UnavailableError) as changed:
        write_plain(tree, tmp_path / "out")
    assert changed.value.kind == "file-changing"
    assert sorted(os.listdir(tmp_path)) == ["in"]

    class Recursive(Hostile):
        def read(self, entry: object) -> Iterator[bytes]:
            write_plain(Tree.of({}), tmp_path / "out")
            yield b"hostile"

    with pytest.raises(ConflictError):
        write_plain(Tree.from_source(Recursive(b"a")), tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["in"]


EDITS: dict[str, Callable[[Path], object]] = {
    "rewritten": lambda path: path.write_text("CONTENT"),
    "grown": lambda path: path.write_text("content and more"),
    "gone": Path.unlink,
    "replaced by a directory": lambda path: (path.unlink(), path.mkdir()),
    "replaced by a symlink": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    "replaced by a FIFO": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("opened", [read_plain, lambda root: Index(root).tree()], ids=["plain", "index"])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_a_check_reports_every_file_that_is_not_what_the_tree_says(
    tmp_path: Path, opened: Callable[[Path], Tree], edit: Callable[[Path], object]
) -> None:
    root = tmp_path / "root"
    (root / "d").mkdir(parents=True)
    for name in ("a", "d/b", "d/c", "e"):
        (root / name).write_text("content")
    tree = opened(root)
    assert tree.digest
    assert list(tree.check()) == []
    for name in ("a", "d/c"):
        edit(root / name)
    found = list(tree.check())
    assert [mismatch.path for mismatch in found] == [b"a", b"d/c"]
    for mismatch in found:
        assert mismatch.expected == tree.lookup(mismatch.path).digest
        assert mismatch.found != mismatch.expected
        assert str(root) in mismatch.why


def test_a_check_tells_what_an_edited_file_hashes_to(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_text("one")
    tree = Index(tmp_path / "root").tree()
    (tmp_path / "root" / "a").write_text("two")
    [mismatch] = tree.check()
    assert mismatch.found == Leaf.file(b"two").digest


def test_a_check_of_a_store_reports_every_damaged_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for number in range(3):
        (root / f"large-{number}").write_bytes(noise(LARGE + 100, number))
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(root, "main")
    tree = store.tree("main")
    assert list(tree.check()) == []
    for number in (0, 2):
        damage(store, tree, f"large-{number}".encode())
    found = list(tree.check())
    assert [(mismatch.path, mismatch.found) for mismatch in found] == [(b"large-0", None), (b"large-2", None)]
    assert all(str(tmp_path / "store") in mismatch.why for mismatch in found)
    with pytest.raises(CorruptError):
        list(tree.read_blob(b"large-0"))


def damage(store: OpenStore, tree: Tree, path: bytes) -> None:
    frame = tree.lookup(path).entry.chunks[0][0]
    pack = Path(store.url) / "packs" / f"{frame.pack}.tar.zst"
    pack.chmod(0o644)
    with open(pack, "r+b") as file:
        file.seek(frame.offset + frame.length // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_a_check_reports_a_directory_whose_entries_are_not_those_of_its_digest() -> None:
    class Lying(Hostile):
        digest = "sha256:" + "0" * 64

    [mismatch] = Tree.from_source(Lying(b"a")).check()
    assert mismatch[:2] == (b"", "sha256:" + "0" * 64)
    assert mismatch.found == Tree.of({b"a": b"hostile"}).digest


def test_a_store_that_does_not_answer_is_no_mismatch() -> None:
    class Far(Hostile):
        def list(self, path: bytes) -> list[object]:
            raise UnavailableError("no answer", kind="store-unreachable")

    with pytest.raises(UnavailableError):
        list(Tree.from_source(Far(b"a")).check())


def test_a_plain_tree_stays_what_it_was_when_first_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "d").mkdir()
    tree = read_plain(tmp_path)
    assert [name for name, _ in tree.list_immediate()] == [b"a", b"d"]
    (tmp_path / "b").write_text("later")
    (tmp_path / "d" / "c").write_text("later too, but nobody has looked there")
    assert [path for path, _ in tree.list()] == [b"a", b"d", b"d/c"]
    (tmp_path / "a").write_text("two")
    with pytest.raises(UnavailableError) as changed:
        _ = tree.digest
    assert changed.value.kind == "file-changing"


def test_of_a_large_plain_file_that_was_touched_not_a_byte_is_given(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(noise(LARGE))
    tree = read_plain(tmp_path)
    assert tree.lookup(b"large").kind == "reg"
    with open(tmp_path / "large", "r+b") as file:
        file.write(b"other")
    with pytest.raises(UnavailableError) as changed:
        next(tree.read_blob(b"large"))
    assert changed.value.kind == "file-changing"


def test_no_symlink_that_takes_the_place_of_a_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "root" / "d").mkdir(parents=True)
    (tmp_path / "root" / "d" / "a").write_text("inside")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("inside")
    for tree in (read_plain(tmp_path / "root"), Index(tmp_path / "root").tree()):
        assert tree.digest
        (tmp_path / "root" / "d").rename(tmp_path / "root" / "was")
        (tmp_path / "root" / "d").symlink_to(tmp_path / "out")
        with pytest.raises(UnavailableError) as changed:
            list(tree.read_blob(b"d/a"))
        assert changed.value.kind == "file-changing"
        (tmp_path / "root" / "d").unlink()
        (tmp_path / "root" / "was").rename(tmp_path / "root" / "d")


def test_a_plain_directory_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError) as wrong:
        read_plain(tmp_path / "file")
    assert wrong.value.kind == "not-a-directory"
    with pytest.raises(NotFoundError):
        read_plain(tmp_path / "gone")


def test_trees_deeper_than_pythons_stack_and_the_kernels_paths_work(tmp_path: Path) -> None:
    levels = 1100
    path = b"/".join([b"deep"] * levels)
    tree = Tree.of({}).modify(path + b"/file", b"deep")
    write_plain(tree, tmp_path / "out")
    try:
        plain = read_plain(tmp_path / "out")
        assert plain.digest == tree.digest == tree.filter(lambda *_: True).digest == tree.expand().digest
        assert sum(1 for _ in plain.list()) == levels + 1
        assert list(plain.diff(tree)) == []
        changed = tree.modify(path + b"/file", b"other")
        assert list(plain.overlay(changed).diff(plain)) == [("changed", path + b"/file")]
        assert list(plain.check()) == []
        assert b"".join(plain.read_blob(path + b"/file")) == b"deep"
    finally:
        # Too deep for pytest's own clearing.
        handle = os.open(tmp_path / "out", os.O_RDONLY)
        for _ in range(levels):
            below = os.open("deep", os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = below
        os.unlink("file", dir_fd=handle)
        for _ in range(levels):
            above = os.open("..", os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = above
            os.rmdir("deep", dir_fd=handle)
        os.close(handle)
