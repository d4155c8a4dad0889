"""What a newcomer gets wrong with archives: one line that says what is meant, a remedy, and nothing written."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tests.support.cli import Sapwood
from tests.support.nobody import as_nobody, nobodys_directory, sapwood_as_nobody
from tests.support.smalldisk import small_disk
from tests.support.tars import a_tar


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    run = Sapwood(tmp_path)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").write_text("hello\n")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(a_tar(("a", b"a"))))
    (tmp_path / "empty").touch()
    return run


# What is said, and, if there is one, what of the hint: STORE is the default store.
WRONG: dict[str, tuple[int, str, str | None]] = {
    "push none.tar.gz main": (3, "none.tar.gz: no such directory or tar", None),
    "push none main": (3, "none: no such directory or tar", None),
    "push main#a main": (3, "main#a: no such directory or tar", "from store to store: sapwood cp main#a ADDRESS"),
    "push empty main": (2, "empty: it is empty, and a tar is not", None),
    "pack none out": (
        3, "none: neither a directory here nor a ref of STORE", "name a directory, or a tree in a store: STORE_URL#REF"
    ),
    "pack #none out": (2, "STORE: not a store: there is no sapwood.json", "name a store"),
    "pack dir/file out": (2, "dir/file is a file, no directory", "if it is a tar: sapwood convert dir/file OUT"),
    "pack a.tar.gz out": (2, "a.tar.gz: it has no TOC and no index", "sapwood convert a.tar.gz out"),
    **{
        f"{call} {options}": (
            2, f"{call.split()[1]} is no directory: these options say how to look at one", "leave out"
        )
        for call in ("pack a.tar.gz out", "pack main out", "ls a.tar.gz", "ls main", "diff a.tar.gz main")
        for options in ("--exclude a", "--gitignore", "--one-file-system", "--no-trust-ctime")
    },
    "pack a.tar.gz out --skip-unreadable": (
        2, "a.tar.gz is no directory: these options say how to look at one", "leave out"
    ),
    "pack dir dir": (2, "dir is a directory", "name a file in it"),
    "pack dir --prioritize dir out": (2, "dir is a directory, no list", None),
    "convert none out": (3, "none is missing", None),
    "convert dir out": (2, "dir is a directory, not a tar", "sapwood pack dir OUT.tar.gz"),
    "convert empty out": (2, "empty: it is empty, and a tar is not", None),
    "convert - out": (2, "stdin: it is empty, and a tar is not", None),
    "convert main#a out": (2, "main#a: no such tar; a tree in a store is packed", "sapwood pack main#a out"),
    "convert https://host/a.tar?signed out": (
        2, "https://host/a.tar: a tar must be here, or come through a pipe", "curl URL | sapwood convert - OUT"
    ),
    "index none": (3, "none is missing", None),
    "index dir": (2, "dir is a directory, not a tar", "sapwood pack dir OUT.tar.gz"),
    "index empty": (2, "empty: it is empty, and a tar is not", None),
    "index": (2, "index: name an archive, or what to do: verify or show", "sapwood index --help"),
    "index -": (2, "index: name an archive, or what to do: verify or show", "sapwood index --help"),
    "index a.tar.gz --output ./a.tar.gz": (
        2, "./a.tar.gz: the index would take the place of the archive", "sapwood index a.tar.gz, which writes"
    ),
    "index a.tar.gz --output link": (2, "link: the index would take the place of the archive", "sapwood index"),
}  # fmt: skip


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_is_told_in_a_line_with_its_remedy_and_writes_nothing(
    run: Sapwood, tmp_path: Path, call: str
) -> None:
    code, line, hint = WRONG[call]
    (tmp_path / "link").symlink_to("a.tar.gz")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = run(*call.split())
    lines = said.err.splitlines()
    assert (said.code, said.out, len(lines)) == (code, "", 1 if hint is None else 2), said
    assert lines[0].startswith("sapwood: " + line.replace("STORE", str(run.store)))
    if hint is not None:
        assert lines[1].startswith(f"hint: {hint}")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_no_file_is_no_place_for_an_archive(run: Sapwood) -> None:
    said = run("pack", "dir", "")
    assert (said.code, said.err.splitlines()[0]) == (2, "sapwood: '': one cannot write an archive there")


def test_a_name_that_promises_another_compression_is_told(run: Sapwood) -> None:
    assert "out.tar.zst is gzip, whatever its name says: --zstd" in run.good("pack", "dir", "out.tar.zst").err
    assert "out.tgz is zstd, whatever its name says" in run.good("pack", "--zstd", "dir", "out.tgz").err
    assert "whatever" not in run.good("pack", "dir", "out.tar.gz").err
    assert "whatever" not in run.good("pack", "--zstd", "dir", "out.tar.zst").err


def test_a_full_disk_is_told_with_its_remedy_and_nothing_is_left(run: Sapwood, tmp_path: Path) -> None:
    (tmp_path / "large.tar").write_bytes(a_tar(("a", os.urandom(9_000_000))))
    run.good("push", "large.tar", "large")
    with small_disk(tmp_path / "small", 1 << 20) as disk:
        before = sorted(os.listdir(disk))
        for words in (("convert", "large.tar"), ("pack", "large"), ("tar", "large", "-o")):
            said = run(*words, disk / "out")
            assert (said.code, said.out) == (6, "")
            assert said.err.splitlines()[1:] == ["hint: free some space and run it again"]
            assert sorted(os.listdir(disk)) == before


_KIND = """
from sapwood.archive.opening import open_file
from sapwood.errors import DeniedError
try:
    open_file(sys.argv[1])
except DeniedError as error:
    print(error.kind, error)
"""


def test_what_may_not_be_read_is_told() -> None:
    with nobodys_directory() as place:
        tar = place / "a.tar"
        tar.write_bytes(a_tar(("a", b"a")))
        tar.chmod(0)
        assert as_nobody(_KIND, tar).out.split(maxsplit=1) == ["path-denied", f"cannot read {tar}: Permission denied\n"]
        os.environ["SAPWOOD_CACHE"] = str(place / "cache")  # restored by the fixture that set it
        for words in (("convert", tar, place / "out"), ("index", tar), ("push", tar, f"{place}/store#main")):
            said = sapwood_as_nobody(*words)
            assert (said.code, said.out, said.err) == (7, "", f"sapwood: cannot read {tar}: Permission denied\n")
        assert {path.name for path in place.iterdir()} <= {"a.tar", "cache"}
