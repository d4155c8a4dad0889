"""Large numbers of users and groups: all that Linux has go through everything, others are refused by name."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.support.cli import Sapwood

FORMATS = {"pax": tarfile.PAX_FORMAT, "GNU": tarfile.GNU_FORMAT}


def _write(path: Path, form: int, *owners: tuple[int, int]) -> None:
    with tarfile.open(path, "w", format=form) as tar:
        for number, (uid, gid) in enumerate(owners):
            info = tarfile.TarInfo(f"f{number}")
            info.uid, info.gid = uid, gid
            tar.addfile(info)


@pytest.mark.parametrize("form", FORMATS)
def test_all_numbers_that_linux_has_go_through_archives_indexes_and_stores(tmp_path: Path, form: str) -> None:
    owners = [(1 << 21, (1 << 21) - 1), (1 << 31, 1 << 22), ((1 << 32) - 2, (1 << 32) - 2)]
    run = Sapwood(tmp_path)
    _write(tmp_path / "a.tar", FORMATS[form], *owners)
    run.good("convert", "a.tar", "a.tar.gz")
    run.good("convert", "--zstd", "a.tar", "a.tar.zst")
    run.good("index", "a.tar")
    run.good("push", "a.tar", "main")
    run.good("pack", "main", "packed.tar.gz")
    for tree in ("a.tar", "a.tar.gz", "a.tar.zst", "main", "packed.tar.gz"):
        listed = run.good("ls", "--json", tree).document
        assert [(item["uid"], item["gid"]) for item in listed] == owners, tree


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("owner", "said_of"), [((1 << 40, 0), "owner"), ((0, 1 << 32), "group")])
def test_a_tar_of_larger_numbers_is_refused_by_name_and_nothing_is_left(
    tmp_path: Path, form: str, owner: tuple[int, int], said_of: str
) -> None:
    run = Sapwood(tmp_path)
    _write(tmp_path / "a.tar", FORMATS[form], (0, 0), owner)
    for words in (("convert", "a.tar", "out"), ("index", "a.tar"), ("push", "a.tar", "main")):
        said = run(*words)
        assert (said.code, said.out) == (2, ""), said
        assert f"a.tar: f1: its {said_of} {max(owner)} is more than Linux can hold\n" in said.err
    assert not {path.name for path in tmp_path.iterdir()} & {"out", "a.tar.sapwood"}
