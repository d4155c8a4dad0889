"""Pushes, pulls, collections of which any request, or all from one on, is spoilt on its way: right, or an error."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.errors import InternalError, SapwoodError
from sapwood.open import OpenStore
from sapwood.store import attempts
from sapwood.upkeep.forget import forget
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from sapwood.upkeep.verify import verify
from tests.support.collecting import age
from tests.support.faultyproxy import FAULTS, Proxy, proxying
from tests.support.requests import Scene, settle
from tests.support.storeplaces import BucketPlace
from tests.support.trees import differences, noise

# Each tries dozens of times: a busy machine takes minutes.
pytestmark = pytest.mark.timeout(600)

LASTING = ("503", "403", "412", "cut before", "done, and cut", "corrupted")
CASES = [(fault, False) for fault in FAULTS] + [(fault, True) for fault in LASTING]
TOLD_WRONGLY = ("done, and cut", "the reply is cut", "corrupted")
QUICK = {"ATTEMPTS": 2, "FIRST_PAUSE_S": 0.01, "FIRST_PAUSE_OF_THE_BUSY_S": 0.01}
"""Few attempts, for what is spoilt."""
PATIENCE = ("QUIET_S", "WRITE_S", "WRITE_SMALL_S")
DRIPPING = "a byte a second"
MOST = 60
"""Requests that no push and no pull of this makes."""


@dataclass(frozen=True)
class Setting:
    """A store behind a proxy, and a directory with all that a trial changes: the store's objects, trees and caches."""

    url: str
    home: Path
    proxy: Proxy

    def open(self, cache: str = "cache") -> OpenStore:
        return open_store(self.url, cache_dir=self.home / cache)

    def tried(self, fault: str, first: int, call: Callable[[], Any], *, lasting: bool) -> tuple[Any, int]:
        """Return what `call` returned, or the error of ours it raised, and the number of requests.

        The request number `first` is spoilt, and those behind it if it is `lasting`. Nothing is under way then.
        """
        others = threading.enumerate()
        self.proxy.begin(lambda number: FAULTS[fault] if number == first or (lasting and number > first) else None)
        # A reply that never ends is soon given up; any other comes in its time, which on a busy machine is long.
        patience = dict.fromkeys(PATIENCE, 0.5 if fault == DRIPPING else 10.0)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**QUICK, **patience}.items():
                patch.setattr(attempts, name, value)
            try:
                ended = call()
            except SapwoodError as error:
                ended = error
            settle(others)
        assert not isinstance(ended, InternalError)
        made = len(self.proxy.seen)
        self.proxy.begin(lambda _: None)
        return ended, made

    def assert_reads(self, store: OpenStore, ref: str, tree: str) -> None:
        """What the address names is the tree, byte for byte."""
        pulled = self.home / "pulled"
        shutil.rmtree(pulled, ignore_errors=True)
        store.pull(ref, pulled)
        assert differences(self.home / tree, pulled) == []


@pytest.fixture
def setting(
    versitygw: tuple[Path, str], versitygw_place: BucketPlace, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Setting]:
    """A store in which `old` was pushed; `tree` has an edited file and one more."""
    data, upstream = versitygw
    with proxying(upstream) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        home = data / versitygw_place.url.split("/")[2] / "some"  # beside the prefix: no listing shows what is here
        setting = Setting(versitygw_place.url, home, proxy)
        tree = home / "tree"
        tree.mkdir(parents=True)
        (tree / "kept").write_bytes(noise(150_000, 1))
        (tree / "edited").write_text("first")
        open_store(setting.url, create=True, cache_dir=home / "cache").push(tree, "main")
        shutil.copytree(tree, home / "old")
        (tree / "edited").write_text("second")
        (tree / "added").write_bytes(noise(20_000, 2))
        yield setting


@pytest.mark.parametrize(("fault", "lasting"), CASES)
@pytest.mark.parametrize("machine", ["the same", "another"])
def test_whichever_request_of_a_push_is_spoilt_the_ref_names_what_was_or_what_was_pushed(
    setting: Setting, fault: str, lasting: bool, machine: str
) -> None:
    before = setting.open().read_ref("main").snapshot
    if machine == "another":
        shutil.rmtree(setting.home / "cache")
    scene = Scene(setting.home)
    for number in range(1, MOST):
        scene.again()
        ended, made = setting.tried(
            fault, number, lambda: setting.open().push(setting.home / "tree", "main"), lasting=lasting
        )
        if made < number and not isinstance(ended, SapwoodError):
            break
        store = setting.open("other")
        after = store.read_ref("main").snapshot
        assert isinstance(ended, SapwoodError) or ended.snapshot == after
        setting.assert_reads(store, f"main@{before}", "old")
        if after != before:
            setting.assert_reads(store, "main", "tree")
        setting.open().push(setting.home / "tree", "main")
        setting.assert_reads(store, "main", "tree")
    assert 5 < number < MOST - 1


@pytest.mark.parametrize(("fault", "lasting"), CASES)
def test_whichever_request_of_a_pull_is_spoilt_what_is_written_is_right_or_an_error_says_that_it_is_not(
    setting: Setting, fault: str, lasting: bool
) -> None:
    store = setting.open()
    store.push(setting.home / "tree", "main")
    pulled = setting.home / "pulled"
    for number in range(1, MOST):
        shutil.rmtree(pulled, ignore_errors=True)
        shutil.rmtree(setting.home / "other", ignore_errors=True)
        ended, made = setting.tried(fault, number, lambda: setting.open("other").pull("main", pulled), lasting=lasting)
        if made < number and not isinstance(ended, SapwoodError):
            break
        if not isinstance(ended, SapwoodError):
            assert differences(setting.home / "tree", pulled) == []
        # What a spoilt pull has left behind is no hindrance.
        setting.open("other").pull("main", pulled, delete=True)
        assert differences(setting.home / "tree", pulled) == []
    assert 3 < number < MOST - 1


@pytest.mark.parametrize(("fault", "lasting"), [*((fault, False) for fault in TOLD_WRONGLY), ("cut before", True)])
def test_whichever_request_of_a_collection_is_spoilt_nothing_that_lives_is_lost(
    setting: Setting, fault: str, lasting: bool
) -> None:
    objects = setting.home / "prefix"
    store = setting.open()
    for number, size in enumerate((300_000, 900_000)):
        (setting.home / "tree" / f"large-{number}").write_bytes(noise(size, size))
    store.push(setting.home / "tree", "main")
    (setting.home / "tree" / "large-1").unlink()
    store.push(setting.home / "tree", "main")
    store.push(setting.home / "old", "gone")
    store.remove_ref(store.read_ref("gone"))
    age(objects)
    collect(store)
    forget(store, Rules(last=1))
    age(objects)
    scene = Scene(setting.home)
    for number in range(1, MOST):
        scene.again()
        ended, made = setting.tried(fault, number, lambda: collect(setting.open()), lasting=lasting)
        if made < number and not isinstance(ended, SapwoodError):
            assert ended.deleted > 0
            assert ended.moved == 1
            break
        store = setting.open("other")
        setting.assert_reads(store, "main", "tree")
        age(objects)
        collect(store)
        setting.assert_reads(store, "main", "tree")
    assert 10 < number < MOST - 1
    assert verify(setting.open(), read_data=100).damages == ()
