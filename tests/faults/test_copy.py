"""Copies that are killed, refused, misheard, meet damage, each other, or collection: nothing false is ever stored."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.errors import ConflictError, CorruptError, NotFoundError, SapwoodError, UnavailableError
from sapwood.open import OpenStore
from sapwood.store import Store
from sapwood.upkeep.copy import Copied, copy
from sapwood.upkeep.forget import forget, remove
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from sapwood.upkeep.verify import verify
from tests.support.child import Killed, die, in_child
from tests.support.collecting import age
from tests.support.damage import Damage, damages, flipped, harm
from tests.support.objects import chunks_of
from tests.support.racing import race
from tests.support.requests import WAYS, Asked, Meddle, Scene, meddling, trials
from tests.support.trees import MIB, differences, noise


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stores: `target` has a copy of `old`, an earlier state of `tree`, whose present one `source` has."""
    home = tmp_path / "home"
    monkeypatch.setenv("SAPWOOD_CACHE", str(home / "cache"))
    tree = home / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "small").write_text("first")
    (tree / "folder" / "large").write_bytes(noise(2 * MIB + 1, 1))
    source, target = open_at(home, "source", create=True), open_at(home, "target", create=True)
    source.push(tree, "main")
    copy(source, source.snapshot("main"), target, "main")
    shutil.copytree(tree, home / "old", symlinks=True)
    (tree / "small").write_text("second")
    (tree / "folder" / "added").write_bytes(noise(100_000, 2))
    source.push(tree, "main")
    return home


def open_at(home: Path, name: str, *, create: bool = False) -> OpenStore:
    return open_store(str(home / name), create=create)


def copied(home: Path, ref: str = "main") -> Copied:
    source = open_at(home, "source")
    return copy(source, source.snapshot("main"), open_at(home, "target"), ref)


def assert_target(home: Path, tree: str, ref: str = "main") -> None:
    """All that the target's refs need is sound, and the ref names this tree, byte for byte."""
    target = open_store(str(home / "target"), cache_dir=home / "other")
    assert verify(target, read_data=100).damages == ()
    shutil.rmtree(home / "pulled", ignore_errors=True)
    target.pull(ref, home / "pulled")
    assert differences(home / tree, home / "pulled") == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("machine", ["the same", "another"])
def test_a_copy_that_meets_it_at_any_request_harms_nothing_and_the_next_gets_through(
    home: Path, way: str, machine: str
) -> None:
    if machine == "another":
        shutil.rmtree(home / "cache")
    before = open_at(home, "target").read_ref("main")
    numbers = []
    for number, ended in trials(Scene(home), lambda: copied(home), WAYS[way]):
        numbers.append(number)
        if isinstance(ended, Killed):
            assert ended.args == (-signal.SIGKILL,), "a traceback"
        assert not isinstance(ended, Exception) or isinstance(ended, (Killed, SapwoodError))
        after = open_store(str(home / "target"), cache_dir=home / "other").read_ref("main")
        assert after.counter in (before.counter, before.counter + 1)
        # Whoever was told that it is done finds it done.
        assert isinstance(ended, Exception) or after.snapshot == ended.snapshot
        assert_target(home, "old" if after == before else "tree")
        assert copied(home).unchanged == (after != before)
        assert_target(home, "tree")
    # Of the target: the ref read, packs, the map, the snapshot, the ref swapped; of the source its map and pages.
    assert len(numbers) >= 10


def make_larger(home: Path) -> None:
    """Let the tree have contents for three packs."""
    for number in range(20):
        (home / "tree" / f"large-{number}").write_bytes(noise(2 * MIB, 100 + number))
    open_at(home, "source").push(home / "tree", "main")


def test_what_a_killed_copy_sent_is_not_sent_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_larger(home)

    def killed_at_the_map() -> None:
        with meddling(lambda asked, call: die() if (asked.verb, asked.key[:5]) == ("put", "maps/") else call()):
            copied(home)

    with pytest.raises(Killed):
        in_child(killed_at_the_map)
    assert_target(home, "old")
    target = open_at(home, "target")
    noted = target.pending()
    assert len(noted) >= 4
    sent: set[bytes] = set()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "keep_pending", lambda self, name, fragment: sent.update(chunks_of(fragment)))
        done = copied(home)
    assert all(sent.isdisjoint(chunks_of(fragment)) for fragment in noted.values())
    # The outline.
    assert (done.chunks_sent, done.packs_sent) == (0, 1)
    assert_target(home, "tree")
    assert open_at(home, "target").pending() == {}


def packs(home: Path, store: str) -> list[Path]:
    return sorted((home / store / "packs").glob("*.tar.zst"))


DAMAGES = dict(damages(100_000, flips=6))


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_pack_of_the_source_is_named_and_nothing_of_it_is_stored(home: Path, how: str) -> None:
    # Of what the copy needs: one with contents, one with pages.
    needed = open_at(home, "source").snapshot("main").packs
    for pack in packs(home, "source"):
        name = pack.name.partition(".")[0]
        change: Damage = DAMAGES[how]
        whole = pack.read_bytes()
        if name not in needed or ("flipped" in how and len(whole) < 100_000):
            continue
        harm(pack, change)
        refused = None
        try:
            copied(home)
        except (CorruptError, NotFoundError) as error:
            refused = str(error)
        assert refused is None or name[:12] in refused
        # Perhaps what was harmed is not needed: the end of the pack, or chunks that the target has.
        assert_target(home, "old" if refused else "tree")
        pack.unlink(missing_ok=True)
        pack.write_bytes(whole)
        copy_old_anew(home)
    copied(home)
    assert_target(home, "tree")


def copy_old_anew(home: Path) -> None:
    """Let the target be as at first."""
    shutil.rmtree(home / "target")
    source, target = open_at(home, "source"), open_at(home, "target", create=True)
    [_, first] = source.history(source.read_ref("main"))
    copy(source, first, target, "main")


def test_a_damaged_frame_is_named_and_the_copy_goes_through_when_it_is_healed(home: Path) -> None:
    source = open_at(home, "source")
    target = open_at(home, "third", create=True)
    for pack in packs(home, "source"):
        whole = pack.read_bytes()
        # In contents, or in a compressed page.
        harm(pack, flipped(60_000 if len(whole) > 100_000 else 100, 1))
        if pack.name.partition(".")[0] in source.snapshot("main").packs:
            with pytest.raises(CorruptError) as damaged:
                copy(source, source.snapshot("main"), target, "main")
            assert f"packs/{pack.name}" in str(damaged.value)
            assert damaged.value.kind in ("damaged", "chunk-corrupt")
            assert target.refs() == []
        pack.write_bytes(whole)
    copy(source, source.snapshot("main"), target, "main")
    assert verify(target, read_data=100).damages == ()


def test_a_frame_that_arrives_damaged_once_is_fetched_once_more(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Store.read_ranges
    spoilt: set[tuple[str, int]] = set()
    guard = threading.Lock()

    def read(self: Store, pack: Any, ranges: list[tuple[int, int]]) -> list[bytes]:
        stored = plain(self, pack, ranges)
        for number, (offset, _) in enumerate(ranges):
            with guard:
                if (pack, offset) not in spoilt:
                    spoilt.add((pack, offset))
                    stored[number] = stored[number][:-1] + bytes([stored[number][-1] ^ 1])
        return stored

    monkeypatch.setattr(Store, "read_ranges", read)
    copied(home)
    assert spoilt
    assert_target(home, "tree")


def test_maps_and_snapshots_that_are_missing_are_named(home: Path) -> None:
    source = open_at(home, "source")
    snapshot = source.snapshot("main")
    for path in (home / "source" / "maps").iterdir():
        path.unlink()
    with pytest.raises(NotFoundError) as missing:
        copied(home)
    assert missing.value.kind == "map-missing"
    for path in (home / "source" / "snapshots").iterdir():
        path.unlink()
    with pytest.raises(NotFoundError) as missing:
        copied(home)
    assert (missing.value.kind, missing.value.digest) == ("snapshot-missing", snapshot.digest)
    assert_target(home, "old")


def test_of_copies_to_one_ref_at_once_one_wins_and_no_other_is_half_there(home: Path) -> None:
    make_larger(home)
    ended = race(4, lambda _: copied(home))
    won = [one for one in ended if isinstance(one, Copied) and not one.unchanged]
    assert len(won) == 1
    for one in ended:
        if isinstance(one, SapwoodError):
            assert (type(one), one.kind) == (ConflictError, "ref-moved")
    assert open_at(home, "target").read_ref("main").counter == 2
    assert_target(home, "tree")


def test_copies_to_several_refs_at_once_are_all_there(home: Path) -> None:
    ended = race(6, lambda number: copied(home, f"ref-{number}"))
    assert all(isinstance(one, Copied) for one in ended)
    for number in range(6):
        assert_target(home, "tree", f"ref-{number}")


def act_at(verb: str, folder: str, act: Callable[[], object]) -> Meddle:
    """Do something once, before the first request of this verb in this folder."""
    first = iter([True])

    def meddle(asked: Asked, call: Callable[[], Any]) -> Any:
        if asked.verb == verb and asked.key.startswith(folder) and next(first, False):
            act()
        return call()

    return meddle


def forget_tree(home: Path) -> None:
    """Let the target hold all of the tree, but no ref need what `main` does not."""
    copied(home, "forgotten")
    remove(open_at(home, "target"), "forgotten")
    age(home / "target")


def test_what_is_condemned_already_is_not_re_used(home: Path) -> None:
    forget_tree(home)
    collect(open_at(home, "target"))
    assert copied(home).chunk_bytes_sent >= 100_000
    age(home / "target")
    collect(open_at(home, "target"))
    assert_target(home, "tree")


def test_what_is_condemned_while_a_copy_re_uses_it_lives_on(home: Path) -> None:
    forget_tree(home)
    condemned = []
    with meddling(act_at("put", "maps", lambda: condemned.append(collect(open_at(home, "target")).condemned))):
        assert copied(home).chunk_bytes_sent == 0
    assert condemned[0] > 0
    age(home / "target")
    collect(open_at(home, "target"))
    assert_target(home, "tree")


def test_a_copy_with_a_lease_that_re_uses_what_was_condemned_meanwhile_moves_no_ref(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sapwood.store.lease import Term

    forget_tree(home)
    terms: list[Term] = []
    begin = Term.__enter__
    monkeypatch.setattr(Term, "__enter__", lambda self: terms.append(self) or begin(self))

    def condemn() -> None:
        collect(open_at(home, "target"))
        terms[0].renew()

    with meddling(act_at("put", "maps", condemn)), pytest.raises(ConflictError) as refused:
        copied(home)
    assert refused.value.kind == "pack-condemned"
    assert_target(home, "old")
    copied(home)
    assert_target(home, "tree")


def test_a_copy_that_takes_too_long_for_the_grace_moves_no_ref(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if it had begun a day ago, with a machine that slept meanwhile.
    from sapwood.store.lease import clock_s

    monkeypatch.setattr("sapwood.upkeep.copy.clock_s", lambda: clock_s() - 86_400)
    with pytest.raises(UnavailableError) as late:
        copied(home)
    assert late.value.kind == "push-too-slow"
    assert_target(home, "old")


def test_a_source_that_is_collected_meanwhile_ends_the_copy_and_says_what_is_gone(home: Path) -> None:
    def act() -> None:
        for pack in packs(home, "source"):
            pack.unlink()

    with meddling(act_at("get_ranges", "packs", act)), pytest.raises(NotFoundError) as gone:
        copied(home)
    assert gone.value.kind == "pack-missing"
    assert_target(home, "old")


def test_the_first_error_of_an_upload_ends_the_copy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # More packs than there is memory for, none of which is stored: nobody may wait for ever.
    for number in range(70):
        (home / "tree" / f"large-{number}").write_bytes(noise(2 * MIB, 100 + number))
    open_at(home, "source").push(home / "tree", "main")

    def refuse(*_: object) -> None:
        raise UnavailableError("no room", kind="disk-full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_pack", refuse)
        with pytest.raises(UnavailableError) as full:
            copied(home)
    assert full.value.kind == "disk-full"
    assert_target(home, "old")


def test_stores_whose_packs_were_moved_are_copied_from_and_to(home: Path) -> None:
    # Of the packs of the first push little lives on.
    for number in range(10):
        (home / "tree" / f"file-{number}").write_bytes(noise(300_000, 500 + number))
    for name in ("source", "target"):
        store = open_at(home, name)
        store.push(home / "tree", "moved")
    for number in range(9):
        (home / "tree" / f"file-{number}").write_bytes(noise(300_000, 600 + number))
    for name in ("source", "target"):
        store = open_at(home, name)
        store.push(home / "tree", "moved")
        forget(store, Rules(last=1))
        age(home / name)
        assert collect(store).moved > 0
        age(home / name)
        assert collect(store).deleted > 0
    (home / "tree" / "file-0").write_bytes(noise(300_000, 700))
    open_at(home, "source").push(home / "tree", "moved")
    source, third = open_at(home, "source"), open_at(home, "third", create=True)
    done = copy(source, source.snapshot("moved"), open_at(home, "target"), "moved")
    assert done.chunk_bytes_sent == 300_000
    assert_target(home, "tree", "moved")
    copy(source, source.snapshot("moved"), third, "main")
    shutil.rmtree(home / "source")
    third.pull("main", home / "from-third")
    assert differences(home / "tree", home / "from-third") == []
