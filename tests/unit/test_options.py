"""How a directory is looked at: other file systems in it, and ctimes that cannot be trusted."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sapwood import Index, Options, hash_tree
from tests.support.cli import Sapwood
from tests.support.reapi_digest import tree_digest
from tests.support.unmounting import take_away

ONE = Options(one_file_system=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "other").mkdir(parents=True)
    (root / "a").write_text("one")
    (root / "other" / "below").write_text("hidden while mounted over")
    return root


@contextmanager
def mounted(place: Path, *words: str) -> Iterator[None]:
    subprocess.run(["mount", *words, place], check=True)
    try:
        yield
    finally:
        take_away(place)


def test_another_file_system_is_an_empty_directory_when_asked_and_a_part_of_the_tree_by_default(
    tmp_path: Path, tree: Path
) -> None:
    index = tmp_path / "i"
    with mounted(tree / "other", "-t", "tmpfs", "sapwood-test"):
        (tree / "other" / "deep").mkdir()
        (tree / "other" / "deep" / "file").write_text("on tmpfs")
        whole = hash_tree(tree, index=index)
        assert (whole.digest, whole.files) == (tree_digest(tree), 2)
        for _ in range(2):
            alone = hash_tree(tree, index=index, options=ONE)
            assert (alone.files, alone.directories) == (1, 1)
        assert hash_tree(tree, index=index).digest == whole.digest, "an index of another selection hides nothing"
        assert Index(tree, index, ONE).status().removed == (b"other/deep", b"other/deep/file")
    assert hash_tree(tree, index=index).digest == tree_digest(tree)
    (tree / "other" / "below").unlink()
    assert hash_tree(tree).digest == alone.digest


def test_a_directory_bound_into_the_tree_is_hashed_as_what_it_shows(tmp_path: Path, tree: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "x").write_text("bound")
    index = Index(tree, tmp_path / "i")
    before = index.hash().digest
    with mounted(tree / "other", "--bind", str(shown)):
        assert index.hash().digest == tree_digest(tree) != before
        (shown / "x").write_text("edited outside")
        assert index.hash().digest == tree_digest(tree)
    assert index.hash().digest == before


def test_trees_of_different_options_have_different_indexes_by_default(tree: Path) -> None:
    assert Index(tree).path != Index(tree, options=ONE).path
    assert Index(tree).path == Index(tree, options=Options(trust_ctime=False, skip_unreadable=True)).path


def test_without_trust_in_ctime_a_change_of_ctime_alone_reads_nothing(tmp_path: Path, tree: Path) -> None:
    run = Sapwood(tmp_path)
    for path in (tree / "a", tree / "other" / "below"):
        os.utime(path, ns=(0, 10**18))
    assert run.good("hash", "--json", "--no-trust-ctime", tree).document["filesHashed"] == 2
    os.link(tree / "a", tmp_path / "another name")
    assert run.good("hash", "--json", "--no-trust-ctime", tree).document["filesHashed"] == 0
    assert run.good("hash", "--json", tree).document["filesHashed"] == 1, "ctime tells, to those who trust it"


def test_without_trust_in_ctime_a_file_changed_a_moment_ago_is_read_again(tmp_path: Path, tree: Path) -> None:
    index = Index(tree, tmp_path / "i", Options(trust_ctime=False))
    index.hash()
    now = time.time_ns()
    (tree / "a").write_text("two")
    os.utime(tree / "a", ns=(now, now))
    index.hash()
    (tree / "a").write_text("six")
    os.utime(tree / "a", ns=(now, now))
    assert index.hash().digest == tree_digest(tree), "the same size and mtime, within a server's grain"


def test_push_takes_the_same_options(tmp_path: Path, tree: Path) -> None:
    run = Sapwood(tmp_path)
    with mounted(tree / "other", "-t", "tmpfs", "sapwood-test"):
        (tree / "other" / "file").write_text("on tmpfs")
        pushed = run.good("push", "--json", "--one-file-system", tree, "main").document
        assert pushed["tree"] == run.good("hash", "--one-file-system", tree).out.strip()
    assert run.good("ls", "-R", "main").out == "a\nother\n"
