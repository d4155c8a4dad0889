"""Archives that sapwood wrote, read by containerd's library and by the tars that people have, fact by fact."""

from __future__ import annotations

import math
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.conftest import Programs
from tests.support.archives import assert_rules, digest
from tests.support.cli import Sapwood
from tests.support.estargz import expected, told, whole_seconds
from tests.support.trees import Facts, look

VARIANTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "fast": ("--level", "1"),
    "stored, in the largest chunks": ("--level", "0", "--chunk-size", "3999999"),
    "in small chunks": ("--chunk-size", "65536"),
    "rounded times": ("--compatible-times",),
    "shared members": ("--min-chunk-size", "100000"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_library_of_containerd_reads_and_verifies_all_of_a_packed_tree(
    programs: Programs, sapwood: Sapwood, hard: Path, tmp_path: Path, variant: str
) -> None:
    archive = tmp_path / "a.tar.gz"
    toc = sapwood.good("pack", *VARIANTS[variant], hard, archive).out.strip()
    shared = variant == "shared members"
    assert_rules(archive.read_bytes(), inner=shared)
    found = told(programs("estargz", "read", *(["-shared"] if shared else []), archive, toc))
    wanted = expected(hard)
    assert found == (whole_seconds(wanted) if variant == "rounded times" else wanted)


def test_what_is_prioritized_is_no_other_tree(programs: Programs, sapwood: Sapwood, hard: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    (tmp_path / "list").write_text("links/z/three\ncontents/text\nnames/...\n")
    toc = sapwood.good("pack", "--prioritize", tmp_path / "list", hard, archive).out.strip()
    assert_rules(archive.read_bytes())
    found = told(programs("estargz", "read", archive, toc))
    landmark = found.pop(".prefetch.landmark")
    assert (landmark.kind, landmark.content) == ("reg", (1, digest(b"\x0f").removeprefix("sha256:")))
    assert found == expected(hard)


OWN = (os.geteuid(), os.getegid())
ANY_TIME = -(1 << 99)
"""What a program leaves as it comes."""


def _gnu(path: bytes, facts: Facts) -> Facts:
    return facts


def _bsd(path: bytes, facts: Facts) -> Facts:
    # It loses the sign of times within a second before 1970, and does not touch what it unpacks into.
    if path == b".":
        return replace(facts, mtime_ns=ANY_TIME)
    return replace(facts, mtime_ns=-facts.mtime_ns) if -(10**9) < facts.mtime_ns < 0 else facts


def _python(path: bytes, facts: Facts) -> Facts:
    # Times are floats, links have none; there are no attributes; a second name of a symbolic link is one of its own.
    whole, nanoseconds = divmod(facts.mtime_ns, 10**9)
    fraction, seconds = math.modf(float(f"{whole}.{nanoseconds:09}") if whole >= 0 else facts.mtime_ns / 10**9)
    if stat.S_ISLNK(facts.mode):
        return replace(facts, mtime_ns=ANY_TIME, xattrs=(), names=())
    return replace(facts, mtime_ns=int(seconds) * 10**9 + math.floor(fraction * 1e9), xattrs=())


def _busybox(path: bytes, facts: Facts) -> Facts:
    # Times and owners are what the header says, without pax: whole seconds, small numbers. Directories keep no time,
    # links neither time nor owner, nothing its attributes.
    seconds = facts.mtime_ns // 10**9
    timeless = stat.S_ISDIR(facts.mode) or stat.S_ISLNK(facts.mode)
    user, group = (number if number < 1 << 21 else 0 for number in facts.owner)
    return replace(
        facts,
        mtime_ns=ANY_TIME if timeless else (seconds if 0 <= seconds < 1 << 33 else 0) * 10**9,
        owner=OWN if stat.S_ISLNK(facts.mode) else (user, group),
        xattrs=(),
    )


TARFILE = """
import io, sys, tarfile
with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()), errors="surrogateescape") as tar:
    tar.extractall(".", filter="fully_trusted")
"""
UNPACKERS: dict[str, tuple[tuple[str, ...], Callable[[bytes, Facts], Facts]]] = {
    "tar": (("tar", "-xp", "--xattrs", "--xattrs-include=*"), _gnu),
    "bsdtar": (("bsdtar", "-xpf", "-", "--xattrs", "--acls"), _bsd),
    "busybox": (("busybox", "tar", "-xpf", "-"), _busybox),
    "tarfile": ((sys.executable, "-c", TARFILE), _python),
}


@pytest.fixture(scope="module")
def packed(sapwood: Sapwood, hard: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Archives of the hard tree by compression."""
    root = tmp_path_factory.mktemp("packed")
    out = {"gzip": root / "a.tar.gz", "zstd": root / "a.tar.zst"}
    sapwood.good("pack", hard, out["gzip"])
    sapwood.good("pack", "--zstd", hard, out["zstd"])
    return out


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("unpacker", UNPACKERS)
def test_people_unpack_all_of_it_with_what_they_have(
    packed: dict[str, Path], hard: Path, tmp_path: Path, unpacker: str, compression: str
) -> None:
    command, keeps = UNPACKERS[unpacker]
    with subprocess.Popen([compression, "-dc", packed[compression]], stdout=subprocess.PIPE) as plain:
        done = subprocess.run(command, cwd=tmp_path, stdin=plain.stdout, capture_output=True, check=False)
    assert (plain.returncode, done.returncode) == (0, 0), done.stderr
    if compression == "gzip":
        assert (tmp_path / "stargz.index.json").stat().st_size > 0
        (tmp_path / "stargz.index.json").unlink()
    # A tar that everybody unpacks has no holes; of the root's time the TOC's file was the end.
    wanted = {path: replace(keeps(path, facts), holes=()) for path, facts in look(hard).items()}
    wanted[b"."] = replace(wanted[b"."], mtime_ns=ANY_TIME)
    found = {path: replace(facts, holes=()) for path, facts in look(tmp_path).items()}
    for path in wanted.keys() & found.keys():
        if wanted[path].mtime_ns == ANY_TIME:
            found[path] = replace(found[path], mtime_ns=ANY_TIME)
    assert found == wanted
