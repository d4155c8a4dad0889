"""A tree that is edited while it is hashed, and several who hash it: never a wrong digest, never a damaged index."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sapwood.errors import NotFoundError, UnavailableError
from sapwood.tree import Index
from tests.support.clock import settle
from tests.support.editing import editing
from tests.support.edits import draw, make
from tests.support.facts import Changes, changes, facts
from tests.support.racing import race
from tests.support.reapi_digest import tree_digest

ROUNDS, HASHES = 40, 4


@pytest.fixture
def index(tmp_path: Path) -> Index:
    (tmp_path / "root").mkdir()
    return Index(tmp_path / "root", tmp_path / "index")


def try_to(look: Callable[[Index], object], index: Index) -> None:
    """Look at a tree that is being edited: all that may go wrong is that a file never comes to rest."""
    try:
        look(index)
    except UnavailableError as error:
        if error.kind != "file-changing":
            raise


def expand(index: Index) -> None:
    """Look at directories one by one, as far as they stay."""
    with suppress(NotFoundError):
        for path in (b"", b"a", b"b/a"):
            if tree := Index.read(index.path, index.root).find_tree(path):
                tree.list_immediate()


def told(index: Index) -> Changes:
    found = index.status()
    assert not found.fresh
    return {"added": found.added, "changed": found.changed, "removed": found.removed}


ALL: list[Callable[[Index], object]] = [Index.hash, expand, Index.hash]


@pytest.mark.parametrize("hashers", [1, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_hashed_beside_an_editor_does_not_show_once_it_rests(index: Index, seed: int, hashers: int) -> None:
    with editing(index.root, seed) as editor:
        for _ in range(ROUNDS):
            race(hashers, lambda number: [try_to(ALL[number], index) for _ in range(HASHES)])
            editor.pause()
            assert index.hash().digest == tree_digest(index.root)
            settle()
            assert index.hash().digest == tree_digest(index.root)
            assert index.verify().wrong == ()
            before = facts(index.root)
            assert told(index) == changes(before, before)
            editor.resume()
            race(hashers, lambda _: [try_to(Index.status, index) for _ in range(HASHES)])
            editor.pause()
            assert told(index) == changes(before, facts(index.root))
            editor.resume()


def test_all_who_look_at_a_resting_tree_at_once_agree(index: Index) -> None:
    dice = random.Random(7)
    for _ in range(ROUNDS):
        for _ in range(5):
            make(bytes(index.root), draw(dice))
        right = tree_digest(index.root)
        assert race(4, lambda _: index.hash().digest) == [right] * 4
        before = facts(index.root)
        for _ in range(3):
            make(bytes(index.root), draw(dice))
        assert race(3, lambda _: told(index)) == [changes(before, facts(index.root))] * 3
    assert index.verify().wrong == ()
