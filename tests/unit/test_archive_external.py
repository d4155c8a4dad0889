"""eStargz whose TOC lies elsewhere: read with `--toc`, refused with that remedy without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sapwood.errors import CorruptError, InvalidInputError
from sapwood.open import open_tree
from sapwood.store.archive import open_archive
from tests.support import stargz
from tests.support.cli import Sapwood
from tests.support.mounting import mounted
from tests.support.storeplaces import HttpPlace
from tests.support.trees import differences, noise


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_text("hello\n")
    (root / "sub" / "large").write_bytes(noise(250_000))
    (root / "sub" / "link").symlink_to("../a")
    return root


def test_every_command_reads_an_archive_with_the_toc_that_it_is_given(tree: Path, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    toc = tmp_path / "x.toc"
    archive = stargz.make_external(tree, tmp_path / "x.tar.gz", toc)
    assert run.good("ls", "-R", "--toc", toc, archive).out == run.good("ls", "-R", tree).out
    assert run.good("cat", "--toc", toc, archive, "a").out == "hello\n"
    assert run.good("diff", "--toc", toc, archive, tree).out == ""
    assert run.good("diff", "--toc", toc, tree, archive).out == ""
    run.good("pull", "--toc", toc, archive, tmp_path / "pulled")
    assert differences(tree, tmp_path / "pulled") == []
    with mounted(str(archive), tmp_path / "mount", tmp_path / "cache", toc=str(toc)):
        assert differences(tree, tmp_path / "mount") == []


def test_the_toc_may_lie_on_a_server_and_is_kept(tree: Path, nginx_place: HttpPlace, tmp_path: Path) -> None:
    for number in range(1500):
        (tree / f"{number}").write_text(f"{number}")
    stargz.make_external(tree, nginx_place.root / "x.tar.gz", nginx_place.root / "x.toc")
    url = nginx_place.read_url
    archive, known = open_archive(f"{url}/x.tar.gz", toc=f"{url}/x.toc")
    assert known.tree == open_tree(str(tree)).digest
    assert b"".join(open_tree(f"{url}/x.tar.gz", toc=f"{url}/x.toc").read_blob(b"a")) == b"hello\n"
    assert archive.requests()["get"] == 1


def test_without_the_toc_it_is_refused_with_the_remedy(tree: Path, tmp_path: Path) -> None:
    toc = tmp_path / "x.toc"
    archive = stargz.make_external(tree, tmp_path / "x.tar.gz", toc)
    with pytest.raises(InvalidInputError) as refused:
        open_tree(str(archive))
    assert refused.value.kind == "toc-elsewhere"
    assert refused.value.hint == "name the TOC: --toc FILE_OR_URL"
    failed = Sapwood(tmp_path)("cat", archive, "a")
    assert "--toc FILE_OR_URL" in failed.err


def test_a_toc_for_what_has_its_own_or_is_no_archive_is_refused(tree: Path, tmp_path: Path) -> None:
    archive = stargz.make(tree, tmp_path / "x.tar.gz")
    for what, kind in [(archive, "toc-elsewhere"), (tree, "bad-usage"), ("main", "bad-usage")]:
        with pytest.raises(InvalidInputError) as refused:
            open_tree(os.fspath(what), toc=os.fspath(archive))
        assert refused.value.kind == kind


def test_a_toc_that_is_none_is_damage_of_its_own_and_one_of_another_archive_proves_nothing(
    tree: Path, tmp_path: Path
) -> None:
    toc, other = tmp_path / "x.toc", tmp_path / "other.toc"
    archive = stargz.make_external(tree, tmp_path / "x.tar.gz", toc)
    data = toc.read_bytes()
    for damaged in (b"", b"x", data[:-9], archive.read_bytes()):
        other.write_bytes(damaged)
        with pytest.raises(CorruptError, match=r"other\.toc"):
            open_tree(str(archive), toc=str(other))
    (tree / "a").write_text("other\n")
    stargz.make_external(tree, tmp_path / "y.tar.gz", other)
    with pytest.raises(CorruptError):
        list(open_tree(str(archive), toc=str(other)).read_blob(b"a"))
