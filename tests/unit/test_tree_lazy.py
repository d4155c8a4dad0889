"""What a tree does not do: list, read or hash what nobody looks at; and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sapwood import hash_tree, open_store
from sapwood.errors import InvalidInputError, NotFoundError
from sapwood.tree import Entry, Index, Leaf, Tree, write_plain
from tests.support.models import File, Model, tree_of


class Named:
    """An entry of a tree in memory, with the path it has there."""

    def __init__(self, path: bytes, entry: Entry, *, knows: bool, item: Tree | Leaf) -> None:
        self.path = path
        self.name = path.rpartition(b"/")[2]
        self.kind, self.mode, self.links, self.xattrs = item.kind, item.mode, 1, {}
        self.uid = self.gid = self.mtime_ns = self.device = None
        self.target = item.target
        self.size = item.size
        self.digest = item.digest if knows or item.kind != "dir" else None
        self.item = item


class Counting:
    """A tree in memory as a source that notes what it was asked for; it may not know the digests of directories."""

    def __init__(self, model: Model, *, knows: bool = True) -> None:
        self._tree = tree_of(model)
        self._knows = knows
        self.listed: list[bytes] = []
        self.looked_up: list[bytes] = []
        self.read_paths: list[bytes] = []

    @property
    def digest(self) -> str | None:
        return self._tree.digest if self._knows else None

    def hashed(self) -> str | None:
        return self.digest

    def lookup(self, path: bytes) -> Named | None:
        self.looked_up.append(path)
        item = self._tree.find(path)
        return None if item is None else Named(path, item.entry, knows=self._knows, item=item)

    def list(self, path: bytes) -> list[Named]:
        self.listed.append(path)
        items = self._tree.find_tree(path).list_immediate()
        return [
            Named(path + b"/" + name if path else name, item.entry, knows=self._knows, item=item)
            for name, item in items
        ]

    def read(self, entry: Named) -> Iterator[bytes]:
        self.read_paths.append(entry.path)
        return entry.item.read()

    def listing(self, path: bytes) -> None:
        return None


MODEL: Model = {
    b"a": {b"b": {b"c": File(b"c"), b"d": File(b"d")}, b"e": File(b"e")},
    b"big": {b"x%d" % number: {b"y": File(b"%d" % number)} for number in range(50)},
    b"f": File(b"f"),
}


def test_a_path_is_asked_for_once_and_nothing_on_the_way_is_listed() -> None:
    source = Counting(MODEL)
    tree = Tree.from_source(source)
    assert b"".join(tree.read_blob(b"a/b/c")) == b"c"
    assert (source.looked_up, source.listed, source.read_paths) == ([b"a/b/c"], [], [b"a/b/c"])
    assert tree.find(b"a/b/c/d") is None
    assert source.listed == []


def test_a_walk_lists_each_directory_once_and_keeps_it_not() -> None:
    source = Counting(MODEL)
    tree = Tree.from_source(source)
    assert sum(1 for _ in tree.list()) == 107
    assert len(source.listed) == len(set(source.listed)) == 54
    assert source.read_paths == []
    assert tree.is_stub
    list(tree.list())
    assert len(source.listed) == 108, "asked again: nothing was kept"
    source.listed.clear()
    held = tree.expand()
    assert len(source.listed) == 54
    source.listed.clear()
    assert held.digest == tree.digest
    assert sum(1 for _ in held.list()) == 107
    assert held.find(b"a/b/c") is not None
    assert source.listed == []


def test_a_filter_asks_for_nothing_until_it_is_looked_at_and_never_for_what_it_drops() -> None:
    source = Counting(MODEL)
    left = Tree.from_source(source).filter(lambda path, _: path not in (b"big", b"a/b/d"))
    assert source.listed == source.looked_up == []
    assert b"".join(left.read_blob(b"a/b/c")) == b"c"
    assert left.find(b"a/b/d") is None
    assert not any(path.startswith(b"big") for path in source.listed)
    assert left.digest == tree_of({b"a": {b"b": {b"c": File(b"c")}, b"e": File(b"e")}, b"f": File(b"f")}).digest
    assert not any(path.startswith(b"big") for path in source.listed)


def test_digests_that_the_source_does_not_know_are_taken_once() -> None:
    source = Counting(MODEL, knows=False)
    tree = Tree.from_source(source)
    assert tree.known_digest is None
    assert tree.digest == tree_of(MODEL).digest
    assert len(source.listed) == 54
    source.listed.clear()
    assert {item.digest for _, item in tree.list_immediate()} == {i.digest for _, i in tree_of(MODEL).list_immediate()}
    assert source.listed == [b""]


def test_an_update_of_one_directory_is_in_the_digests_above_it_and_in_no_other() -> None:
    source = Counting(MODEL)
    updated = Tree.from_source(source).expand_update(lambda path, d: d.modify(b"c", b"C") if path == b"a/b" else d)
    assert updated.known_digest is None
    assert all(item.known_digest is None for path in (b"a", b"a/b") if (item := updated.find_tree(path)))
    assert updated.find_tree(b"big").known_digest is not None
    assert updated.digest == tree_of(MODEL).modify(b"a/b/c", b"C").digest


def test_a_diff_looks_into_what_differs_only() -> None:
    old, new = Counting(MODEL), Counting({**MODEL, b"f": File(b"g")})
    assert list(Tree.from_source(old).diff(Tree.from_source(new))) == [("changed", b"f")]
    assert (old.listed, new.listed) == ([b""], [b""])
    again = Counting(MODEL)
    assert list(Tree.from_source(again).diff(Tree.from_source(Counting(MODEL)))) == []
    assert again.listed == []


def test_a_diff_with_a_modified_tree_looks_along_the_modification_only() -> None:
    source = Counting(MODEL)
    tree = Tree.from_source(source)
    changed = tree.modify(b"big/x7/new", b"new").overlay(Tree.of({b"a": {b"e": b"E"}}))
    source.listed.clear()
    assert {tuple(change) for change in tree.diff(changed)} == {("added", b"big/x7/new"), ("changed", b"a/e")}
    assert set(source.listed) <= {b"", b"big", b"big/x7", b"a"}
    source.listed.clear()
    assert changed.digest != tree.digest
    assert set(source.listed) <= {b"", b"a"}, "all else is held or has a digest"


def test_a_diff_without_digests_takes_none() -> None:
    source = Counting(MODEL, knows=False)
    tree = Tree.from_source(source)
    assert list(tree.diff(tree_of(MODEL))) == []
    assert tree.known_digest is None
    assert source.read_paths == []


def test_a_lazy_tree_can_be_put_into_another_whatever_was_known_of_it(tmp_path: Path) -> None:
    write_plain(tree_of(MODEL), tmp_path / "tree")
    lazy = Index.read(tmp_path / "index", tmp_path / "tree")
    assert lazy.mode == 0o755
    assert Tree.of({b"d": lazy}).digest == tree_of({b"d": MODEL}).digest
    assert lazy.digest == hash_tree(tmp_path / "tree").digest


def test_what_is_left_of_hard_links_keeps_its_content_when_the_first_name_goes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("of several names")
    (tmp_path / "in" / "b").hardlink_to(tmp_path / "in" / "a")
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(tmp_path / "in", "main")
    tree = store.tree("main")
    assert tree.lookup(b"b").kind == "hardlink"
    left = tree.modify(b"a", None)
    assert left.digest == Tree.of({b"b": b"of several names"}).digest
    file = left.find_file(b"b")
    assert file is not None
    assert (file.kind, b"".join(file.read())) == ("reg", b"of several names")
    assert list(left.check()) == []


@pytest.mark.parametrize(
    ("path", "item", "kind"),
    [
        (b"f/below", b"x", "not-a-directory"),
        (b"", b"x", "not-a-directory"),
        (b"/", None, "not-a-directory"),
        (b"a//b", b"x", "bad-name"),
        (b"a/../b", b"x", "bad-name"),
        (b"a/x", "text", "bad-item"),
        (b"a/x", {b"..": b""}, "bad-name"),
        (b"a/x", {"text": b""}, "bad-name"),
    ],
)
def test_a_modification_that_cannot_be_is_refused(path: bytes, item: object, kind: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        tree_of(MODEL).modify(path, item)
    assert refused.value.kind == kind


@pytest.mark.parametrize("target", [b"", b"nul\0"])
def test_a_symlink_needs_a_target(target: bytes) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Leaf.symlink(target)
    assert refused.value.kind == "bad-target"


def test_removing_what_is_not_there_changes_nothing_and_an_empty_path_is_the_tree() -> None:
    tree = tree_of(MODEL)
    for path in (b"gone", b"a/gone/x", b"f/below"):
        assert tree.modify(path, None) is tree
    assert tree.find(b"/") is tree
    assert tree.modify(b"", Tree.of({b"n": b""})).items.keys() == {b"n"}
    with pytest.raises(NotFoundError) as missing:
        tree.read_blob(b"gone")
    assert missing.value.kind == "path-missing"


KILLED = """
import os, signal, sys
from sapwood.tree import Leaf, Tree, write_plain

class Killing:
    def read(self, entry):
        yield b"half"
        os.kill(os.getpid(), signal.SIGKILL)

entry = Leaf.file(b"half and half").entry
write_plain(Tree.of({b"a": b"whole", b"b": Leaf(Killing(), entry), b"c": b"never"}), sys.argv[1])
"""


def test_a_write_that_is_killed_leaves_no_directory_of_that_name_and_the_next_clears_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, out], check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == [".out.sapwood-partial"]
    write_plain(Tree.of({b"a": b"whole"}), out)
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(out) == ["a"]
