"""Tars that others wrote, in all formats and compressions they have: `convert` keeps of each what others unpack."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.archives import assert_rules
from tests.support.cli import Sapwood
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
    for path in (root / "sparse").glob("large-*"):
        path.unlink()
    os.utime(root, ns=(1, 1))
    return root


@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_made_of_a_tar_is_what_other_programs_find_in_it(
    sapwood: Sapwood, tree: Path, tmp_path: Path, writer: str
) -> None:
    tar, archive = tmp_path / "a.tar", tmp_path / "a.tar.gz"
    write, read = WRITERS[writer]
    made: list[str | Path] = [tar if word == "OUT" else word for word in write]
    # What a format cannot say they leave out, and some fail at the end.
    subprocess.run(made if "OUT" in write else [*made, tar, "."], cwd=tree, capture_output=True, check=False)
    for place in ("theirs", "ours"):
        (tmp_path / place).mkdir()
    subprocess.run([*read, "-xf", tar], cwd=tmp_path / "theirs", capture_output=True, check=False)
    sapwood.good("convert", "--level", "1", tar, archive)
    assert_rules(archive.read_bytes())
    sapwood.good("pull", archive, tmp_path / "ours")
    ours = look(tmp_path / "ours")
    theirs = look(tmp_path / "theirs")
    assert len(ours) > 80
    if read is BSD:
        ours = {path: _as_bsdtar_has_it(path, facts) for path, facts in ours.items()}
        theirs[b"."] = replace(theirs[b"."], mtime_ns=0)
    if writer.startswith("tarfile pax"):
        # Times so near to 1970 have exponents, which GNU tar overlooks.
        for path, facts in look(tree).items():
            if abs(facts.mtime_ns) < 100_000:
                theirs[path] = replace(theirs[path], mtime_ns=facts.mtime_ns)
    assert ours == theirs


def _as_bsdtar_has_it(path: bytes, facts: Facts) -> Facts:
    # It does not touch what it unpacks into; of -1.25 it writes, and reads, -2.75, which for all others is that.
    seconds, fraction = divmod(abs(facts.mtime_ns), 10**9)
    time = fraction - seconds * 10**9 if facts.mtime_ns < 0 else facts.mtime_ns
    return replace(facts, mtime_ns=0 if path == b"." else time)
