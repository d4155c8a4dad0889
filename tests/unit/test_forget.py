"""Retention rules, and the commands that name, remove and forget."""

from __future__ import annotations

from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import ConflictError, NotFoundError, UnavailableError
from sapwood.open import OpenStore
from sapwood.store import Snapshot
from sapwood.store.condemned import encode_condemned, read_condemned
from sapwood.store.keys import condemned_key, map_key, pack_key, snapshot_key
from sapwood.store.lease import clock_s
from sapwood.upkeep.forget import forget, forget_ref, remove, tag
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules, kept
from tests.support.cli import Sapwood
from tests.support.collecting import age
from tests.support.snapshots import make_snapshot
from tests.support.trees import noise


def history_of(*created: str) -> list[Snapshot]:
    """Return a history with the newest first, a snapshot for each time, which names it."""
    return [make_snapshot(created=time, source=time) for time in created]


# Two weeks, newest first: Monday is the 8th; the year changes in the middle of the third.
TIMES = (
    "2024-01-10T09:00:00.5Z", "2024-01-10T09:00:00Z", "2024-01-10T00:00:00Z",
    "2024-01-08T12:00:00Z",
    "2024-01-07T23:59:59.999Z", "2024-01-07T00:00:00Z",
    "2024-01-01T00:00:00Z", "2023-12-31T23:00:00Z", "2023-12-25T00:00:00Z",
)  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Rules(last=1), [0]),
        (Rules(last=3), [0, 1, 2]),
        (Rules(last=99), list(range(9))),
        (Rules(daily=1), [0]),
        (Rules(daily=2), [0, 3]),  # the 9th has none and does not count
        (Rules(daily=4), [0, 3, 4, 6]),
        (Rules(weekly=1), [0]),
        (Rules(weekly=3), [0, 4, 7]),  # the 1st of January 2024 is a Monday
        (Rules(weekly=2, daily=2), [0, 3, 4]),
        (Rules(last=2, weekly=4), [0, 1, 4, 7]),
    ],
    ids=str,
)
def test_each_rule_keeps_the_newest_of_its_periods(rules: Rules, expected: list[int]) -> None:
    history = history_of(*TIMES)
    assert kept(history, rules) == [history[number] for number in expected]


def test_the_newest_is_kept_whatever_clocks_say() -> None:
    history = history_of("1970-01-01T00:00:00Z", "2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z", "0000-00-00T00:00:00Z")
    assert kept(history, Rules(daily=1)) == history[:2]
    assert kept(history, Rules(weekly=9)) == [history[0], history[1], history[3]]


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    """A store whose ref `main` was pushed to five times, `other` twice."""
    made = open_store(str(tmp_path / "store"), create=True)
    (tmp_path / "tree").mkdir()
    for number in range(5):
        (tmp_path / "tree" / "a").write_text(str(number))
        made.push(tmp_path / "tree", "main")
        if number < 2:
            made.push(tmp_path / "tree", "other")
    return made


def digests(store: OpenStore, ref: str) -> list[str]:
    return [snapshot.digest for snapshot in store.history(store.read_ref(ref))]


def test_forgetting_keeps_what_the_rules_keep_and_moves_the_ref_only_for_that(store: OpenStore) -> None:
    before = digests(store, "main")
    [done, other] = forget(store, Rules(last=2))
    assert (list(done.kept), list(done.forgotten)) == (before[:2], before[2:])
    assert (other.ref, other.forgotten) == ("other", ())
    assert digests(store, "main") == before[:2]
    assert store.read_ref("main").counter == 6
    assert store.read_ref("other").counter == 2
    again = forget_ref(store, "main", Rules(last=2))
    assert (again.kept, again.forgotten) == (done.kept, ())
    assert store.read_ref("main").counter == 6


def test_a_dry_run_says_the_same_and_changes_nothing(store: OpenStore) -> None:
    before = store.refs()
    said = forget(store, Rules(last=1), dry_run=True)
    assert store.refs() == before
    assert forget(store, Rules(last=1)) == said


def test_only_refs_that_match_are_cut(store: OpenStore) -> None:
    assert [done.ref for done in forget(store, Rules(last=1), pattern="o*r")] == ["other"]
    assert len(digests(store, "main")) == 5


def test_a_push_on_top_of_a_cut_history_is_cut_again(store: OpenStore, tmp_path: Path) -> None:
    before = digests(store, "main")
    forget_ref(store, "main", Rules(last=3))
    (tmp_path / "tree" / "a").write_text("new")
    new = store.push(tmp_path / "tree", "main").snapshot
    assert digests(store, "main") == [new, *before[:3]]
    forget_ref(store, "main", Rules(last=2))
    assert digests(store, "main") == [new, before[0]]


def test_a_push_that_comes_between_is_kept(store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut, before = OpenStore.cut_ref, digests(store, "main")

    def beaten(self: OpenStore, *arguments: object) -> object:
        monkeypatch.setattr(OpenStore, "cut_ref", cut)
        (tmp_path / "tree" / "a").write_text("between")
        store.push(tmp_path / "tree", "main")
        return cut(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenStore, "cut_ref", beaten)
    done = forget_ref(store, "main", Rules(last=2))
    assert list(done.forgotten) == before[1:]
    assert digests(store, "main") == [store.snapshot("main").digest, before[0]]
    assert store.snapshot("main").parent == before[0]


def test_who_loses_again_and_again_gives_up(store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(self: OpenStore, *_: object) -> None:
        raise ConflictError("main was moved", kind="ref-moved")

    monkeypatch.setattr(OpenStore, "remove_ref", lose)
    with pytest.raises(ConflictError):
        remove(store, "main")


def test_a_tag_stays_when_its_ref_is_removed(store: OpenStore) -> None:
    old = store.read_snapshot(digests(store, "main")[2])  # type: ignore[arg-type]
    made = tag(store, old, "v1", of="main")
    assert tag(store, old, "v1", of="main") == made
    remove(store, "main")
    assert [ref.name for ref in store.refs()] == ["other", "v1"]
    assert digests(store, "v1") == [old.digest]
    with pytest.raises(NotFoundError) as missing:
        remove(store, "main")
    assert missing.value.kind == "ref-missing"


def test_a_name_that_is_taken_is_no_tag(store: OpenStore) -> None:
    with pytest.raises(ConflictError) as taken:
        tag(store, store.snapshot("main"), "other", of="main")
    assert taken.value.kind == "ref-exists"


def test_what_was_forgotten_is_not_tagged(store: OpenStore) -> None:
    old = store.read_snapshot(digests(store, "main")[3])  # type: ignore[arg-type]
    forget_ref(store, "main", Rules(last=1))
    with pytest.raises(NotFoundError) as forgotten:
        tag(store, old, "v1", of="main")
    assert forgotten.value.kind == "snapshot-forgotten"
    assert store.ref_state("v1") is None


def test_what_is_condemned_is_not_tagged_though_it_lives(store: OpenStore) -> None:
    old = store.snapshot("main")
    for key in (snapshot_key(old.digest), map_key(old.map), pack_key(old.packs[0])):
        record = condemned_key("0123456789abcdef")
        store._collecting().put(record, encode_condemned([key]))
        with pytest.raises(ConflictError) as condemned:
            tag(store, old, "v1", of="main")
        assert condemned.value.kind == "pack-condemned"
        assert key in str(condemned.value)
        assert store.ref_state("v1") is None
        store._collecting().delete(record)
    tag(store, old, "v1", of="main")


def test_what_needs_nothing_of_a_condemned_pack_any_more_is_tagged(store: OpenStore, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name, size in (("moved", 300_000), ("dropped", 900_000)):
        (tree / name).write_bytes(noise(size, size))
    store.push(tree, "main")
    (tree / "dropped").unlink()
    store.push(tree, "main")
    forget_ref(store, "main", Rules(last=1))
    age(Path(store.url))
    assert collect(store).moved == 1
    snapshot = store.snapshot("main")
    (condemned,) = read_condemned(store._objects).values()
    assert not {pack_key(pack) for pack in snapshot.packs}.isdisjoint(condemned)
    assert tag(store, snapshot, "v1", of="main").snapshot == snapshot.digest


def test_a_tag_that_took_longer_than_half_the_grace_is_refused(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sapwood.upkeep.forget.clock_s", lambda: clock_s() - store.grace_s / 2 - 1)
    with pytest.raises(UnavailableError) as slow:
        tag(store, store.snapshot("main"), "v1", of="main")
    assert slow.value.kind == "push-too-slow"
    assert store.ref_state("v1") is None


def test_a_removed_ref_is_pushed_to_with_a_new_history(store: OpenStore, tmp_path: Path) -> None:
    remove(store, "main")
    pushed = store.push(tmp_path / "tree", "main")
    assert digests(store, "main") == [pushed.snapshot]
    assert (store.snapshot("main").parent, store.read_ref("main").counter) == (None, 7)


def test_the_commands_say_what_they_did(store: OpenStore, tmp_path: Path) -> None:
    run, before = Sapwood(tmp_path), digests(store, "main")
    assert run.good("tag", "main", "v1").out == f"{store.url}#v1@{before[0]}\n"
    dry = run.good("forget", "--keep-last", "4", "--refs", "m*", "--dry-run")
    assert (dry.out, dry.err) == (f"{before[4]}  main\n", "main: 4 snapshots kept, 1 snapshot would be forgotten\n")
    cut = run.good("forget", f"{store.url}#main", "--keep-daily", "3", "--keep-weekly", "1", "--json").document
    assert cut == [{"ref": "main", "kept": before[:1], "forgotten": before[1:]}]
    gone = run.good("rm", "v1", f"{store.url}#other")
    assert gone.out == ""
    assert gone.err.splitlines()[0] == f"removed: {store.url}#v1, which named {before[0]}"
    assert [ref["name"] for ref in run.good("refs", "--json").document] == ["main"]
    assert [entry["snapshot"] for entry in run.good("log", "--json", "main").document] == before[:1]


# Words -> what is said; the exit code is 2.
USAGE = {
    ("forget",): "forget: no rule says what to keep\nhint: sapwood forget STORE_URL --keep-last 1",
    ("forget", "--keep-last", "0"): "forget: no rule says what to keep\nhint: sapwood forget STORE_URL --keep-last 1",
    ("forget", "--keep-daily", "-1"): "forget: --keep-daily -1: less than nothing",
    ("forget", "#main", "--refs", "m*", "--keep-last", "1"): (
        "forget: {store}#main: --refs goes with a whole store\nhint: sapwood forget STORE_URL#REF --keep-last N"
    ),
    ("forget", "#main@sha256:" + "0" * 64, "--keep-last", "1"): (
        "forget: {store}#main@sha256:" + "0" * 64 + ": it is pinned\nhint: sapwood forget STORE_URL#REF --keep-last N"
    ),
    ("rm", "main@sha256:" + "0" * 64): (
        "{store}#main@sha256:" + "0" * 64 + ": pinned to one snapshot, and only a whole ref can be removed\n"
        "hint: sapwood rm {store}#main"
    ),
}


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_a_call_that_cannot_be_right_says_so(store: OpenStore, tmp_path: Path, words: tuple[str, ...]) -> None:
    said = Sapwood(tmp_path)(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err == "sapwood: " + USAGE[words].replace("{store}", store.url) + "\n"
