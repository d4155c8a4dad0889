"""Pushes that take longer than the store's grace allows: they put leases, or change nothing and lose nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.basis import Basis
from sapwood.digests import PackName
from sapwood.errors import ConflictError, NotFoundError, UnavailableError
from sapwood.open import OpenStore
from sapwood.store import Store, lease
from sapwood.store.condemned import encode_condemned, read_condemned
from sapwood.store.identity import GRACE_S
from sapwood.store.keys import condemned_key, lease_keys, pack_key
from sapwood.tree.index import Index
from tests.support.trees import MIB, differences, noise


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(12):
        (root / f"large-{number}").write_bytes(noise(2 * MIB, number))
    return root


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


def begun_before(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let pushes have begun so long ago."""
    monkeypatch.setattr("sapwood.push.clock_s", lambda: lease.clock_s() - seconds)


def at_each_pack(monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]) -> None:
    """Call that when a pack has been put, before the push goes on."""
    put_pack = Store.put_pack

    def put(self: Store, name: PackName, data: bytes | memoryview) -> None:
        put_pack(self, name, data)
        call()

    monkeypatch.setattr(Store, "put_pack", put)


def leases(store: OpenStore) -> list[str]:
    return sorted(path.name for path in (Path(store.url) / "leases").glob("*"))


def test_a_push_that_is_too_late_moves_nothing_and_the_next_sends_no_content_again(
    store: OpenStore, tree: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        begun_before(patch, GRACE_S / 2 + 1)
        patch.setattr(lease.Term, "check", lambda self: None)  # it becomes too late when all has been sent
        with pytest.raises(UnavailableError) as late:
            store.push(tree, "main")
    assert late.value.kind == "push-too-slow"
    assert store.refs() == []
    assert leases(store) == []
    again = store.push(tree, "main")
    assert again.bytes_reused == again.bytes
    store.pull("main", tmp_path / "out")
    assert differences(tree, tmp_path / "out") == []


def test_a_push_that_is_too_late_already_sends_no_more(
    store: OpenStore, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_before(monkeypatch, GRACE_S / 2 + 1)
    fragments = Basis.fragments

    def when_too_late(*arguments: Any) -> Any:
        for thread in threading.enumerate():
            if thread.name == "sapwood-lease":
                thread.join()
        return fragments(*arguments)

    monkeypatch.setattr(Basis, "fragments", when_too_late)
    with pytest.raises(UnavailableError) as late:
        store.push(tree, "main")
    assert late.value.kind == "push-too-slow"
    assert store.packs() == set()


def test_a_machine_that_never_saw_the_ref_has_its_lease_while_it_hashes(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.push(tree, "main")
    (tree / "new").write_text("new")
    begun_before(monkeypatch, GRACE_S / 4 + 1)
    hash_now = Index.hash
    leased: list[bool] = []

    def when_leased(*arguments: Any, **named: Any) -> Any:
        leased.append(any(thread.name == "sapwood-lease" for thread in threading.enumerate()))
        while leased[-1] and len(leases(store)) < 2:
            pass
        return hash_now(*arguments, **named)

    monkeypatch.setattr(Index, "hash", when_leased)
    elsewhere = open_store(store.url, cache_dir=tmp_path / "another-cache")
    elsewhere.push(tree, "main", index=tmp_path / "another.index")
    assert leased == [True]


def test_a_push_of_more_than_a_quarter_of_the_grace_puts_a_lease_and_leaves_it(
    store: OpenStore, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_before(monkeypatch, GRACE_S / 4 + 1)

    def until_leased() -> None:
        while len(leases(store)) < 2:
            pass

    at_each_pack(monkeypatch, until_leased)
    store.push(tree, "main")
    push = leases(store)[0].partition(".")[0]
    assert leases(store) == sorted(key.partition("/")[2] for key in lease_keys(push))


def test_a_push_that_re_used_what_was_condemned_meanwhile_moves_nothing_and_the_next_sends_it(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.push(tree, "main")
    packs = store.snapshot("main").packs
    (tree / "new").write_text("new")
    elsewhere = open_store(store.url, cache_dir=tmp_path / "another-cache")
    condemned, guard = threading.Event(), threading.Lock()
    record = Path(store.url) / condemned_key("f" * 16)

    def condemn() -> None:
        with guard:  # packs are put several at a time, and a record is never seen half written
            if not condemned.is_set():
                record.parent.mkdir(exist_ok=True)
                record.write_bytes(encode_condemned(map(pack_key, packs)))
                condemned.set()
        while not any(name.endswith(".live") for name in leases(store)):
            pass

    def see(*objects: object) -> object:
        condemned.wait()
        return read_condemned(*objects)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        begun_before(patch, GRACE_S / 4 + 1)
        at_each_pack(patch, condemn)
        patch.setattr(lease, "read_condemned", see)
        with pytest.raises(ConflictError) as lost:
            elsewhere.push(tree, "other", index=tmp_path / "another.index")
    assert lost.value.kind == "pack-condemned"
    with pytest.raises(NotFoundError):
        store.snapshot("other")
    again = elsewhere.push(tree, "other", index=tmp_path / "another.index")
    assert not set(packs) & set(store.snapshot("other").packs)
    assert again.bytes_reused <= len("new")
    store.pull("other", tmp_path / "out")
    assert differences(tree, tmp_path / "out") == []
