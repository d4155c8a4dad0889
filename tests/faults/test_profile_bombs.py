"""Profiles that need far more memory than they have bytes: any store can hand one to whoever mounts of it.

Promise: none takes more than 150 MB, nor more than seconds; the largest that there can be is read in that.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import chain, repeat
from pathlib import Path

import pytest

from sapwood.profile import read_profile
from tests.support.cli import Sapwood
from tests.support.hostile import run_bounded

pytestmark = pytest.mark.timeout(300)

MOST_MB = 150
MIB = 1 << 20
HEAD = b'{"format":1,"tree":"sha256:%s","runs":1,"recorded":"","programs":["a","b","c"]}\n' % (b"1" * 64)
ROW = b'["%d/%s",%d,%d,1,4096,[%d]]\n'


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    """A sapwood whose default store has a tree `main`, of one file `a`."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a\n")
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", "tree", "main")
    return sapwood


def profile_of(path: Path, lines: Iterable[bytes]) -> Path:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        file.writelines(packer.compress(line) for line in lines)
        file.write(packer.flush())
    return path


def rows(count: int, name: bytes) -> Iterable[bytes]:
    return (ROW % (number // 2, name, number % 2 << 40, number, number % 3) for number in range(count))


def test_the_largest_profile_that_there_can_be_is_read_in_little_memory(run: Sapwood, tmp_path: Path) -> None:
    path = profile_of(tmp_path / "p", chain([HEAD], rows(200_000, b"n" * 110)))
    done = run_bounded(run, "coverage", "--profile", str(path), "main")
    assert done.said.code == 0, done
    assert done.peak_mb < MOST_MB
    assert len(read_profile(path).parts) == 200_000


def test_parts_behind_the_most_that_are_kept_are_not_looked_at(run: Sapwood, tmp_path: Path) -> None:
    path = profile_of(tmp_path / "p", chain([HEAD], rows(800_000, b"")))
    done = run_bounded(run, "coverage", "--profile", str(path), "main")
    assert done.said.code == 0, done
    assert done.peak_mb < MOST_MB
    kept = read_profile(path).parts
    assert [part.rank for part in kept] == list(range(200_000))


def test_readers_without_end_are_told_apart_as_far_as_memory_goes(run: Sapwood, tmp_path: Path) -> None:
    readers = [b",".join(b"%d" % (number >> bit & 1) for bit in range(50)) for number in range(180_000)]
    path = profile_of(tmp_path / "p", chain([HEAD], (b'["a",%d,0,1,0,[%s]]\n' % each for each in enumerate(readers))))
    done = run_bounded(run, "coverage", "--profile", str(path), "main")
    assert done.said.code == 0, done
    assert done.peak_mb < MOST_MB
    parts = read_profile(path).parts
    assert (parts[0].readers, parts[1].readers) == ({b"a"}, {b"a", b"b"})
    assert parts[-1].readers == set()


def test_names_that_were_looked_up_take_little_memory_however_long_the_way_to_them(
    run: Sapwood, tmp_path: Path
) -> None:
    names = b",".join(b'"%x"' % number for number in range(60_000))
    head = HEAD[:-2] + b',"lookedUp":{"%s":[%s]}}\n' % (b"n" * 500_000, names)
    done = run_bounded(run, "coverage", "--profile", str(profile_of(tmp_path / "p", [head])), "main")
    assert done.said.code == 0, done
    assert done.peak_mb < MOST_MB
    assert len(read_profile(tmp_path / "p").looked_up) == 16
    head = HEAD[:-2] + b',"lookedUp":{"":[%s]}}\n' % b",".join(b'"%x"' % number for number in range(120_000))
    path = profile_of(tmp_path / "p", chain([head], rows(200_000, b"n" * 110)))
    done = run_bounded(run, "coverage", "--profile", str(path), "main")
    assert done.said.code == 0, done
    assert done.peak_mb < MOST_MB
    assert len(read_profile(path).looked_up) == 100_000


BOMBS: dict[str, tuple[Iterable[bytes], str]] = {
    "text without end": (chain([HEAD], repeat(ROW % (1, b"n" * 1000, 0, 0, 0), 64_000)), "it is too large"),
    "a line without end": (chain([HEAD, b'["'], repeat(bytes(MIB), 100)), "a line is too long"),
    "a header without end": (chain([HEAD[:-2], b',"new":['], repeat(b"[]," * MIB, 30)), "a line is too long"),
    "lists without end": (chain([HEAD], repeat(b"[]\n", 8 * MIB)), "a line is none: it has fewer than six values"),
    "lists within lists": ([HEAD, b"[" * (MIB - 1), b"\n"], "a line is none"),
    "the end of a list": ([HEAD, b"],[\n"], "a line is none"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused(run: Sapwood, tmp_path: Path, bomb: str) -> None:
    lines, why = BOMBS[bomb]
    path = profile_of(tmp_path / "p", lines)
    done = run_bounded(run, "coverage", "--profile", str(path), "main")
    assert done.said.code == 5, done
    assert f"{path} is damaged: {why}" in done.said.err
    assert "hint: delete it, and trace again" in done.said.err
    assert done.peak_mb < MOST_MB


def test_a_file_that_never_ends_is_neither_a_profile_nor_a_list(run: Sapwood) -> None:
    done = run_bounded(run, "coverage", "--profile", "/dev/zero", "main")
    assert (done.said.code, "/dev/zero is no profile" in done.said.err) == (5, True)
    assert done.peak_mb < MOST_MB
    done = run_bounded(run, "pack", "--prioritize", "/dev/zero", "tree", "out.tar.gz")
    assert (done.said.code, "/dev/zero is no list: it has more than 64 MiB" in done.said.err) == (2, True)
    assert done.peak_mb < 200
