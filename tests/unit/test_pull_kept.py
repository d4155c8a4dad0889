"""What `pull --delete` leaves: what rules leave out, those rules, and what is mounted."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import ConflictError
from sapwood.open import OpenStore
from tests.support.smalldisk import small_disk
from tests.support.trees import MIB, differences, look
from tests.support.unmounting import take_away


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


@pytest.fixture
def tree(store: OpenStore, tmp_path: Path) -> Path:
    """A tree that is `main` in the store."""
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a").write_text("a")
    (root / "folder" / "b").write_text("b")
    store.push(root, "main")
    return root


@pytest.fixture
def out(store: OpenStore, tree: Path, tmp_path: Path) -> Path:
    """A directory that has been pulled."""
    assert tree.exists()
    store.pull("main", tmp_path / "out")
    return tmp_path / "out"


@contextmanager
def bound(what: Path, place: Path) -> Iterator[None]:
    """Show `what` at `place` too; for root."""
    subprocess.run(["mount", "--bind", what, place], check=True)
    try:
        yield
    finally:
        take_away(place)


@pytest.mark.parametrize("where", [".", "folder", "mine"])
def test_what_a_rule_file_of_ones_own_leaves_out_stays_with_it(store: OpenStore, out: Path, where: str) -> None:
    (out / where / "secret").mkdir(parents=True)
    (out / where / "secret" / "key").write_text("key")
    (out / where / ".sapwoodignore").write_text("secret\n")
    (out / "other").touch()
    gone = 1
    for _ in range(3):
        pulled = store.pull("main", out, delete=True)
        assert (pulled.removed, pulled.extra) == (gone, 2 if where == "mine" else 1)
        assert (out / where / "secret" / "key").read_text() == "key"
        assert (out / where / ".sapwoodignore").read_text() == "secret\n"
        gone = 0


def test_a_rule_file_that_leaves_nothing_out_is_extra_as_any_other(store: OpenStore, tree: Path, out: Path) -> None:
    (out / ".sapwoodignore").write_text("secret\n")
    (out / "mine").mkdir()
    (out / "mine" / ".sapwoodignore").write_text("secret\n")
    assert store.pull("main", out, delete=True).removed == 3
    assert differences(tree, out) == []


@pytest.mark.parametrize("pattern", ["a", "folder", "b", "*"])
def test_a_rule_file_of_ones_own_hides_nothing_of_the_tree_from_a_pull(
    store: OpenStore, tree: Path, out: Path, pattern: str
) -> None:
    (out / ".sapwoodignore").write_text(f"{pattern}\n")
    (out / "a").write_text("other")
    (out / "folder" / "b").write_text("other")
    for _ in range(2):
        store.pull("main", out)
        assert (out / "a").read_text() + (out / "folder" / "b").read_text() == "ab"
    (out / ".sapwoodignore").unlink()
    store.pull("main", out)
    assert differences(tree, out) == []


def test_other_names_of_what_a_rule_file_hides_are_made_too(store: OpenStore, tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    (tree / "a").write_text("a")
    os.link(tree / "a", tree / "b")
    store.push(tree, "main")
    store.pull("main", out)
    (out / ".sapwoodignore").write_text("a\n")
    store.pull("main", out)
    assert (out / "a").samefile(out / "b")


@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize("held", ["what rules leave out", "only what rules above leave out", "a socket", "a mount"])
def test_a_directory_in_the_way_that_delete_would_not_empty_is_told_before_anything_changes(
    store: OpenStore, tree: Path, out: Path, held: str, delete: bool
) -> None:
    (tree / "thing").write_text("thing")
    (tree / "a").write_text("another")
    store.push(tree, "main")
    (out / "thing").mkdir()
    if held == "only what rules above leave out":
        (out / ".sapwoodignore").write_text("secret\n")
    else:
        (out / "thing" / "file").touch()
    if held == "what rules leave out":
        (out / "thing" / ".sapwoodignore").write_text("secret\n")
    with small_disk(out / "thing" / "secret", MIB) if held == "a mount" else socket.socket(socket.AF_UNIX) as made:
        if held == "a socket":
            assert isinstance(made, socket.socket)
            made.bind(str(out / "thing" / "socket"))
        else:
            (out / "thing" / "secret").mkdir(exist_ok=True)
            (out / "thing" / "secret" / "key").touch()
        before = look(out)
        with pytest.raises(ConflictError) as refused:
            store.pull("main", out, delete=delete)
        assert refused.value.kind == "in-the-way"
        assert vars(refused.value)["paths"] == [str(out / "thing")]
        assert "or let it be removed" not in str(refused.value.hint)
        assert look(out) == before


@pytest.mark.parametrize("same_disk", [False, True])
@pytest.mark.parametrize("place", ["mine/deep", "empty"])
def test_what_is_mounted_in_the_directory_is_not_removed(
    store: OpenStore, out: Path, tmp_path: Path, place: str, same_disk: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (out / "mine").mkdir()
    (out / "mine" / "file").touch()
    if place != "empty":
        (out / place).mkdir()
    with small_disk(tmp_path / "disk", MIB) as disk, bound(outside if same_disk else disk, out / place):
        (out / place / "data").write_text("data")
        (out / place / "more").mkdir()
        for _ in range(2):
            pulled = store.pull("main", out, delete=True)
            # The way to it stays as well.
            assert pulled.extra == (2 if place == "empty" else 4)
            assert (out / place / "data").read_text() == "data"
            assert (out / place / "more").is_dir()
        assert (out / "mine").exists() == (place != "empty")
        assert not (out / "mine" / "file").exists()


def test_a_file_that_is_mounted_in_the_directory_is_not_removed(store: OpenStore, out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mounted")
    (out / "mine").touch()
    with bound(tmp_path / "file", out / "mine"):
        assert store.pull("main", out, delete=True).extra == 1
        assert (out / "mine").read_text() == "mounted"
