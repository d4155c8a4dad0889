"""Refs and snapshots are spelt as docs/format.md says, and in one way only."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sapwood.digests import PackName, SnapshotDigest
from sapwood.errors import CorruptError, FormatError, InvalidInputError
from sapwood.store import Ref, Snapshot
from sapwood.store.base import Version
from sapwood.store.keys import ref_key, ref_name
from sapwood.store.record import Record, encode
from sapwood.store.ref import Removed, check_ref_name, is_ref_name
from tests.support.snapshots import digest, make_snapshot

A, B = digest(SnapshotDigest, "A"), digest(SnapshotDigest, "B")
COUNTS = st.integers(0, (1 << 63) - 1)
# What Python makes of any bytes in the environment or a path.
TEXTS = st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
PARTS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=20).filter(
    lambda part: part not in (".", "..") and not part.endswith(".ref")
)


def test_a_ref_is_spelt_as_the_format_says() -> None:
    ref = Ref("main", A, 7, "0123456789abcdef")
    assert ref.encode() == b'{"format":1,"snapshot":"%s","counter":7,"nonce":"0123456789abcdef"}' % A.encode()


def test_a_snapshot_is_spelt_as_the_format_says() -> None:
    snapshot = make_snapshot(packs=(PackName("0" * 64),), user="jörg", source="/\udcff", parent=A)
    assert snapshot.encode().decode() == (
        f'{{"format":1,"tree":"{snapshot.tree}","treeSize":152,"map":"{snapshot.map}","mapSize":300,"entries":3,'
        f'"bytes":3,"packs":["{"0" * 64}"],"created":"2024-02-29T12:00:00.5Z","user":"jörg","host":"build-7",'
        f'"source":"/\\udcff","parent":"{A}","program":"sapwood 0.1.0"}}'
    )
    assert snapshot.digest == digest(SnapshotDigest, snapshot.encode())


def test_the_first_snapshot_has_no_parent() -> None:
    assert b'"parent":null' in make_snapshot().encode()


@given(
    st.builds(
        make_snapshot,
        tree_size=COUNTS,
        map_size=COUNTS,
        entries=COUNTS,
        bytes=COUNTS,
        packs=st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex)).map(tuple),
        user=TEXTS,
        host=TEXTS,
        source=TEXTS,
        program=TEXTS,
        parent=st.none() | st.text().map(lambda text: digest(SnapshotDigest, text.encode("utf-8", "replace"))),
    )
)
def test_a_snapshot_is_read_as_it_was_written(snapshot: Snapshot) -> None:
    assert Snapshot.decode(snapshot.encode(), snapshot.digest, url="x") == snapshot


@given(COUNTS, st.binary(min_size=8, max_size=8).map(bytes.hex))
def test_a_ref_is_read_as_it_was_written(counter: int, nonce: str) -> None:
    ref = Ref("main", A, counter, nonce)
    assert Ref.decode("main", ref.encode(), Version("v"), url="x") == ref


@given(COUNTS, st.none() | st.just(B), st.lists(st.sampled_from([A, B]), max_size=3))
def test_a_ref_that_was_cut_is_read_as_it_was_written(
    counter: int, base: SnapshotDigest | None, kept: list[SnapshotDigest]
) -> None:
    ref = Ref("main", A, counter, "0" * 16, base=base, kept=tuple(kept))
    assert Ref.decode("main", ref.encode(), Version("v"), url="x") == ref
    assert ref.encode().startswith(b'{"format":2' if base or kept else b'{"format":1,')


def test_a_ref_that_was_removed_is_read_as_it_was_written() -> None:
    removed = Removed.next(Ref("main", A, 7, "0" * 16, base=A, kept=(B,)))
    assert removed.encode() == (
        b'{"format":2,"snapshot":null,"counter":8,"nonce":"%s","base":null,"kept":[]}' % removed.nonce.encode()
    )
    assert Ref.decode("main", removed.encode(), Version("v"), url="x") == removed


@pytest.mark.parametrize(
    "change",
    [{"base": None, "kept": []}, {"snapshot": None}, {"kept": None}, {"kept": [A[:-1]]}, {"base": "x"}, {"base": 1}],
    ids=str,
)
def test_a_ref_that_was_cut_has_one_spelling(change: dict[str, object]) -> None:
    fields = {"snapshot": A, "counter": 7, "nonce": "0" * 16, "base": A, "kept": [B]}
    with pytest.raises(CorruptError) as damaged:
        Ref.decode("main", encode({**fields, **change}, version=2), Version("v"), url="x")
    assert damaged.value.kind == "ref-corrupt"


def test_a_push_on_top_keeps_what_was_kept_and_after_a_removal_begins_anew() -> None:
    cut = Ref("main", A, 7, "0" * 16).cut([B])
    assert (cut.snapshot, cut.counter, cut.base, cut.kept) == (A, 8, A, (B,))
    pushed = Ref.next("main", B, cut)
    assert (pushed.snapshot, pushed.counter, pushed.base, pushed.kept) == (B, 9, A, (B,))
    again = Ref.next("main", A, Removed.next(pushed))
    assert (again.snapshot, again.counter, again.base, again.kept) == (A, 11, None, ())


def test_no_two_states_of_a_ref_have_the_same_bytes() -> None:
    states = [Ref.next("main", A, None) for _ in range(100)]
    assert len({state.encode() for state in states}) == 100
    after = Ref.next("main", A, states[0])
    assert after.counter == states[0].counter + 1
    assert after.nonce != states[0].nonce


@given(st.binary(max_size=300))
def test_rubbish_is_damage_and_nothing_else(data: bytes) -> None:
    with pytest.raises(CorruptError):
        Ref.decode("main", data, Version("v"), url="x")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)))
def test_a_record_with_any_format_is_read_refused_or_damaged(version: object) -> None:
    data = json.dumps({"format": version}).encode()
    if type(version) is int and version == 1:
        Record(data, "x", kind="ref-corrupt")
        return
    newer = type(version) is int and 1 < version < 1 << 63
    with pytest.raises(FormatError if newer else CorruptError):
        Record(data, "x", kind="ref-corrupt")


@given(st.lists(PARTS, min_size=1, max_size=6).map("/".join))
def test_a_name_is_found_again_in_its_key(name: str) -> None:
    assert check_ref_name(name) == name
    assert ref_name(ref_key(name)) == name


@given(st.lists(PARTS, min_size=1, max_size=3).map("/".join), st.lists(PARTS, min_size=1, max_size=3).map("/".join))
def test_no_ref_is_a_folder_of_another(one: str, other: str) -> None:
    assert not ref_key(other).startswith(ref_key(one) + "/")


@pytest.mark.parametrize(
    "name",
    ["", "/", "a/", "/a", "a//b", ".", "..", "a/./b", "a/../b", "a b", "a\n", "a\0", "ä", "a:b", "a@b", "a#b", "a\\b",
     "a.ref", "a.ref/b", ".ref", "x" * 201, "/".join(["x"] * 101)],
)  # fmt: skip
def test_what_cannot_be_a_refs_name_is_refused(name: str) -> None:
    assert not is_ref_name(name)
    with pytest.raises(InvalidInputError) as refused:
        check_ref_name(name)
    assert refused.value.kind == "bad-ref-name"
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["a", "...", "a.b", "-", "_", "v1.0", "refs", "A/b/C", "a.refs", "ref", "x" * 200])
def test_odd_names_are_names(name: str) -> None:
    assert is_ref_name(name)


def test_a_newer_format_is_said_before_any_damage() -> None:
    with pytest.raises(FormatError) as newer:
        Record(b'{"format":2,"snapshot":7}', "x: ref main", kind="ref-corrupt", ref="main")
    assert newer.value.kind == "format-newer"
    assert newer.value.ref == "main"


def test_bytes_that_are_no_text_have_one_spelling() -> None:
    assert encode({"source": "\udc80"}) == b'{"format":1,"source":"\\udc80"}'
    assert encode({"source": "\\udc80"}) == b'{"format":1,"source":"\\\\udc80"}'
