"""The index as Python sees it: trees that look where somebody looks, trees taken over, and what it says of itself."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from sapwood import Index, hash_tree, open_store
from sapwood.errors import NotFoundError, UnavailableError
from tests.support.cli import Sapwood
from tests.support.reapi_digest import tree_digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for path, content in {"a": "one", "b/c": "two", "b/d/e": "three", "b/d/f": "", "x/y/z": "four"}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    (root / "link").symlink_to("b/c")
    settle(root)
    return root


def settle(root: Path) -> None:
    """Wait until the clock is past the grain of the last change, so that nothing is racy."""
    newest = max(path.lstat().st_ctime_ns for path in [root, *root.rglob("*")])
    while time.time_ns() < newest + 30_000_000:
        pass


def read(tmp_path: Path, root: Path) -> Index:
    return Index(root, tmp_path / "state" / "i")


def test_a_lazy_tree_hashes_what_is_expanded_and_nothing_else(tmp_path: Path, tree: Path) -> None:
    index = read(tmp_path, tree)
    index.hash()
    for name in ("b/d/e", "x/y/z"):
        (tree / name).write_text("other")
    settle(tree)
    lazy = Index.read(index.path, tree)
    before = index.path.stat().st_ino
    assert [*lazy.find_tree(b"b/d").items] == [b"e", b"f"]
    assert index.path.stat().st_ino == before, "in place"
    assert index.describe(b"b/d/e")["differs"] == []
    assert index.describe(b"x/y/z")["differs"] != []
    assert index.hash().files_hashed == 1, "x/y/z is left for the one who looks at it"


def test_a_lazy_tree_without_an_index_lists_names_and_hashes_as_it_is_expanded(tmp_path: Path, tree: Path) -> None:
    index = read(tmp_path, tree)
    lazy = Index.read(index.path, tree)
    assert [(name, item.entry.digest is None) for name, item in lazy.list_immediate()] == [
        (b"a", False), (b"b", True), (b"link", True), (b"x", True),
    ]  # fmt: skip
    assert index.hash().files_hashed == 4, "all but `a`"
    assert Index.read(index.path, tree).digest == tree_digest(tree)


def test_a_lazy_tree_sees_what_was_added_and_removed(tmp_path: Path, tree: Path) -> None:
    index = read(tmp_path, tree)
    index.hash()
    (tree / "new" / "deep").mkdir(parents=True)
    (tree / "new" / "deep" / "file").write_text("new")
    shutil.rmtree(tree / "x")
    settle(tree)
    lazy = Index.read(index.path, tree)
    assert [*lazy.find_tree(b"new/deep").items] == [b"file"]
    assert [*lazy.items] == [b"a", b"b", b"link", b"new"]
    assert lazy.find(b"x/y") is None
    assert lazy.digest == tree_digest(tree)
    assert not index.verify().wrong


def test_a_lazy_tree_stays_what_it_was_when_it_was_looked_at(tmp_path: Path, tree: Path) -> None:
    lazy = Index.read(tmp_path / "i", tree)
    seen = [item.entry for _, item in lazy.find_tree(b"b/d").list()]
    (tree / "b/d/e").write_text("THREE")
    assert [item.entry for _, item in lazy.find_tree(b"b/d").list()] == seen
    with pytest.raises(UnavailableError) as changed:
        b"".join(lazy.read_blob(b"b/d/e"))
    assert changed.value.kind == "file-changing"
    with pytest.raises(UnavailableError) as changed:
        _ = lazy.digest
    assert changed.value.kind == "file-changing"


def test_a_lazy_tree_tells_of_a_symlink_that_points_elsewhere_since(tmp_path: Path, tree: Path) -> None:
    lazy = Index.read(tmp_path / "i", tree)
    assert lazy.lookup(b"link").target == b"b/c"
    (tree / "link").unlink()
    (tree / "link").symlink_to("b/d")
    with pytest.raises(UnavailableError) as changed:
        _ = lazy.digest
    assert changed.value.kind == "file-changing"
    assert lazy.lookup(b"link").target == b"b/c"


def test_a_damaged_record_is_never_believed_by_a_partial_look(tmp_path: Path, tree: Path) -> None:
    index = read(tmp_path, tree)
    index.hash()
    whole = index.path.read_bytes()
    for record in range(10):
        damaged = bytearray(whole)
        damaged[64 + record * 128 + 60] ^= 1
        index.path.write_bytes(damaged)
        lazy = Index.read(index.path, tree)
        (tree / f"added{record}").write_text("so that all records are written anew")
        lazy.list_immediate()
        assert index.hash().digest == tree_digest(tree)


def test_an_index_updated_from_a_tree_tells_what_differs_from_it(tmp_path: Path, tree: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(tree, "main")
    store.pull("main", tmp_path / "copy")
    index = read(tmp_path, tmp_path / "copy")
    (tmp_path / "copy/b/c").write_text("TWO")
    (tmp_path / "copy/more").write_text("more")
    index.update_from(store.tree("main"))
    assert not index.verify().wrong
    found = index.status()
    assert (found.added, found.changed, found.removed, found.fresh) == ((b"more",), (b"b/c",), (), False)
    settle(tmp_path / "copy")
    assert index.hash().digest == tree_digest(tmp_path / "copy")
    assert index.status().changed == ()


def test_a_tree_that_is_not_there_in_plain_form_is_refused_by_name(tmp_path: Path, tree: Path) -> None:
    whole = Index(tree).tree()
    index = read(tmp_path, tree)
    (tree / "b/d/f").unlink()
    (tree / "link").unlink()
    (tree / "link").write_text("a file by now")
    with pytest.raises(NotFoundError) as absent:
        index.update_from(whole)
    assert absent.value.kind == "path-missing"
    assert [Path(os.fsdecode(path)) for path in absent.value.paths] == [tree / "link", tree / "b/d/f"]
    assert "link" in str(absent.value)
    assert not index.path.exists()


def test_what_the_index_knew_is_not_read_again_for_a_tree(tmp_path: Path, tree: Path) -> None:
    index = read(tmp_path, tree)
    index.hash()
    index.update_from(index.tree())
    assert index.hash().files_hashed == 0


def test_file_ids_recognise_a_renamed_file(tmp_path: Path, tree: Path) -> None:
    index = read(tmp_path, tree)
    index.hash()
    old = {(found.dev, found.ino): found.path for found in index.file_ids()}
    (tree / "a").rename(tree / "b" / "renamed")
    index.hash()
    moved = {old[found.dev, found.ino]: found.path for found in index.file_ids() if (found.dev, found.ino) in old}
    assert moved[b"a"] == b"b/renamed"
    assert {path for path, now in moved.items() if path != now} == {b"a"}
    assert {found.kind for found in index.file_ids()} == {"reg", "dir", "symlink"}


def test_only_an_index_of_ours_is_of_valid_format(tmp_path: Path, tree: Path) -> None:
    index = read(tmp_path, tree)
    assert not Index.is_valid_format(index.path)
    index.hash()
    assert Index.is_valid_format(index.path)
    stored = index.path.read_bytes()
    for broken in (b"", stored[:-1], b"x" + stored[1:], stored[:8] + b"\x63" + stored[9:]):
        index.path.write_bytes(broken)
        assert not Index.is_valid_format(index.path)


def test_verify_names_every_damaged_record_and_the_next_hash_mends_it(tmp_path: Path, tree: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("hash", tree, "--index", "i")
    assert "all is right" in run.good("index", "verify", "--root", tree, "--index", "i", tree).err
    stored = bytearray((tmp_path / "i").read_bytes())
    stored[64 + 128 + 70] ^= 1
    (tmp_path / "i").write_bytes(stored)
    said = run("index", "verify", "--root", tree, "--index", "i", tree)
    assert said.code == 5
    assert "a: the record does not match its checksum" in said.out
    assert ".: the digest is not of the entries" not in said.out, "the checksum in the record is the one summed"
    run.good("hash", tree, "--index", "i")
    assert run.good("index", "verify", "--json", "--root", tree, "--index", "i", tree).document["wrong"] == []


def test_show_explains_a_record_and_whether_it_holds(tmp_path: Path, tree: Path) -> None:
    run = Sapwood(tmp_path)
    digest = run.good("hash", tree).out.strip()
    assert digest in run.good("index", "show", tree).out
    assert "the next hash does not read it" in run.good("index", "show", tree / "b/c").out
    (tree / "b/c").write_text("another size")
    shown = run.good("index", "show", tree / "b/c").out
    assert "size, mtime, ctime differ: the next hash looks into it" in shown
    document = run.good("index", "show", "--json", tree / "link").document
    assert (document["path"], document["kind"], document["target"]) == ("link", "symlink", "b/c")
    said = run("index", "show", tree / "absent")
    assert (said.code, "no record of absent" in said.err) == (3, True)
    assert run("index", "show", "/").code == 3
    assert run("index", "verify", "--index", "i").code == 2


def test_show_explains_a_damaged_record_too(tmp_path: Path, tree: Path) -> None:
    run = Sapwood(tmp_path)
    index = read(tmp_path, tree)
    index.hash()
    whole = index.path.read_bytes()
    one = 64 + index.describe(b"a")["record"] * 128
    # The highest bits of the seconds of mtime, and of what makes a regular file of a mode.
    for at, bit, told in [(39, 0x40, "modified  @46116860"), (39, 0x80, "modified  @-"), (5, 0x40, "kind      socket")]:
        damaged = bytearray(whole)
        damaged[one + at] ^= bit
        index.path.write_bytes(damaged)
        said = run.good("index", "show", "--root", tree, "--index", index.path, tree / "a").out
        assert told in said
        assert "wrong: it is read again" in said


def test_a_path_outside_the_named_root_is_refused(tmp_path: Path, tree: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("hash", tree)
    assert run("index", "show", "--root", tree, "/etc").code == 2
    assert hash_tree(tree).files == 5
