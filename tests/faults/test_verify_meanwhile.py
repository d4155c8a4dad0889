"""Whatever is pushed, forgotten, moved and deleted while `verify` looks, it tells no damage where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.upkeep.forget import forget
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from sapwood.upkeep.verify import verify
from tests.support.collecting import age, change, make_tree
from tests.support.requests import Asked, Meddle, Scene, meddling


def push_again(home: Path) -> None:
    (home / "tree" / "new").write_text("new")
    open_store(str(home / "store"), cache_dir=home / "cache").push(home / "tree", "main", index=home / "index")


def forget_and_collect(home: Path) -> None:
    """Delete the first snapshot and what only it needs, and move the packs that it shares."""
    store = open_store(str(home / "store"), cache_dir=home / "cache")
    forget(store, Rules(last=1))
    age(home / "store")
    assert collect(store, grace_s=0).deleted


def collect_only(home: Path) -> None:
    """Delete and move although no ref changes."""
    store = open_store(str(home / "store"), cache_dir=home / "cache")
    age(home / "store")
    done = collect(store, grace_s=0)
    assert done.deleted
    assert done.moved


def collect_and_push(home: Path) -> None:
    forget_and_collect(home)
    push_again(home)


def at(number: int, act: Callable[[], None], acted: list[int]) -> Meddle:
    """Do something before a request is made."""

    def meddle(asked: Asked, call: Callable[[], Any]) -> Any:
        if asked.number == number:
            acted.append(number)
            act()
        return call()

    return meddle


@pytest.mark.parametrize("act", [push_again, forget_and_collect, collect_only, collect_and_push])
def test_what_changes_meanwhile_is_no_damage(tmp_path: Path, act: Callable[[Path], None]) -> None:
    home = tmp_path / "home"
    tree = home / "tree"
    make_tree(tree, 1, files=6)
    store = open_store(str(home / "store"), create=True, cache_dir=home / "cache")
    store.push(tree, "main", index=home / "index")
    change(tree, 2, 3)
    store.push(tree, "main", index=home / "index")
    if act is collect_only:
        forget(store, Rules(last=1))
    scene = Scene(home)
    number = 0
    acted = [0]
    while acted:
        number += 1
        scene.again()
        acted.clear()
        with meddling(at(number, lambda: act(home), acted)):
            looked = verify(open_store(str(home / "store")), read_data=100)
        assert looked.damages == (), number
    assert number > 20
