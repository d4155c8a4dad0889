"""Trees: the same answers whatever the source, and nothing fetched but what is looked at."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sapwood import Tree, open_store, open_tree
from sapwood.digests import PackName
from sapwood.errors import InvalidInputError, NotFoundError, UnavailableError
from sapwood.open import OpenStore
from sapwood.tree import Item
from tests.support.trees import LARGE, make_hard, noise

BY_SOURCE = pytest.mark.parametrize("source", ["directory", "store"])


class CountingStore(OpenStore):
    """A store that notes which bytes of packs were asked for."""

    asked: list[tuple[str, int, int]]

    def read_ranges(self, pack: PackName, ranges: list[tuple[int, int]]) -> list[bytes]:
        self.asked += [(pack, offset, length) for offset, length in ranges]
        return super().read_ranges(pack, ranges)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hard tree, and in `store` beside it a store that has it."""
    place = tmp_path_factory.mktemp("trees")
    make_hard(place / "hard")
    open_store(str(place / "store"), create=True, cache_dir=place / "cache").push(
        place / "hard", "main", index=place / "index"
    )
    return place / "hard"


@pytest.fixture
def tree(hard: Path, source: str) -> Tree:
    return open_tree(str(hard)) if source == "directory" else open_tree(f"{hard.parent / 'store'}#main")


def seen(entry: Item) -> tuple[object, ...]:
    """What both sources know of an entry that is no hard link."""
    return (
        entry.kind, entry.size, entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.digest,
        entry.target, entry.device,
    )  # fmt: skip


@BY_SOURCE
def test_a_walk_meets_everything_once_parents_first_in_the_order_of_names(tree: Tree, hard: Path) -> None:
    paths = [path for path, _ in tree.list()]
    assert len(paths) == len(set(paths))
    expected = set()
    top = os.fsencode(hard)
    for folder, names, files in os.walk(top):
        expected |= {os.path.relpath(os.path.join(folder, name), top) for name in names + files}
    assert set(paths) == expected
    met = {b""}
    for path in paths:
        assert os.path.dirname(path) in met
        met.add(path)
    assert [name for name, _ in tree.list_immediate()] == sorted(os.listdir(top))


@BY_SOURCE
def test_entries_say_what_lstat_says(tree: Tree, hard: Path) -> None:
    for path, entry in [(b"", tree), *tree.list()]:
        stat = os.lstat(os.path.join(os.fsencode(hard), path))
        assert seen(entry) == seen(tree.lookup(path))
        assert entry.mode == stat.st_mode & 0o7777
        entry = entry.resolved()
        assert (entry.uid, entry.gid, entry.mtime_ns) == (stat.st_uid, stat.st_gid, stat.st_mtime_ns)
        if entry.kind in ("reg", "symlink"):
            assert entry.size == stat.st_size
        if entry.device:
            assert os.makedev(*entry.device) == stat.st_rdev


def test_directory_and_store_agree_on_every_entry(hard: Path) -> None:
    directory, store = open_tree(str(hard)), open_tree(f"{hard.parent / 'store'}#main")
    assert directory.digest == store.digest
    for (path, mine), (other, theirs) in zip(directory.list(), store.list(), strict=True):
        assert path == other
        assert seen(mine) == seen(theirs.resolved())
    assert list(directory.diff(store)) == list(store.diff(directory)) == []


@BY_SOURCE
def test_blobs_come_whole_and_in_order(tree: Tree, hard: Path) -> None:
    for name, _ in tree.list():
        path = os.path.join(os.fsencode(hard), name)
        if os.path.isfile(path) and not os.path.islink(path):
            digest = hashlib.sha256()
            for piece in tree.read_blob(name):
                digest.update(piece)
            with open(path, "rb") as file:
                assert digest.digest() == hashlib.file_digest(file, "sha256").digest()


@BY_SOURCE
def test_what_is_not_there_or_is_no_directory_or_file_is_said(tree: Tree) -> None:
    for path in (
        b"none",
        b"contents/none",
        b"contents/text/none",
        b"contents//text",
        b"../contents",
        b"contents/.",
        b"\0",
    ):
        assert tree.find(path) is None
        with pytest.raises(NotFoundError) as missing:
            tree.lookup(path)
        assert missing.value.kind == "path-missing"
    for path in (b"contents/text", b"links/fifo", b"links/up"):
        assert tree.find_tree(path) is None
    for path in (b"", b"contents", b"links/fifo", b"links/absolute"):
        with pytest.raises(InvalidInputError) as wrong:
            list(tree.read_blob(path))
        assert wrong.value.kind == "not-a-file"
    for path in (b"contents", b"links/fifo", b"links/up"):
        assert tree.find_file(path) is None
    assert dict(tree.lookup(b"modes/empty").items) == {}
    assert seen(tree.lookup(b"/contents/text/")) == seen(tree.lookup(b"contents/text"))


def write(content: bytes) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        path.write_bytes(content)

    return change


CHANGES: dict[str, Callable[[Path], object]] = {
    "rewritten": write(b"other"),
    "grown": write(bytes(LARGE)),
    "emptied": write(b""),
    "executable": lambda path: path.chmod(0o755),
    "a symlink": lambda path: (path.unlink(), path.symlink_to("elsewhere")),
    "a fifo": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_file_that_became_something_else_is_changed(tmp_path: Path, change: Callable[[Path], object]) -> None:
    (tmp_path / "d").mkdir()
    for name in "abc":
        (tmp_path / "d" / name).write_text("content")
    before = open_store(str(tmp_path / "store"), create=True)
    before.push(tmp_path / "d", "main")
    change(tmp_path / "d" / "b")
    [found] = before.tree("main").diff(open_tree(str(tmp_path / "d")))
    assert found == ("changed", b"b")


def test_a_file_that_became_a_directory_is_removed_and_added(tmp_path: Path) -> None:
    root = tmp_path / "d"
    root.mkdir()
    (root / "a").write_text("content")
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(root, "main")
    (root / "a").unlink()
    (root / "a" / "b").mkdir(parents=True)
    assert list(store.tree("main").diff(open_tree(str(root)))) == [
        ("removed", b"a"), ("added", b"a"), ("added", b"a/b"),
    ]  # fmt: skip
    assert {tuple(change) for change in open_tree(str(root)).diff(store.tree("main"))} == {
        ("removed", b"a"), ("removed", b"a/b"), ("added", b"a"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "edit",
    [write(b"edited!"), Path.unlink, lambda path: (path.unlink(), os.mkfifo(path)),
     lambda path: (path.unlink(), path.mkdir()), lambda path: (path.unlink(), path.symlink_to("/etc/passwd"))],
    ids=["rewritten", "gone", "a fifo", "a directory", "a symlink"],
)  # fmt: skip
def test_a_working_file_that_is_another_by_now_gives_an_error_and_no_other_bytes(
    tmp_path: Path, edit: Callable[[Path], object]
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_text("content")
    tree = open_tree(str(tmp_path / "d"))
    edit(tmp_path / "d" / "a")
    given = []
    with pytest.raises((UnavailableError, NotFoundError)) as changed:
        given += tree.read_blob(b"a")
    assert given == []
    assert changed.value.kind in ("file-changing", "path-missing")
    assert f"{tmp_path}/d/a " in str(changed.value)


@pytest.fixture
def counting(tmp_path: Path) -> CountingStore:
    """A store with a tree of many pages."""
    root = tmp_path / "project"
    for folder in range(60):
        (root / f"folder-{folder}").mkdir(parents=True)
        for file in range(100):
            (root / f"folder-{folder}" / f"a-file-with-some-name-{file}").write_bytes(noise(300, folder * 100 + file))
    (root / "large").write_bytes(noise(5 * LARGE))
    open_store(str(tmp_path / "store"), create=True).push(root, "main")
    store = CountingStore.open(str(tmp_path / "store"))
    store.asked = []
    return store


def test_nothing_is_fetched_but_the_pages_and_chunks_that_are_looked_at(counting: CountingStore) -> None:
    tree = counting.tree("main")
    assert tree.digest.startswith("sha256:")
    assert counting.asked == [], "a tree that nobody looks into costs its fence index"
    assert tree.mode
    assert len(counting.asked) == 1, "the root: one page"
    list(tree.find_tree(b"folder-30").list())
    pages = len(counting.asked)
    assert pages <= 4, "one directory: the pages of its entries and of its own"
    assert len(tree.find_tree(b"folder-30").list_immediate()) == 100
    tree.lookup(b"folder-30/a-file-with-some-name-5")
    assert len(counting.asked) == pages, "a page is fetched once"
    content = b"".join(tree.read_blob(b"folder-30/a-file-with-some-name-5"))
    assert (content, len(counting.asked)) == (noise(300, 3005), pages + 1), "a file: one frame"
    first = next(tree.read_blob(b"large"))
    assert noise(5 * LARGE).startswith(first)
    assert len(counting.asked) <= pages + 3, "the beginning of a large file: one chunk, and perhaps a page"


def test_a_diff_fetches_what_differs(counting: CountingStore, tmp_path: Path) -> None:
    (tmp_path / "project" / "folder-30" / "a-file-with-some-name-5").write_text("edited")
    counting.push(tmp_path / "project", "edited")
    counting.asked.clear()
    old, new = counting.tree("main"), counting.tree("edited")
    assert list(old.diff(new)) == [("changed", b"folder-30/a-file-with-some-name-5")]
    assert len(counting.asked) <= 12, "on each side the pages of the root and of one directory"
    counting.asked.clear()
    assert list(new.diff(counting.tree("edited"))) == []
    assert counting.asked == [], "equal digests: nothing"
