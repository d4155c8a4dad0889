"""Disks that are full, or can only be read, from any request on of all that writes: an error, and no harm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.errors import DeniedError, InternalError, SapwoodError, UnavailableError
from sapwood.open import OpenStore
from sapwood.store.keys import pack_key
from sapwood.upkeep.copy import copy
from sapwood.upkeep.forget import forget
from sapwood.upkeep.gc import collect
from sapwood.upkeep.repair import repair
from sapwood.upkeep.retention import Rules
from sapwood.upkeep.sources import open_source
from sapwood.upkeep.verify import verify
from tests.support.collecting import age
from tests.support.damage import harm
from tests.support.requests import Asked, Meddle, Scene, meddling
from tests.support.smalldisk import fill, free, read_only, small_disk, writable
from tests.support.trees import MIB, differences, noise

MOST = 200
"""Requests that nothing of this makes."""


class Setting:
    """A disk: a store, the tree that its ref names (`old`), the same edited (`tree`, also in `source`), and a cache."""

    def __init__(self, disk: Path) -> None:
        self.disk = disk
        self.home = disk / "home"
        tree = self.home / "tree"
        tree.mkdir(parents=True)
        store = OpenStore.open(str(self.home / "store"), create=True, cache_dir=self.home / "cache")
        for name, size in (("kept", 300_000), ("dropped", 900_000)):
            (tree / name).write_bytes(noise(size, size))
        store.push(tree, "main")
        (tree / "dropped").unlink()
        store.push(tree, "main")
        # One object of each kind is due to be deleted, a pack is to be moved, and its fragment to be replaced.
        store.push(tree, "gone")
        store.remove_ref(store.read_ref("gone"))
        age(self.home / "store")
        collect(store)
        forget(store, Rules(last=1))
        age(self.home / "store")
        shutil.copytree(tree, self.home / "old")
        (tree / "kept").write_bytes(noise(310_000, 1))
        OpenStore.open(str(self.home / "source"), create=True, cache_dir=self.home / "cache").push(tree, "main")
        self.scene = Scene(self.home)

    def prepare(self, what: str) -> Callable[[], Any]:
        """Begin anew; return what does it."""
        self.scene.again()
        if what == "push of another machine":
            shutil.rmtree(self.home / "cache")
        if what == "repair":
            for key in map(pack_key, self.store().snapshot("main").packs):
                pack = self.home / "store" / key
                if pack.exists():
                    harm(pack, lambda data: data[: len(data) // 2] + bytes(100) + data[len(data) // 2 + 100 :])
        return {"collect": self.collect, "copy": self.copy, "repair": self.repair}.get(what, self.push)

    def store(self) -> OpenStore:
        return open_store(str(self.home / "store"), cache_dir=self.home / "cache")

    def push(self) -> Any:
        return self.store().push(self.home / "tree", "main")

    def collect(self) -> Any:
        return collect(self.store())

    def copy(self) -> Any:
        source = open_store(str(self.home / "source"), cache_dir=self.home / "cache")
        return copy(source, source.snapshot("main"), self.store(), "main")

    def repair(self) -> Any:
        repaired = repair(self.store(), [open_source(str(self.home / "old"))])
        assert repaired.left == ()
        return repaired

    def assert_sound(self, *, did_push: bool) -> None:
        """The ref names what was or, if that was done, what was pushed; nothing is damaged, and all can be done now."""
        store = self.store()
        self._pull(store)
        is_new = differences(self.home / "tree", self.home / "pulled") == []
        assert is_new == did_push
        assert is_new or differences(self.home / "old", self.home / "pulled") == []
        assert verify(store, read_data=100).damages == ()
        self.push()
        self.collect()
        self._pull(store)
        assert differences(self.home / "tree", self.home / "pulled") == []

    def _pull(self, store: OpenStore) -> None:
        shutil.rmtree(self.home / "pulled", ignore_errors=True)
        store.pull("main", self.home / "pulled")


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    with small_disk(tmp_path / "disk", 32 * MIB) as disk:
        yield Setting(disk)


def from_request(number: int, act: Callable[[], None]) -> Meddle:
    """Act before a request is made."""

    def meddle(asked: Asked, call: Callable[[], Any]) -> Any:
        if asked.number == number:
            act()
        return call()

    return meddle


def ended(call: Callable[[], Any]) -> Any:
    """Return what it returned, or the error of ours that it raised."""
    try:
        done = call()
    except SapwoodError as error:
        done = error
    assert not isinstance(done, InternalError)
    return done


@pytest.mark.parametrize("what", ["push", "push of another machine", "collect", "copy", "repair"])
@pytest.mark.parametrize("way", ["full", "read-only"])
def test_a_disk_that_takes_no_more_from_any_request_on_harms_nothing(setting: Setting, what: str, way: str) -> None:
    failed = 0
    # A repair makes many requests, most of which only read.
    for number in range(1, MOST, 5 if what == "repair" else 1):
        call = setting.prepare(what)

        def act() -> None:
            (fill if way == "full" else read_only)(setting.disk)

        with meddling(from_request(number, act)) as asked:
            done = ended(call)
            # Perhaps it is another request that failed, while the disk is still being filled.
            setting.scene.settle()
        writable(setting.disk)
        if len(asked) < number:
            break
        if isinstance(done, SapwoodError):
            assert isinstance(done, UnavailableError if way == "full" else DeniedError), done
            failed += 1
            if what == "repair":
                setting.repair()
        setting.assert_sound(did_push=what not in ("collect", "repair") and not isinstance(done, SapwoodError))
    assert 4 < number < MOST - 5
    assert failed > 3


@pytest.mark.parametrize("what", ["push", "collect", "copy", "repair"])
def test_a_disk_that_is_full_after_any_page_harms_nothing(setting: Setting, what: str) -> None:
    failed = 0
    for pages in range(0, MOST, 3):
        call = setting.prepare(what)
        fill(setting.disk, leave=pages * 4096)
        done = ended(call)
        setting.scene.settle()
        writable(setting.disk)
        if not isinstance(done, SapwoodError):
            break
        assert done.kind == "disk-full"
        failed += 1
        if what == "repair":
            setting.repair()
        setting.assert_sound(did_push=False)
    assert failed > 3
    assert free(setting.disk) > 0
