"""A collection whose every request is the last, fails, or loses its reply: what lives is not lost; the next goes on."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import SapwoodError
from sapwood.upkeep.forget import forget, remove
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from tests.support.child import Killed
from tests.support.collecting import age, change, make_tree, objects
from tests.support.requests import WAYS, Scene, trials
from tests.support.trees import differences


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store in which something is due, something to be condemned and something to be moved; what lives is `tree`."""
    home = tmp_path / "home"
    monkeypatch.setenv("SAPWOOD_CACHE", str(home / "cache"))
    tree, place = home / "tree", home / "store"
    store = open_store(str(place), create=True)
    make_tree(home / "other", 3, files=2, size=30_000)
    store.push(home / "other", "other")
    remove(store, "other")
    make_tree(tree, 1, files=5, size=300_000)
    store.push(tree, "main")
    age(place)
    assert collect(store).condemned > 0
    change(tree, 2, 3)
    store.push(tree, "main")
    forget(store, Rules(last=1))
    age(place)
    return home


def assert_readable(home: Path) -> None:
    """What lives is the tree, byte for byte."""
    shutil.rmtree(home / "pulled", ignore_errors=True)
    open_store(str(home / "store"), cache_dir=home / "elsewhere").pull("main", home / "pulled")
    assert differences(home / "tree", home / "pulled") == []


@pytest.mark.parametrize("way", WAYS)
def test_a_collection_that_meets_it_at_any_request_harms_nothing_and_the_next_ends_its_work(
    home: Path, way: str
) -> None:
    place = home / "store"

    def run() -> tuple[int, int]:
        done = collect(open_store(str(place)))
        return done.deleted, done.moved

    numbers = []
    for number, ended in trials(Scene(home), run, WAYS[way]):
        numbers.append(number)
        if isinstance(ended, Killed):
            assert ended.args == (-signal.SIGKILL,), "a traceback"
        assert not isinstance(ended, Exception) or isinstance(ended, (Killed, SapwoodError))
        assert_readable(home)
        for _ in range(4):
            age(place)
            collect(open_store(str(place)))
        assert_readable(home)
        left = sorted(key.partition("/")[0] for key in objects(place))
        assert left.count("gc") == 0
        assert (left.count("snapshots"), left.count("maps"), left.count("index")) == (1, 1, 1)
        # Its pages, what was pushed last, and what was moved out of the first.
        assert sum(key.endswith(".tar.zst") for key in objects(place)) == 3
    assert len(numbers) > 20
