"""An index update that is killed, or fails, at any of its system calls: the next run is right, and nothing piles up."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from sapwood._core import tree as core
from sapwood.errors import UnavailableError
from sapwood.tree import Index, Options
from tests.support.clock import settle
from tests.support.reapi_digest import tree_digest
from tests.support.tracing import Call, calls, fail_at, kill_at

INDEX = "kept.index"


class Place:
    """A tree and its index, which is up to date."""

    def __init__(self, home: Path) -> None:
        self.root, self.state = home / "root", home / "state"
        for name in ("a", "b/c", "b/d/e", "b/d/f"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(name)
        (self.root / "link").symlink_to("a")
        self.state.mkdir()
        self.index = Index(self.root, self.state / INDEX)
        settle()
        self.index.hash()

    def hash(self) -> str:
        """Hash on one thread, so that the calls are the same each time."""
        options = Options()
        options.threads = 1
        return core.hash(self.root, self.index.path, options)[0].digest

    def check(self) -> None:
        """What the next run says is right, and the next but one has nothing to do."""
        assert self.index.hash().digest == tree_digest(self.root)
        settle()
        assert self.index.hash().digest == tree_digest(self.root)
        assert self.index.hash().files_hashed == 0
        assert self.index.verify().wrong == ()

    def left(self) -> set[str]:
        return set(os.listdir(self.state))


def edit_a_file(place: Place) -> None:
    (place.root / "b" / "d" / "e").write_text(f"edited {random.random()}")


def edit_two_files_apart(place: Place) -> None:
    for name in ("a", "b/d/f"):
        (place.root / name).write_text(f"edited {random.random()}")


def add_a_file(place: Place) -> None:
    (place.root / "b" / f"new-{random.random()}").write_text("new")


def lose_the_index(place: Place) -> None:
    place.index.path.unlink()


ANSWERS = {"access", "statx"}
"""Calls that ask whether something is there: that they fail is an answer."""

EDITS = [edit_a_file, edit_two_files_apart, add_a_file, lose_the_index]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def of_update(numbered: list[Call]) -> list[Call]:
    """The calls from the opening of the lock on."""
    first = next(number for number, call in enumerate(numbered) if f'{INDEX}.lock"' in call.shown)
    return numbered[first:]


@pytest.mark.parametrize("edit", EDITS)
def test_killed_at_any_system_call_of_a_hash_the_next_is_right(place: Place, edit: Callable[[Place], None]) -> None:
    edit(place)
    numbered = calls(place.hash, f"{INDEX}.lock")
    assert {"flock", "pwrite64" if "edit" in edit.__name__ else "rename"} <= {call.name for call in of_update(numbered)}
    place.check()
    for call in numbered:
        edit(place)
        kill_at(call, place.hash)
        assert place.left() <= {INDEX, f"{INDEX}.lock", f"{INDEX}.new"}, call
        place.check()
        assert place.left() == {INDEX, f"{INDEX}.lock"}, call


def test_killed_again_and_again_it_is_right_in_the_end(place: Place) -> None:
    dice = random.Random(4)
    updates = {}
    for edit in (edit_a_file, add_a_file):
        edit(place)
        updates[edit] = of_update(calls(place.hash, f"{INDEX}.lock"))
    for _ in range(20):
        for edit in dice.choices(list(updates), k=3):
            edit(place)
        # The last edit that adds decides whether the index is replaced.
        add_a_file(place)
        kill_at(dice.choice(updates[add_a_file]), place.hash)
    assert place.left() <= {INDEX, f"{INDEX}.lock", f"{INDEX}.new"}
    place.check()
    assert place.left() == {INDEX, f"{INDEX}.lock"}


@pytest.mark.parametrize("edit", EDITS)
def test_whichever_call_fails_the_error_is_clear_and_the_next_hash_right(
    place: Place, edit: Callable[[Place], None]
) -> None:
    edit(place)
    numbered = [call for call in calls(place.hash, f"{INDEX}.lock") if call.name not in ANSWERS]
    tried = [(call, "EIO") for call in numbered]
    tried += [(call, error) for call in of_update(numbered) for error in ("ENOSPC", "EINTR")]
    for call, error in tried:
        edit(place)
        right = tree_digest(place.root)
        said = ""
        try:
            assert fail_at(call, place.hash, error) == right, call
        except UnavailableError as told:
            said = str(told)
        if said:
            assert os.strerror(getattr(errno, error)) in said, call
            assert str(place.root) in said or str(place.state) in said, call
        place.check()
        assert place.left() == {INDEX, f"{INDEX}.lock"}, call
