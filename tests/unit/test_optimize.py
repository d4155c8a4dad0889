"""Optimize: what was read lies together, the tree is the same, and nobody loses anything."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import ConflictError, NotFoundError
from sapwood.fetch import load_map
from sapwood.profile import Part, Profile
from sapwood.upkeep.optimize import optimize
from tests.support.cli import Sapwood

SIZES = {"small": 900_000, "large": 6_000_000}
# Directly, so that nothing is read ahead.
READING = """
block() { dd if="$SAPWOOD_ROOT/$1" iflag=direct bs=64K skip=$2 count=1 status=none of=/dev/null || exit 1; }
for at in 0 5; do block small $at; done
for at in 3 40 41 80; do block large $at; done
"""
READ = [f"{number:03}" for number in range(3, 300, 20)]


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    """A sapwood whose default store has a tree of 300 files, every 20th of which was read."""
    source = random.Random(1)
    (tmp_path / "tree").mkdir()
    for number in range(300):
        (tmp_path / "tree" / f"{number:03}").write_bytes(source.randbytes(40_000))
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", "tree", "main")
    sapwood.good("trace", "main", "--", "cat", *(f"{{}}/{name}" for name in READ))
    return sapwood


def test_what_was_read_lies_together_and_the_tree_is_the_same(run: Sapwood) -> None:
    tree = run.good("hash", "tree").out
    before = run.good("optimize", "--json", "main").document
    assert not before["unchanged"]
    assert before["chunks"] == len(READ)
    assert before["bytesAfter"] < before["bytesBefore"] / 3
    assert before["rangesAfter"] == 1 < before["rangesBefore"]
    assert run.good("pull", "main", "copy").out == tree
    run.good("verify")
    again = run.good("optimize", "main")
    assert "there is nothing to gain" in again.err
    assert again.out.strip() == before["address"]


@pytest.fixture
def cut(tmp_path: Path) -> Sapwood:
    """A sapwood whose tree has a file of 900 kB and one of 6 MB, of each of which some was read; it was laid out."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, size in SIZES.items():
        (tree / name).write_bytes(random.Random(name).randbytes(size))
    sapwood = Sapwood(tmp_path)
    sapwood.good("push", tree, "main")
    sapwood.good("trace", "--no-prefetch", "main", "--", "sh", "-c", READING)
    before = sapwood.good("optimize", "--json", "main").document
    assert not before["unchanged"]
    assert before["bytesAfter"] < before["bytesBefore"] / 2
    return sapwood


def same(run: Sapwood, tree: str) -> bool:
    return all((run.home / tree / name).read_bytes() == (run.home / "tree" / name).read_bytes() for name in SIZES)


def test_files_of_which_some_was_read_are_cut_and_whole_for_everybody(cut: Sapwood) -> None:
    store = open_store(str(cut.store))
    chunks = load_map(store, store.read_snapshot(store.read_ref("main").snapshot), pages=True)
    for name, size in SIZES.items():
        entry = chunks.lookup(name.encode())
        assert entry is not None
        assert sum(size for *_, size in entry.chunks) == size
        assert len(entry.chunks) > 1
    cut.cache = cut.home / "another"
    cut.good("verify")
    assert cut.good("pull", "main", "copy").out == cut.good("hash", "tree").out
    assert same(cut, "copy")
    cut.good("cp", "main", cut.home / "other-store")
    cut.good("pull", f"{cut.home / 'other-store'}#main", "copied")
    assert same(cut, "copied")
    cut.good("pack", "main", "main.tar.gz")
    cut.good("pull", "main.tar.gz", "unpacked")
    assert same(cut, "unpacked")
    assert cut.good("diff", "tree", "main").out == ""


@pytest.mark.parametrize("tier", ["fuse", "native", "libfuse"])
def test_files_that_were_cut_are_whole_in_every_kind_of_mount(cut: Sapwood, tier: str) -> None:
    cut.cache = cut.home / "another"
    compare = 'for name in small large; do cmp "$SAPWOOD_ROOT/$name" "tree/$name" || exit 1; done'
    for more in (["--no-prefetch"], []):
        cut.good("run", "--tier", tier, *more, "main", "--", "sh", "-c", compare)


def test_what_was_traced_of_whole_files_is_followed_where_it_lies_now_and_no_more_comes(cut: Sapwood) -> None:
    cut.cache = cut.home / "another"
    cut.good("run", "--no-prefetch", "--stats", "stats", "main", "--", "sh", "-c", READING)
    stats = json.loads((cut.home / "stats").read_text())
    # A reader that is there before the profile makes the mount guess all of the small file; whole chunks are 2.7 MB.
    assert stats["bytes_fetched"] < 1_700_000
    assert cut.good("optimize", "--json", "main").document["unchanged"]
    cut.good("trace", "main", "--", "sh", "-c", READING)
    assert cut.good("optimize", "--json", "main").document["unchanged"], "runs on both cuts merge"


def test_what_lies_beside_a_piece_in_its_frame_comes_with_it(cut: Sapwood) -> None:
    cut.cache = cut.home / "another"
    cut.good("run", "--no-profile", "--no-prefetch", "--stats", "stats", "main", "--", "sh", "-c", READING)
    waited = json.loads((cut.home / "stats").read_text())["waited"]
    assert waited <= 3, "for a page and for the frame, not for each of six pieces"


@pytest.mark.parametrize("knows", ["all", "the ref", "nothing"])
def test_a_later_push_of_files_that_were_cut_sends_nothing_of_them(cut: Sapwood, knows: str) -> None:
    if knows == "nothing":
        # What lay there before the files were cut is gone, too.
        for step in (["forget", "--keep-last", "1"], ["gc", "--grace", "0s"], ["gc", "--grace", "0s"]):
            cut.good(*step)
    if knows != "all":
        cut.cache = cut.home / "another"
    again = cut.good("push", "--json", "tree", "main").document
    assert again["unchanged"]
    assert again["chunkBytesSent"] == 0
    (cut.home / "tree" / "new").write_text("new")
    pushed = cut.good("push", "--json", "tree", "main").document
    assert pushed["chunkBytesSent"] < 10_000
    cut.cache = cut.home / "a third"
    cut.good("pull", "main", "copy")
    assert same(cut, "copy")
    cut.good("verify")


def test_a_large_file_of_the_same_size_and_other_content_is_sent(cut: Sapwood) -> None:
    changed = random.Random("changed").randbytes(SIZES["large"])
    (cut.home / "tree" / "large").write_bytes(changed)
    cut.cache = cut.home / "another"
    cut.good("push", "tree", "main")
    cut.good("pull", "main", "copy")
    assert (cut.home / "copy" / "large").read_bytes() == changed


def test_ranges_that_cannot_be_are_clipped_and_do_no_harm(run: Sapwood) -> None:
    tree = run.good("hash", "tree").out
    store = open_store(str(run.store))
    seen = store.read_ref("main")
    digest = store.read_snapshot(seen.snapshot).tree
    most = (1 << 63) - 1
    odd = [(0, most), (39_999, 40_000), (40_000, most), (most - 1, most)]
    parts = [
        Part(b"%03d" % at, offset, at, 1, 9, frozenset(), (range_,))
        for at in range(0, 300, 7)
        for offset in (0, 5, most)
        for range_ in odd
    ]
    optimize(store, seen, Profile(digest, 1, "2026-01-01T00:00:00Z", tuple(parts)))
    assert run.good("pull", "main", "copy").out == tree
    run.good("verify")


def test_later_pushes_reuse_the_new_places_and_collection_keeps_them(run: Sapwood) -> None:
    laid_out = run.good("optimize", "--json", "main").document
    (run.home / "tree" / "new").write_text("new")
    pushed = run.good("push", "--json", "tree", "main").document
    assert pushed["chunkBytesSent"] < 400_000
    run.good("forget", "--keep-last", "1")
    run.good("gc", "--grace", "0s")
    run.good("gc", "--grace", "0s")
    run.good("verify")
    run.cache = run.home / "another"
    run.good("pull", "main", "copy")
    assert (run.home / "copy" / READ[0]).read_bytes() == (run.home / "tree" / READ[0]).read_bytes()
    now = run.good("optimize", "--json", "main").document
    assert now["unchanged"]
    assert now["bytesBefore"] == laid_out["bytesAfter"]


def test_a_ref_that_moved_meanwhile_is_left_alone(run: Sapwood) -> None:
    store = open_store(str(run.store))
    seen = store.read_ref("main")
    (run.home / "tree" / "new").write_text("new")
    run.good("push", "tree", "main")
    with pytest.raises(ConflictError) as lost:
        optimize(store, seen)
    assert lost.value.kind == "ref-moved"
    assert run.good("ls", "main").out.endswith("new\n")


def test_without_a_profile_it_says_how_to_make_one(run: Sapwood) -> None:
    run.good("push", run.home / "tree", "other/place")
    (run.store / "profiles" / "trees").rename(run.home / "gone")
    store = open_store(str(run.store))
    with pytest.raises(NotFoundError) as missing:
        optimize(store, store.read_ref("other/place"))
    assert missing.value.kind == "profile-missing"


def test_a_pinned_address_is_refused(run: Sapwood) -> None:
    pinned = run.good("log", "--json", "main").document[0]["snapshot"]
    said = run("optimize", f"main@{pinned}")
    assert said.code == 2
    assert "hint: sapwood optimize" in said.err
