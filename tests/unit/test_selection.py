"""What a tree leaves out, through changes of the rules: the index never remembers what another rule said."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapwood import Index, Options, hash_tree, status
from sapwood.errors import InvalidInputError, UnavailableError
from tests.support.cli import Sapwood
from tests.support.clock import settle
from tests.support.nobody import nobodys_directory, sapwood_as_nobody
from tests.support.reapi_digest import tree_digest

FILES = ("a.o", "b.c", "d/a.o", "d/b.c", "d/e/a.o", "d/e/b.c", "f/a.o")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def without(root: Path, *names: str) -> str:
    """The digest of a copy that lacks `names`."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(root, copy := Path(place, "copy"), symlinks=True)
        for name in names:
            if (copy / name).is_dir():
                shutil.rmtree(copy / name)
            else:
                (copy / name).unlink()
        return tree_digest(copy)


def test_a_tree_is_that_of_a_copy_of_what_is_left(tmp_path: Path, tree: Path) -> None:
    (tree / ".sapwoodignore").write_text("*.o\n!/f/a.o\n")
    (tree / "d" / ".sapwoodignore").write_text("e/\n!a.o\n")
    assert hash_tree(tree).digest == without(tree, "a.o", "d/e")
    found = hash_tree(tree, options=Options(exclude=["*.c", "!e/"]))
    assert found.digest == without(tree, "a.o", "b.c", "d/b.c", "d/e/b.c")
    assert found.files == 5


def test_every_command_that_looks_at_a_directory_takes_the_same_selection(tmp_path: Path, tree: Path) -> None:
    run = Sapwood(tmp_path)
    (tree / ".gitignore").write_text("*.o\n")
    (tree / ".git").mkdir()
    words = ("--exclude", "/d/e", "--exclude=b.c", "--gitignore")
    digest = run.good("hash", *words, tree).out.strip()
    assert digest == without(tree, ".git", "a.o", "b.c", "d/a.o", "d/b.c", "d/e", "f/a.o")
    (tree / "d" / "new").write_text("new")
    (tree / "d" / "new.o").write_text("left out")
    assert run.good("status", *words, tree).out == "A d/new\n"
    pushed = run.good("push", "--json", *words, tree, "main").document
    assert pushed["tree"] == run.good("hash", *words, tree).out.strip()
    assert run.good("ls", "-R", "main").out.split() == [".gitignore", "d", "d/new", "f"]
    assert run.good("ls", "-R", *words, tree).out == run.good("ls", "-R", "main").out
    assert run.good("diff", *words, tree, "main").out == ""
    assert run("diff", tree, "main", "f").out == "D f/a.o\n"


def test_a_changed_rule_file_changes_what_is_below_it_and_nothing_is_read_again(tmp_path: Path, tree: Path) -> None:
    index = Index(tree, tmp_path / "i")
    settle()
    whole = index.hash().digest
    rules = tree / "d" / ".sapwoodignore"
    rules.write_text("*.o\n")
    settle()
    found = index.hash()
    assert (found.digest, found.files_hashed) == (without(tree, "d/a.o", "d/e/a.o"), 1)
    assert index.hash().files_hashed == 0
    rules.write_text("*.c\n")  # in place: no directory changes
    found = index.status()
    assert (found.added, found.changed) == ((b"d/a.o", b"d/e/a.o"), (b"d/.sapwoodignore",))
    assert found.removed == (b"d/b.c", b"d/e/b.c")
    assert index.hash().digest == without(tree, "d/b.c", "d/e/b.c")
    rules.unlink()
    assert index.hash().digest == whole


def test_a_rule_file_that_leaves_itself_out_is_obeyed_through_its_changes(tmp_path: Path, tree: Path) -> None:
    index = Index(tree, tmp_path / "i")
    rules = tree / ".sapwoodignore"
    for text, gone in (
        (".*\na.o\n", ("a.o", "d/a.o", "d/e/a.o", "f/a.o")),
        (".*\ne\n", ("d/e",)),
        (".*\nf/\n", ("f",)),
    ):
        for _ in range(2):
            rules.write_text(text)
            settle()
            assert index.hash().digest == without(tree, ".sapwoodignore", *gone)
    rules.unlink()
    settle()
    assert index.hash().digest == tree_digest(tree)
    assert index.hash().files_hashed == 0


def test_a_tree_looked_at_in_part_obeys_rules_that_change_above_it(tmp_path: Path, tree: Path) -> None:
    index = Index(tree, tmp_path / "i")
    index.hash()
    settle()
    (tree / ".sapwoodignore").write_text("a.o\n")
    looked = Index.read(index.path, tree)
    assert [name for name, _ in looked.lookup(b"d/e").list_immediate()] == [b"b.c"]  # type: ignore[union-attr]
    settle()
    (tree / ".sapwoodignore").write_text("b.c\n")
    looked = Index.read(index.path, tree)
    assert [name for name, _ in looked.lookup(b"d/e").list_immediate()] == [b"a.o"]  # type: ignore[union-attr]
    assert index.hash().digest == without(tree, "b.c", "d/b.c", "d/e/b.c")
    assert Index.read(index.path, tree).digest == without(tree, "b.c", "d/b.c", "d/e/b.c")


def test_trees_of_different_selections_have_different_indexes_by_default_and_share_one_without_harm(
    tmp_path: Path, tree: Path
) -> None:
    some = [
        Options(exclude=["a"]),
        Options(exclude=["b"]),
        Options(exclude=["a", "b"]),
        Options(gitignore=True),
        Options(),
    ]
    assert len({Index(tree, options=options).path for options in some}) == len(some)
    index = tmp_path / "i"
    for _ in range(2):
        assert hash_tree(tree, index=index, options=Options(exclude=["f"])).digest == without(tree, "f")
        assert hash_tree(tree, index=index, options=Options(exclude=["e"])).digest == without(tree, "d/e")
        assert hash_tree(tree, index=index).digest == tree_digest(tree)


def test_what_is_no_pattern_is_named_and_nothing_is_hashed(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^the pattern \[a: a class without an end$"):
        hash_tree(tree, options=Options(exclude=["[a"]))
    with pytest.raises(InvalidInputError, match="give a list"):
        Options(exclude="*.o")
    (tree / "d" / ".sapwoodignore").write_text("fine\n[a\n")
    for call in (hash_tree, status):
        with pytest.raises(InvalidInputError, match=r"tree/d/\.sapwoodignore, line 2: \[a: a class without an end$"):
            call(tree)
    run = Sapwood(tmp_path)
    assert run("push", tree, "main").code == 2
    assert run("hash", "--exclude", "", tree).code == 2


def test_a_rule_file_that_may_not_be_read_lets_nothing_in() -> None:
    with nobodys_directory() as place:
        (place / "tree" / "d").mkdir(parents=True)
        rules = place / "tree" / "d" / ".sapwoodignore"
        rules.write_text("secret\n")
        rules.chmod(0)
        for options in ((), ("--skip-unreadable",)):
            said = sapwood_as_nobody("hash", "--index", place / "i", *options, place / "tree")
            assert (said.code, str(rules) in said.err) == (7, True)


LINES = st.sampled_from(
    ["a", "b", "/a", "a/", "*", "!a", "!b/", "!*", "*/b", ".sapwoodignore", ".*", "!.*", ".gitignore", "a/b", "**/a/b"]
)
NAMES = st.sampled_from(["a", "b", "c"])
FOLDERS = st.lists(NAMES, max_size=2).map("/".join)
RULES = st.sampled_from([".sapwoodignore", ".gitignore"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("rules"), FOLDERS, RULES, st.lists(LINES, max_size=3)),
        st.tuples(st.just("no rules"), FOLDERS, RULES),
        st.tuples(st.just("move"), FOLDERS, FOLDERS),
        st.tuples(st.just("link rules"), FOLDERS),
        st.tuples(st.just("write"), FOLDERS, NAMES),
        st.tuples(st.just("settle")),
        st.tuples(st.just("hash")),
        st.tuples(st.just("look"), FOLDERS),
    ),
    max_size=14,
)


def step(root: Path, kind: str, *words: object) -> None:
    """Make one change, if it makes sense there."""
    place = root / str(words[0]) if words else root
    try:
        if kind == "rules":
            (place / str(words[1])).write_text("\n".join(words[2]) + "\n")  # type: ignore[arg-type]
        elif kind == "no rules":
            (place / str(words[1])).unlink()
        elif kind == "move":
            place.rename(root / str(words[1]) / "c")
        elif kind == "link rules":
            os.replace(place / ".sapwoodignore", place / "c")
            (place / ".sapwoodignore").symlink_to("c")
        elif kind == "write":
            (place / str(words[1])).write_text(str(os.urandom(2)))
        elif kind == "settle":
            settle()
    except OSError:
        return


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([Options(), Options(gitignore=True), Options(exclude=["c/", "!.sapwoodignore"])]))
def test_whatever_rules_and_tree_become_the_digest_is_that_of_a_hash_from_nothing(
    steps: list[tuple[str, ...]], options: Options
) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "tree")
        for folder in ("a/a", "a/b", "b/a", "b/b"):
            (root / folder).mkdir(parents=True)
            for name in ("a", "b", "c"):
                if not (root / folder / name).exists():
                    (root / folder / name).write_text(name)
        index = Index(root, Path(place, "index"), options)
        for kind, *words in [*steps, ("hash",), ("settle",), ("hash",), ("hash",)]:
            step(root, kind, *words)
            if kind == "hash":
                fresh = Index(root, Path(place, "fresh"), options)
                assert index.hash().digest == fresh.hash().digest
                fresh.path.unlink()
            elif kind == "look":
                tree = Index.read(index.path, root, options)
                found = tree.find(os.fsencode(words[0]))
                if found is not None and found.kind == "dir":
                    found.list_immediate()  # type: ignore[union-attr]


def test_rules_that_change_beside_the_hash_leave_nothing_wrong_behind(tmp_path: Path, tree: Path) -> None:
    def rewrite(texts: itertools.cycle[str]) -> None:
        while not is_over.is_set():
            for folder in (tree, tree / "d"):
                (folder / ".sapwoodignore").write_text(next(texts))
                (folder / ".new").write_text(next(texts))
                (folder / ".new").replace(folder / ".sapwoodignore")
            (tree / ".sapwoodignore").unlink()

    index = Index(tree, tmp_path / "i")
    for number in range(30):
        is_over = threading.Event()
        texts = itertools.cycle(["a.o\n", "b.c\n", "e/\n", "!a.o\n", ".*\n"][number % 4 :])
        writer = threading.Thread(target=rewrite, args=(texts,))
        writer.start()
        try:
            for _ in range(3):
                # A rule file that changes each time it is read is an error.
                with suppress(UnavailableError):
                    index.hash()
        finally:
            is_over.set()
            writer.join()
        for _ in range(2):
            fresh = hash_tree(tree, index=tmp_path / f"fresh-{number}")
            assert index.hash().digest == fresh.digest
        (tmp_path / f"fresh-{number}").unlink()
