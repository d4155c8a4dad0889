"""Hostile archives through the real commands: always a message with kind and hint, never a byte outside or a wrong one.

docs/archive.md, "Bounds", says what is refused. How much memory a lie may take: `test_archive_bombs.py`.
"""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import Any

import pytest

from sapwood.errors import CorruptError, InvalidInputError, SapwoodError
from sapwood.open import open_tree
from sapwood.pack import convert
from sapwood.store.archive import open_archive
from tests.support import stargz
from tests.support.cli import Sapwood
from tests.support.hostile import (
    HELLO,
    archive,
    chunked,
    digest,
    header,
    member,
    pax,
    regular,
    sealed,
    tar_of,
    toc_tar,
    with_member,
    zstd_frame,
)
from tests.support.mounting import mounted, shell
from tests.support.trees import noise

LONG = 1 << 62
GOOD = regular("good")


def entry(name: str, kind: str = "dir", **said: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **said}


def link(name: str, target: str) -> dict[str, Any]:
    return entry(name, "hardlink", linkName=target)


def chunk(begin: int, **said: Any) -> dict[str, Any]:
    return {"name": "a", "type": "chunk", "chunkOffset": begin, **said}


# What the TOC says, and what is said of it.
ENTRIES: dict[str, tuple[list[dict[str, Any] | None], str]] = {
    "a name that leads outside": ([GOOD, regular("../../outside")], r"\.\./\.\./outside: its name has a \.\."),
    "a name that leads outside in its middle": ([GOOD, regular("a/../../outside")], r"a/\.\./\.\./outside: .*\.\."),
    "a name with NUL": ([GOOD, regular("a\0b")], "its name has a NUL"),
    "no name": ([GOOD, entry("", "reg")], "no path"),
    "a long part": ([GOOD, regular("a" * 256)], "longer than 255 bytes"),
    "many parts": ([GOOD, entry("a/" * 2049)], "more than 2,048 parts"),
    "a long name": ([GOOD, entry("a/" * (1 << 19) + "b")], "longer than 1 MiB"),
    "a hard link that leads outside": ([GOOD, link("l", "../../etc/passwd")], r"\.\./\.\./etc/passwd"),
    "a hard link to nothing": ([GOOD, link("l", "nothing")], "l is a hard link to nothing, which is not there"),
    "a hard link to itself": ([GOOD, link("l", "l")], "l is a hard link in a circle"),
    "a circle of hard links": ([GOOD, link("l", "m"), link("m", "n"), link("n", "l")], "is a hard link in a circle"),
    "a hard link to a directory": ([entry("d"), link("l", "d")], "l is a hard link to d, which is a directory"),
    "a hard link to the root": ([GOOD, link("l", ".")], r"l is a hard link to \."),
    "a file below a symlink": ([entry("d", "symlink", linkName="/tmp"), regular("d/a")], "d/a lies below d"),
    "a directory that becomes a symlink": (
        [entry("d"), regular("d/a"), entry("d", "symlink", linkName="/tmp")],
        "d/a lies below d, which is no directory",
    ),
    "a file below a file": ([GOOD, regular("good/a")], "good/a lies below good, which is no directory"),
    "a symlink to no path": ([GOOD, entry("s", "symlink")], "s links to no path"),
    "a symlink with NUL": ([GOOD, entry("s", "symlink", linkName="a\0b")], "s links to no path"),
    "a root that is a file": ([regular(".")], "its root is no directory"),
    "nothing for an entry": ([GOOD, None], "entry 1: there is none"),
    "an unknown type": ([GOOD, entry("a", "wormhole")], "a is of no type that is known"),
    "a chunk before any file": ([chunk(0, chunkSize=1)], "a chunk stands before any file"),
    "a chunk outside": ([GOOD, regular("a", offset=1 << 40)], "a: a chunk lies outside of the archive"),
    "a chunk in the TOC": ([GOOD, regular("a", offset=26)], "a: a chunk lies outside of the archive"),
    "a size of exabytes": ([regular("a", size=LONG)], "a: a chunk needs more than 64 MiB"),
    "a size of exabytes in small chunks": ([regular("a", size=LONG, chunkSize=1)], "a: its chunks leave something out"),
    "a size beyond 63 bits": ([regular("a", size=1 << 63)], "entry 0: invalid value"),
    "a size below nothing": ([regular("a", size=-1)], "size -1 cannot be"),
    "an offset below nothing": ([regular("a", offset=-1)], "offset -1 cannot be"),
    "chunks that overlap": ([regular("a", chunkSize=4), chunk(3)], "a: its chunks leave something out or overlap"),
    "a chunk twice": ([regular("a", chunkSize=3), chunk(3), chunk(3)], "a: a chunk begins behind|or overlap"),
    "chunks with a gap": ([regular("a", chunkSize=3), chunk(4)], "a: its chunks leave something out or overlap"),
    "a chunk beyond the file": ([regular("a", chunkSize=7)], "a: a chunk ends behind its end"),
    "a frame of exabytes": ([regular("a", innerOffset=LONG)], "a: a chunk needs more than 64 MiB"),
    "a place beyond 63 bits": ([regular("a", innerOffset=LONG * 2 - 1)], "a: a chunk needs more than 64 MiB"),
    "zeros of exabytes": ([regular("a", size=LONG, chunkType="zeros", digest=None)], "a: its TOC has no digest of it"),
    "zeros of exabytes with digest": ([regular("a", size=LONG, chunkType="zeros")], "a: it says more zeros"),
    "holes that overlap": ([regular("a", holes=[[0, 4], [3, 1]])], "a: its holes overlap"),
    "a hole beyond the file": ([regular("a", holes=[[5, LONG * 2 - 1]])], "a: a hole behind its end"),
    "no digest": ([regular("a", digest=None)], "a: its TOC has no digest of it"),
    "a digest cut short": ([regular("a", digest="sha256:00")], "a digest cut"),
    "two digests of one content": ([regular("a", chunkDigest=digest(b""))], "a: its TOC has two digests"),
    "an attribute that is none": ([regular("a", xattrs={"user.a": "%"})], "an attribute that is no base64"),
}

_TEXT = b'{"version":1,"entries":[{"name":"a","type":"dir"}]}'
_TOC = member(toc_tar(_TEXT))
_BODY = member(HELLO)
_FRAME, _STORED = zstd_frame(HELLO), zstd_frame(_TEXT)

# Whole archives that are none.
WHOLES: dict[str, tuple[bytes, str]] = {
    "a TOC outside": (sealed(_BODY, _TEXT, offset=1 << 60), "its footer places the TOC outside"),
    "a TOC elsewhere": (sealed(_BODY, _TEXT, offset=3), "its TOC cannot be read"),
    "a TOC that is content": (sealed(_BODY, _TEXT, offset=0), "its TOC cannot be read|there is no TOC"),
    "a TOC of exabytes": (with_member(_BODY, member(toc_tar(_TEXT, 8**11 - 1))), "its TOC is too large"),
    "a TOC cut": (with_member(_BODY, member(toc_tar(_TEXT, 40_000))), "its text is cut|is damaged"),
    "a member cut": (with_member(_BODY, _TOC[: len(_TOC) // 2]), "is damaged"),
    "a sum that is wrong": (with_member(_BODY, _TOC[:-8] + bytes(8)), "is damaged"),
    "no object": (sealed(_BODY, b"[]"), "it is no object"),
    "no text": (sealed(_BODY, b""), "its text is cut|is damaged"),
    "entries twice": (sealed(_BODY, b'{"entries":[],"entries":[]}'), "twice"),
    "a pit of brackets": (sealed(_BODY, b'{"entries":' + b"[" * 100_000), "TOC is damaged"),
    "a pit of brackets in a field": (sealed(_BODY, b'{"a":' + b"[" * 99_999 + b"]" * 99_999 + b"}"), "."),
    "a frame outside": (chunked(_FRAME, _STORED, len(_TEXT), at=1 << 60), "its footer places the TOC outside"),
    "a frame beyond 64 bits": (chunked(_FRAME, _STORED, 9, length=(1 << 64) - 8), "its footer places the TOC outside"),
    "a frame of exabytes": (chunked(_FRAME, _STORED, LONG), "its TOC is too large"),
    "a frame that is longer": (chunked(_FRAME, _STORED, len(_TEXT) + 1), "is damaged"),
    "a frame that is shorter": (chunked(_FRAME, _STORED, len(_TEXT) - 1), "is damaged"),
}


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    (tmp_path / "home").mkdir()
    return Sapwood(tmp_path / "home")


def assert_refused(run: Sapwood, path: Path, found: str) -> None:
    """Hold each command that reads archives to one line that names the archive, a hint, and nothing written."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises((CorruptError, InvalidInputError), match=found) as refused:
        open_archive(str(path))
    assert refused.value.kind in ("archive-corrupt", "archive-toc-too-large", "archive-chunk-too-large")
    assert refused.value.hint
    for words in (["ls", "-R", path], ["pull", path, run.home / "out"]):
        said = run(*words)
        assert said.code in (2, 5), said
        message, hint = said.err.splitlines()
        assert message.startswith(f"sapwood: {path}: ")
        assert re.search(found, message)
        assert hint.startswith("hint: ")
    assert sorted(path.parent.rglob("*")) == before
    assert not (run.home / "out").exists()


@pytest.mark.parametrize("zstd", [False, True], ids=["gzip", "zstd"])
@pytest.mark.parametrize("lie", ENTRIES)
def test_a_toc_that_lies_is_refused_by_name_before_anything_is_made(
    run: Sapwood, tmp_path: Path, lie: str, *, zstd: bool
) -> None:
    entries, found = ENTRIES[lie]
    path = tmp_path / ("x.tar.zst" if zstd else "x.tar.gz")
    path.write_bytes(archive(entries, zstd=zstd))
    if zstd:
        # A name of 1 MiB is compressed by more than any TOC is.
        with pytest.raises((CorruptError, InvalidInputError), match=f"{found}|its TOC is too large"):
            open_archive(str(path))
    else:
        assert_refused(run, path, found)


@pytest.mark.parametrize("lie", WHOLES)
def test_what_is_no_archive_behind_a_good_footer_is_refused(run: Sapwood, tmp_path: Path, lie: str) -> None:
    data, found = WHOLES[lie]
    path = tmp_path / "x.tar.gz"
    path.write_bytes(data)
    if lie == "a pit of brackets in a field":  # which no reader heeds
        assert run.good("ls", path).out == ""
        return
    assert_refused(run, path, found)


def test_an_owner_that_nobody_can_be_is_refused_by_name_as_what_linux_cannot_hold(run: Sapwood, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(archive([regular("a", uid=1 << 40)]))
    said = run("ls", path)
    assert (said.code, said.out) == (2, "")
    assert said.err == f"sapwood: {path}: TOC: a: its owner {1 << 40} is more than Linux can hold\n"


def test_every_command_says_the_same_of_an_archive_that_lies(run: Sapwood, tmp_path: Path) -> None:
    path, place = tmp_path / "x.tar.gz", tmp_path / "place"
    path.write_bytes(archive(ENTRIES["a circle of hard links"][0]))
    place.mkdir()
    for words in (
        ["ls", path],
        ["cat", path, "good"],
        ["diff", path, place],
        ["diff", place, path],
        ["pull", path, place],
        ["pull", path, tmp_path / "new"],
        ["mount", path, place],
        ["pack", path, tmp_path / "out.tar.gz"],
        ["verify", path],
    ):
        said = run(*words)
        assert said.code == 5, said
        assert f"{path}: " in said.err
        assert "is a hard link in a circle" in said.err
        assert "hint: " in said.err
        assert "Traceback" not in said.err
    assert sorted(os.listdir(tmp_path)) == ["home", "place", "x.tar.gz"]
    assert os.listdir(place) == []


def test_a_damaged_member_is_named_with_its_file_and_archive(run: Sapwood, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    for body, kind in ((member(b"HELLO\n"), "chunk-corrupt"), (b"\x1f\x8b" + bytes(30), "archive-corrupt")):
        path.write_bytes(archive([regular("sub/a")], body))
        said = run("cat", path, "sub/a")
        assert (said.code, said.out) == (5, "")
        assert str(path) in said.err
        assert "sub/a" in said.err
        assert "hint: get the archive again" in said.err
        with pytest.raises(CorruptError) as damaged:
            list(open_tree(str(path)).read_blob(b"sub/a"))
        assert damaged.value.kind == kind
        for words in (["pull", path, tmp_path / "out"], ["pack", path, tmp_path / "out.tar.gz"]):
            said = run(*words)
            assert said.code == 5, said
            assert str(path) in said.err
    assert sorted(os.listdir(tmp_path)) == ["home", "x.tar.gz"]


def test_a_mount_gives_an_error_for_a_damaged_member_and_serves_the_others(tmp_path: Path) -> None:
    path, place = tmp_path / "x.tar.gz", tmp_path / "mount"
    good, other, bomb = member(HELLO), member(b"HELLO\n"), gzip.compress(HELLO + bytes(1 << 28))
    places = [0, len(good), len(good) + len(other)]
    contents = {"good": HELLO, "damaged": b"hullo\n", "bomb": HELLO}
    files = [regular(*file, offset=at) for file, at in zip(contents.items(), places, strict=True)]
    path.write_bytes(archive([*files, entry("out", "symlink", linkName="../../..")], good + other + bomb))
    with mounted(str(path), place, tmp_path / "cache"):
        assert shell(f"cat {place}/good {place}/bomb").stdout == "hello\n" * 2
        damaged = shell(f"cat {place}/damaged")
        assert (damaged.returncode, damaged.stdout) == (1, "")
        assert "Input/output error" in damaged.stderr
        assert os.readlink(place / "out") == "../../.."


def test_symlinks_may_say_what_they_like_and_nothing_is_written_through_them(run: Sapwood, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    first, second, place = tmp_path / "1.tar.gz", tmp_path / "2.tar.gz", tmp_path / "place"
    first.write_bytes(archive([entry("d", "symlink", linkName=str(outside)), entry("a", "symlink", linkName="/a/b")]))
    # The same names, now a directory and a file: whoever follows what is there already writes outside.
    second.write_bytes(archive([entry("d", mode=0o755), regular("d/f"), regular("a"), regular("d/../d/f")][:3]))
    run.good("pull", first, place)
    assert os.readlink(place / "d") == str(outside)
    run.good("pull", second, place)
    assert (place / "d" / "f").read_bytes() == (place / "a").read_bytes() == HELLO
    assert os.listdir(outside) == []


def test_the_last_of_a_name_counts_and_no_earlier_one_leads_astray(run: Sapwood, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tmp_path / "x.tar.gz"
    there = entry("d", "symlink", linkName=str(outside))
    path.write_bytes(archive([there, entry("d", mode=0o755), regular("d/f"), regular("a"), link("a", "d/f")]))
    run.good("pull", path, tmp_path / "out")
    assert (tmp_path / "out/d/f").read_bytes() == (tmp_path / "out/a").read_bytes() == HELLO
    assert (tmp_path / "out/a").samefile(tmp_path / "out/d/f")
    assert os.listdir(outside) == []


def test_names_that_differ_in_case_or_normalisation_are_two(run: Sapwood, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    names = ["readme", "README", "caf\u00e9", "cafe\u0301"]
    entries, body = [], b""
    for number, name in enumerate(names):
        content = b"%d\n" % number
        entries.append(regular(name, content, offset=len(body)))
        body += member(content)
    path.write_bytes(archive(entries, body))
    run.good("pull", path, tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_text() for name in names} == {
        name: f"{number}\n" for number, name in enumerate(names)
    }


# Tars that no convert takes, and what is said of them.
TARS: dict[str, tuple[bytes, str]] = {
    "a name that leads outside": (tar_of(header(b"../../outside")), "its name has a .. and may lead outside"),
    "a name with NUL": (tar_of(pax((b"path", b"a\0b")), header(b"a")), "it has a NUL"),
    "a hard link that leads outside": (tar_of(header(b"l", b"1", link=b"../x")), "it is a link to ../x"),
    "a hard link to nothing": (tar_of(header(b"l", b"1", link=b"x")), "l is a hard link to x, which is not there"),
    "a circle of hard links": (
        tar_of(header(b"l", b"1", link=b"m"), header(b"m", b"1", link=b"l")),
        "is a hard link in a circle",
    ),
    "a file below a symlink": (tar_of(header(b"d", b"2", link=b"/tmp"), header(b"d/a")), "d/a lies below d"),
    "a size of exabytes": (tar_of(header(b"a", size=LONG)), "the stream ends within its content"),
    "a pax size of exabytes": (tar_of(pax((b"size", b"%d" % LONG)), header(b"a")), "ends within its content"),
    "a pax header of exabytes": (tar_of(header(b"x", b"x", LONG), header(b"a")), "more bytes than are allowed"),
    "a long name of exabytes": (tar_of(header(b"L", b"L", LONG), header(b"a")), "more bytes than are allowed"),
    "a sum that is wrong": (tar_of(header(b"a"), b"x" + header(b"a")[1:]), "its checksum is wrong"),
    "a header cut": (header(b"a")[:300], "the stream ends within a header"),
    "holes of exabytes that overlap": (
        tar_of(
            pax((b"GNU.sparse.size", b"%d" % LONG), (b"GNU.sparse.map", b"9,9,0,9")), header(b"a", size=18), b"x" * 18
        ),
        "its map of holes contradicts itself",
    ),
    "a hole of exabytes": (
        tar_of(pax((b"GNU.sparse.size", b"%d" % LONG), (b"GNU.sparse.map", b"0,9")), header(b"a", size=9), b"x" * 9),
        "it has more entries",
    ),
    "many parts": (tar_of(pax((b"path", b"a/" * 2049)), header(b"a", b"5")), "more than 2,048 parts"),
}
# What a push says of them where that is another thing: it refuses the chunks of a size before it reads the content.
OF_PUSHES = dict.fromkeys(("a size of exabytes", "a pax size of exabytes"), "or larger files, than are read of a tar")


@pytest.mark.parametrize("lie", TARS)
def test_a_tar_that_lies_is_refused_by_name_and_leaves_nothing(run: Sapwood, tmp_path: Path, lie: str) -> None:
    tar, found = TARS[lie]
    for path, data in ((tmp_path / "x.tar", tar), (tmp_path / "x.tar.gz", gzip.compress(tar))):
        path.write_bytes(data)
        said = run("convert", path, tmp_path / "out.tar.gz")
        assert said.code == 5, said
        message, hint = said.err.splitlines()
        assert message.startswith(f"sapwood: {path}")
        assert found in message
        assert hint == "hint: get the tar again"
        assert not (tmp_path / "out.tar.gz").exists()
    said = run("push", tmp_path / "x.tar.gz", "main")
    assert said.code == 5, said
    assert OF_PUSHES.get(lie, found) in said.err
    assert "hint: get the tar again" in said.err
    assert run("refs").out == ""
    with pytest.raises(CorruptError) as refused:
        convert(str(tmp_path / "x.tar"), str(tmp_path / "out.tar.gz"))
    assert refused.value.kind == "archive-corrupt"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(HELLO)
    (root / "sub" / "b").write_bytes(noise(300))
    return root


def contents_of(path: Path) -> dict[bytes, bytes]:
    """Return all files of an archive that can be read whole; an error is one of ours."""
    tree = open_tree(str(path))
    return {name: b"".join(tree.read_blob(name)) for name in (b"a", b"sub/b") if tree.lookup(name)}


@pytest.mark.parametrize("kind", stargz.KINDS)
def test_no_flipped_byte_of_an_archive_gives_other_bytes(small: Path, tmp_path: Path, kind: str) -> None:
    path = stargz.make(small, tmp_path / f"x.tar.{'zst' if kind.startswith('zstd') else 'gz'}", kind, chunk=200)
    whole = path.read_bytes()
    right = contents_of(path)
    assert len(right) == 2
    refused = 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            read = contents_of(path)
        except SapwoodError as error:
            assert path.name in str(error)  # noqa: PT017 - each of thousands may be an error
            refused += 1
            continue
        if not kind.startswith("zstd"):
            assert read == right
        # The frame of a TOC has no sum, so a name may be another; never what a name stands for.
        assert all(content == right[name] for name, content in read.items())
    assert refused > len(whole) // 2


@pytest.mark.parametrize("kind", stargz.KINDS)
def test_an_archive_cut_anywhere_is_refused(small: Path, tmp_path: Path, kind: str) -> None:
    path = stargz.make(small, tmp_path / f"x.tar.{'zst' if kind.startswith('zstd') else 'gz'}", kind, chunk=200)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises((CorruptError, InvalidInputError)) as refused:
            contents_of(path)
        assert refused.value.kind in ("no-archive", "archive-without-toc", "archive-corrupt")
