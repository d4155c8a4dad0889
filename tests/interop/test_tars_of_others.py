"""Tars that others wrote, in all formats and compressions they have: `convert` keeps of each what others unpack."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.interop.conftest import Programs, without_what_users_cannot_unpack
from tests.support.archives import assert_rules
from tests.support.cli import Sapwood
from tests.support.estargz import expected, told
from tests.support.trees import MAKERS, Facts, look, make_privileged

GNU = ("tar", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*")
BSD = ("bsdtar", "-p", "--numeric-owner", "--xattrs", "--acls")
TARFILE = """
import os, sys, tarfile
with tarfile.open(sys.argv[2], sys.argv[1], format=int(sys.argv[3]), errors="surrogateescape") as tar:
    def add(path):
        try:
            tar.add(path, recursive=False)
        except ValueError as error:
            print(error, file=sys.stderr)
        if os.path.isdir(path) and not os.path.islink(path):
            for name in os.listdir(path):
                add(os.path.join(path, name))
    add(".")
"""
PYTHON = (sys.executable, "-c", TARFILE)
# It says links to what it leaves out, and a tar with such is refused.
NO_LINKS_TO_NOTHING = ("--exclude=./links/z/fifo", "--exclude=./privileged/disk*")
OLD = ("tar", "-p", "--numeric-owner")

# What makes it, and what unpacks it to compare.
WRITERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "GNU tar v7, plain": ((*OLD, "--format=v7", "-cf"), GNU),
    "GNU tar oldgnu, gzip": ((*OLD, "--format=oldgnu", "-czf"), GNU),
    "GNU tar gnu, zstd": ((*OLD, "--format=gnu", "--zstd", "-cf"), GNU),
    "GNU tar ustar, xz": ((*OLD, "--format=ustar", "-cJf"), GNU),
    "GNU tar pax, bzip2": ((*GNU, "--format=pax", "-cjf"), GNU),
    "GNU tar gnu, sparse": ((*OLD, "--format=gnu", "-cSf"), GNU),
    "GNU tar pax, sparse 0.0": ((*GNU, "--format=pax", "--sparse-version=0.0", "-cSf"), GNU),
    "GNU tar pax, sparse 0.1": ((*GNU, "--format=pax", "--sparse-version=0.1", "-cSzf"), GNU),
    "GNU tar pax, sparse 1.0": ((*GNU, "--format=pax", "--sparse-version=1.0", "-cSf"), GNU),
    "bsdtar v7, plain": ((*BSD, *NO_LINKS_TO_NOTHING, "--format=v7tar", "-cf"), BSD),
    "bsdtar ustar, gzip": ((*BSD, "--format=ustar", "-czf"), BSD),
    "bsdtar gnutar, bzip2": ((*BSD, "--format=gnutar", "-cjf"), BSD),
    "bsdtar pax, zstd": ((*BSD, "--format=pax", "--zstd", "-cf"), BSD),
    "bsdtar restricted pax, xz": ((*BSD, "-cJf"), BSD),
    "busybox, plain": (("busybox", "tar", "-cf"), GNU),
    "busybox, gzip": (("busybox", "tar", "-czf"), GNU),
    "tarfile ustar, gzip": ((*PYTHON, "w:gz", "OUT", "0"), GNU),
    "tarfile gnu, bzip2": ((*PYTHON, "w:bz2", "OUT", "1"), GNU),
    "tarfile pax, xz": ((*PYTHON, "w:xz", "OUT", "2"), GNU),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hard tree without files that take long to compress."""
    root = tmp_path_factory.mktemp("lighter") / "tree"
    root.mkdir()
    for name, make in MAKERS.items():
        if name != "contents":
            make(root / name)
    if os.geteuid() == 0:
        make_privileged(root / "privileged")
    else:
        without_what_users_cannot_unpack(root)
    for path in (root / "sparse").glob("large-*"):
        path.unlink()
    os.utime(root, ns=(1, 1))
    return root


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_made_of_a_tar_is_what_other_programs_find_in_it(
    programs: Programs, sapwood: Sapwood, tree: Path, tmp_path: Path, writer: str
) -> None:
    tar, archive = tmp_path / "a.tar", tmp_path / "a.tar.gz"
    write, read = WRITERS[writer]
    made: list[str | Path] = [tar if word == "OUT" else word for word in write]
    # What a format cannot say they leave out, and some fail at the end.
    subprocess.run(made if "OUT" in write else [*made, tar, "."], cwd=tree, capture_output=True, check=False)
    _assert_given_back(sapwood, tar, tmp_path / "again.tar")
    (tmp_path / "theirs").mkdir()
    subprocess.run([*read, "-xf", tar], cwd=tmp_path / "theirs", capture_output=True, check=False)
    ours = _converted(programs, sapwood, tar, archive, tmp_path / "ours")
    if not writer.endswith(("bzip2", "xz")):
        # With an index it is read where it lies.
        sapwood.good("index", tar)
        sapwood.good("pull", tar, tmp_path / "indexed")
        assert look(tmp_path / "indexed") == ours
    theirs = look(tmp_path / "theirs")
    assert len(ours) > 70
    if read is BSD:
        ours = {path: _as_bsdtar_has_it(path, facts) for path, facts in ours.items()}
        theirs[b"."] = replace(theirs[b"."], mtime_ns=0)
    if writer.startswith("tarfile pax"):
        # Times so near to 1970 have exponents, which GNU tar overlooks.
        for path, facts in look(tree).items():
            if abs(facts.mtime_ns) < 100_000:
                theirs[path] = replace(theirs[path], mtime_ns=facts.mtime_ns)
    assert ours == theirs


def _rare(out: BinaryIO) -> None:
    """Write a tar of what few programs write and all read."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of all"}) as tar:

        def add(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", **more: Any) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mtime = kind, link, len(content), 1_000_000_000
            info.mode = {tarfile.DIRTYPE: 0o755, tarfile.SYMTYPE: 0o777}.get(kind, 0o644)
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))

        add("no/parents/at/all", b"invented above")
        add("./dot/", kind=tarfile.DIRTYPE, mode=0o2750)
        add("./dot/slash", b"old and longer than what comes")
        add("dot//slash", b"last wins", mtime=-5)
        add("/absolute", b"below the root all the same")
        add("old style directory/", kind=tarfile.AREGTYPE)
        add("contiguous", b"in one piece on some disks", kind=tarfile.CONTTYPE)
        add("sticky" * 40, b"a long name", mode=0o1777)
        add("first", b"of a chain")
        add("second", kind=tarfile.LNKTYPE, link="./first")
        add("third", kind=tarfile.LNKTYPE, link="second")
        add("link", kind=tarfile.SYMTYPE, link="x" * 300)
        add("to link", kind=tarfile.LNKTYPE, link="link")
        add("replaced", kind=tarfile.SYMTYPE, link="dot")
        add("replaced", b"by a file")
        add("attributed", b"x", pax_headers={"SCHILY.xattr.user.a=b%": "\u20ac", "mtime": "12.5000000009"})
        add("huge", b"", uid=1 << 31, gid=(1 << 32) - 2)


def test_what_is_rare_in_tars_is_what_gnu_tar_makes_of_it(programs: Programs, sapwood: Sapwood, tmp_path: Path) -> None:
    tar, archive = tmp_path / "a.tar", tmp_path / "a.tar.gz"
    with tar.open("wb") as out:
        _rare(out)
    _assert_given_back(sapwood, tar, tmp_path / "again.tar")
    found = {}
    ours = _converted(programs, sapwood, tar, archive, tmp_path / "ours")
    for name, read in (("theirs", tar), ("through us", archive)):
        (tmp_path / name).mkdir()
        subprocess.run([*GNU, "--exclude=stargz.index.json", "-xf", read], cwd=tmp_path / name, check=True)
        found[name] = look(tmp_path / name)
    # Directories that are nowhere said have no time of their own; another was written to when it had its own.
    invented = {b".", b"no", b"no/parents", b"no/parents/at", b"dot"}
    for facts in (ours, *found.values()):
        for path in invented:
            facts[path] = replace(facts[path], mtime_ns=0)
    assert len(ours) == 19
    assert found["through us"] == ours
    assert found["theirs"] == ours


def _assert_given_back(sapwood: Sapwood, tar: Path, again: Path) -> None:
    """A store gives back the tar that was pushed; of a compressed one the plain tar."""
    sapwood.good("push", tar, "a-tar")
    sapwood.good("tar", "a-tar", "--output", again)
    # Whatever it is compressed by.
    plain = subprocess.run(["bsdcat", tar], capture_output=True, check=True).stdout
    assert again.read_bytes() == plain


def _converted(programs: Programs, sapwood: Sapwood, tar: Path, archive: Path, out: Path) -> dict[bytes, Facts]:
    """Make an archive of a tar, and return what is in it; containerd's library finds the same."""
    toc = sapwood.good("convert", "--level", "1", tar, archive).out.strip()
    assert_rules(archive.read_bytes())
    sapwood.good("pull", archive, out)
    assert told(programs("estargz", "read", archive, toc)) == expected(out)
    return look(out)


def _as_bsdtar_has_it(path: bytes, facts: Facts) -> Facts:
    # It does not touch what it unpacks into; of -1.25 it writes, and reads, -2.75, which for all others is that.
    seconds, fraction = divmod(abs(facts.mtime_ns), 10**9)
    time = fraction - seconds * 10**9 if facts.mtime_ns < 0 else facts.mtime_ns
    return replace(facts, mtime_ns=0 if path == b"." else time)
