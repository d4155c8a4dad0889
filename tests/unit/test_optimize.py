"""Optimize: what was read lies together, the tree is the same, and nobody loses anything."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import ConflictError, NotFoundError
from sapwood.upkeep.optimize import optimize
from tests.support.cli import Sapwood

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
