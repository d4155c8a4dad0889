"""A push whose every request is the last, fails, or loses its reply: nothing acknowledged is lost; the next goes on."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import SapwoodError
from tests.support.child import Killed
from tests.support.requests import WAYS, Scene, trials
from tests.support.trees import MIB, differences, noise


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two pushes of a tree, which is edited since; `old` is what the store has, `cache` is the user's."""
    home = tmp_path / "home"
    monkeypatch.setenv("SAPWOOD_CACHE", str(home / "cache"))
    tree = home / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "small").write_text("first")
    (tree / "folder" / "large").write_bytes(noise(2 * MIB + 1, 1))
    store = open_store(str(home / "store"), create=True)
    store.push(tree, "main")
    (tree / "folder" / "added").write_bytes(noise(100_000, 2))
    store.push(tree, "main")
    shutil.copytree(tree, home / "old", symlinks=True)
    (tree / "small").write_text("second")
    (tree / "folder" / "large").write_bytes(noise(2 * MIB + 2, 3))
    return home


def fresh(home: Path) -> None:
    """As a machine that never saw this store."""
    shutil.rmtree(home / "cache")


def assert_readable(home: Path, ref: str, *trees: str) -> None:
    """What the ref names is one of the trees, byte for byte."""
    shutil.rmtree(home / "pulled", ignore_errors=True)
    open_store(str(home / "store"), cache_dir=home / "other").pull(ref, home / "pulled")
    assert any(differences(home / tree, home / "pulled") == [] for tree in trees)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("machine", ["the same", "another"])
def test_a_push_that_meets_it_at_any_request_harms_nothing_and_the_next_gets_through(
    home: Path, way: str, machine: str
) -> None:
    if machine == "another":
        fresh(home)
    scene = Scene(home)
    before = open_store(str(home / "store"), cache_dir=home / "other").read_ref("main")
    numbers = []
    for number, ended in trials(scene, lambda: open_store(str(home / "store")).push(home / "tree", "main"), WAYS[way]):
        numbers.append(number)
        if isinstance(ended, Killed):
            assert ended.args == (-signal.SIGKILL,), "a traceback"
        store = open_store(str(home / "store"), cache_dir=home / "other")
        after = store.read_ref("main")
        assert after.counter in (before.counter, before.counter + 1)
        # Whoever was told that it is done finds it done.
        assert isinstance(ended, Exception) or after.snapshot == ended.snapshot
        assert not isinstance(ended, Exception) or isinstance(ended, (Killed, SapwoodError))
        assert_readable(home, "main", "old" if after == before else "tree")
        assert_readable(home, f"main@{before.snapshot}", "old")
        pushed = open_store(str(home / "store")).push(home / "tree", "main")
        assert pushed.unchanged == (after != before)
        assert_readable(home, "main", "tree")
    # Fewer requests no push makes: the ref read, a pack put, the fence index, the snapshot, the ref swapped.
    assert len(numbers) >= 5
