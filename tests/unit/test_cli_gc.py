"""`sapwood gc`: what it says, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.open import OpenStore
from sapwood.upkeep.forget import forget
from sapwood.upkeep.retention import Rules
from tests.support.cli import Sapwood
from tests.support.collecting import age, change, make_tree, objects


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    """A store a day old; of two versions of a tree, of which little is the same, the first is forgotten."""
    made = open_store(str(tmp_path / "store"), create=True)
    make_tree(tmp_path / "tree", 1, files=5)
    made.push(tmp_path / "tree", "main")
    change(tmp_path / "tree", 2, 3)
    made.push(tmp_path / "tree", "main")
    forget(made, Rules(last=1))
    age(Path(made.url))
    return made


SIZE = r"\d+(\.\d)? [kM]?B( \([\d,]+ B\))?"


def test_it_says_what_lives_what_went_and_what_is_to_go(store: OpenStore, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    kept = objects(Path(store.url))
    would = run("gc", store.url, "--dry-run")
    assert (would.code, would.out, objects(Path(store.url))) == (0, "", kept)
    assert re.fullmatch(
        "alive: 1 ref, 1 snapshot\nwould be deleted: 0 objects, 0 B\n"
        rf"would be moved: {SIZE} out of 1 pack mostly dead\n"
        rf"would be condemned: \d objects, {SIZE}; \d objects can be deleted by a run in 1d\n",
        would.err,
    ), would.err
    did = run("gc", store.url)
    assert did.err == would.err.replace("would be ", "")
    age(Path(store.url))
    again = run("gc", store.url)
    assert re.fullmatch(rf"alive: 1 ref, 1 snapshot\ndeleted: \d objects, {SIZE}\n", again.err), again.err


def test_without_grace_nothing_is_left_to_a_later_run(store: OpenStore, tmp_path: Path) -> None:
    said = Sapwood(tmp_path)("gc", store.url, "--grace", "0", "--json")
    found = said.document
    assert (found["refs"], found["snapshots"], found["waiting"], found["packsMoved"]) == (1, 1, 0, 1)
    assert found["deleted"] == found["condemned"] > 3
    assert found["bytesDeleted"] == found["bytesCondemned"] > 1_000_000
    assert found["requests"] == sum(found["requestsByVerb"].values())
    assert found["requestsByVerb"]["delete"] == found["deleted"] + 1  # the record that told the time


def test_a_grace_that_is_no_duration_is_refused(store: OpenStore, tmp_path: Path) -> None:
    said = Sapwood(tmp_path)("gc", store.url, "--grace", "soon")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("sapwood: 'soon' is no duration\n")
