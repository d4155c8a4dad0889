"""What every store promises: `sapwood.store.store`. A kind of place is a subclass with a `place` fixture.

`store` writes; `reader` reads the same store afresh, perhaps by another way, with local state of its own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sapwood.digests import MapDigest, PackName, SnapshotDigest, TreeDigest
from sapwood.errors import (
    ConflictError,
    CorruptError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
)
from sapwood.profile import Profile, find_profile, keep_profile
from sapwood.store import Address, Ref, Store, open_store
from sapwood.store.record import encode
from tests.support.racing import race
from tests.support.snapshots import digest, make_snapshot
from tests.support.storeplaces import Place

A, B = (digest(SnapshotDigest, text) for text in "AB")
PACK, OTHER_PACK = (PackName(hashlib.sha256(text).hexdigest()) for text in (b"pack", b"other"))


class StoreContract:
    """Everything that a store does whose place can be read by name."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def store(self, place: Place) -> Store:
        return open_store(place.url, create=True)

    @pytest.fixture
    def reader(self, place: Place, store: Store, tmp_path: Path) -> Store:
        return open_store(place.read_url, cache_dir=tmp_path / "reader")

    # Profiles

    def test_a_profile_is_kept_and_of_racing_recorders_none_is_lost(self, store: Store, reader: Store) -> None:
        tree = digest(TreeDigest, "tree")
        runs = [
            Profile.of_run(tree, f"2026-01-0{day}T00:00:00Z", [(b"%d" % day, 0, [(0, 1)], [])]) for day in (1, 2, 3)
        ]
        assert find_profile(reader, "a/b", tree) is None
        race(len(runs), lambda number: keep_profile(store, "a/b", runs[number]))
        for ref in ("a/b", "another"):
            found = find_profile(reader, ref, tree)
            assert found is not None
            assert (found.runs, set(found.paths())) == (3, {b"1", b"2", b"3"})

    # The place

    def test_a_store_keeps_its_id(self, store: Store, reader: Store, place: Place) -> None:
        assert reader.id == store.id == open_store(place.url, create=True).id

    def test_its_url_opens_it_again(self, reader: Store) -> None:
        assert open_store(reader.url).id == reader.id

    def test_a_place_that_is_no_store_is_said_to_be_none(self, place: Place) -> None:
        with pytest.raises(InvalidInputError, match="not a store") as refused:
            open_store(place.read_url)
        assert refused.value.kind == "not-a-store"
        assert refused.value.hint is not None
        assert place.read_url in refused.value.hint

    def test_a_place_with_something_else_in_it_is_not_made_a_store(self, place: Place) -> None:
        place.overwrite("thesis.txt", b"all my work")
        with pytest.raises(InvalidInputError) as refused:
            open_store(place.url, create=True)
        assert refused.value.kind == "not-empty"

    def test_of_sixteen_that_create_a_store_all_get_the_same(self, place: Place) -> None:
        outcomes = race(16, lambda _: open_store(place.url, create=True).id)
        assert len(set(outcomes)) == 1
        assert open_store(place.url).id == outcomes[0]

    @pytest.mark.parametrize(
        "identity",
        [b"", b"{}", b"[1]", b'{"format":1}', b'{"format":0,"id":"00"}', b'{"format":"1"}', b"[" * 100_000, b"\xff",
         encode({"id": "../../../../etc"}), encode({"id": "0" * 32, "more": 1}), encode({"id": "0" * 32}, 2),
         encode({"id": "0" * 32, "grace": -1, "refs": "swap"}, 2),
         encode({"id": "0" * 32, "grace": 1, "refs": "any"}, 2)],
    )  # fmt: skip
    def test_a_damaged_identity_is_named(self, place: Place, store: Store, identity: bytes) -> None:
        place.overwrite("sapwood.json", identity)
        with pytest.raises(CorruptError, match=r"sapwood\.json") as damaged:
            open_store(place.read_url)
        assert damaged.value.kind == "store-corrupt"

    def test_a_store_of_the_first_format_is_read(self, place: Place, store: Store) -> None:
        place.overwrite("sapwood.json", encode({"id": store.id}))
        assert (open_store(place.read_url).id, open_store(place.read_url).grace_s) == (store.id, 86_400)

    def test_a_newer_store_is_refused(self, place: Place, store: Store) -> None:
        place.overwrite("sapwood.json", b'{"format":3,"id":"' + store.id.encode() + b'","colour":"green"}')
        with pytest.raises(FormatError, match="format 3") as newer:
            open_store(place.read_url)
        assert newer.value.kind == "format-newer"

    # Refs

    def test_a_ref_is_read_as_it_was_moved(self, store: Store, reader: Store) -> None:
        moved = store.move_ref("main", A, None)
        assert (moved.snapshot, moved.counter) == (A, 1)
        assert reader.read_ref("main") == moved
        again = store.move_ref("main", B, moved)
        assert (again.snapshot, again.counter) == (B, 2)
        assert reader.read_ref("main") == again

    def test_a_missing_ref_is_named(self, reader: Store) -> None:
        with pytest.raises(NotFoundError, match="main") as missing:
            reader.read_ref("main")
        assert missing.value.kind == "ref-missing"
        assert missing.value.hint == f"sapwood refs {reader.url}"

    @pytest.mark.parametrize(
        "name", ["../sapwood", "", "a//b", "/a", "a/", ".", "a/..", "a b", "a.ref/b", "ä", "a" * 201]
    )
    def test_what_is_no_name_is_refused(self, store: Store, reader: Store, name: str) -> None:
        with pytest.raises(InvalidInputError) as refused:
            reader.read_ref(name)
        assert refused.value.kind == "bad-ref-name"
        with pytest.raises(InvalidInputError):
            store.move_ref(name, A, None)

    def test_a_ref_may_begin_with_the_name_of_another(self, store: Store, reader: Store) -> None:
        names = ["a", "a/b", "a/b/c", "a.b", "index", "refs"]
        moved = {name: store.move_ref(name, A, None) for name in reversed(names)}
        assert {name: reader.read_ref(name) for name in names} == moved

    def test_the_longest_name_is_one(self, store: Store, reader: Store) -> None:
        store.move_ref("a" * 200, A, None)
        assert reader.read_ref("a" * 200).snapshot == A

    def test_the_writer_that_lost_the_race_changes_nothing(self, store: Store, reader: Store) -> None:
        old = store.move_ref("main", A, None)
        now = store.move_ref("main", B, old)
        with pytest.raises(ConflictError, match="main") as lost:
            store.move_ref("main", A, old)
        assert lost.value.kind == "ref-moved"
        assert lost.value.found == now
        assert reader.read_ref("main") == now

    def test_a_ref_is_created_once(self, store: Store, reader: Store) -> None:
        first = store.move_ref("main", A, None)
        with pytest.raises(ConflictError) as lost:
            store.move_ref("main", B, None)
        assert lost.value.kind == "ref-moved"
        assert reader.read_ref("main") == first

    def test_a_ref_that_is_gone_is_not_moved(self, store: Store, place: Place) -> None:
        old = store.move_ref("main", A, None)
        place.remove("refs/main.ref")
        with pytest.raises(ConflictError, match="gone") as lost:
            store.move_ref("main", B, old)
        assert lost.value.found is None

    def test_back_at_the_same_snapshot_is_not_the_same_state(self, store: Store, reader: Store) -> None:
        first = store.move_ref("main", A, None)
        third = store.move_ref("main", A, store.move_ref("main", B, first))
        with pytest.raises(ConflictError):
            store.move_ref("main", B, first)
        assert reader.read_ref("main") == third

    def test_a_state_of_one_ref_moves_no_other(self, store: Store) -> None:
        with pytest.raises(InvalidInputError):
            store.move_ref("other", B, store.move_ref("main", A, None))

    def test_of_sixteen_racing_movers_one_succeeds(self, store: Store, place: Place, reader: Store) -> None:
        old = store.move_ref("main", A, None)
        stores = [open_store(place.url) for _ in range(16)]
        targets = [digest(SnapshotDigest, str(number)) for number in range(16)]
        outcomes = race(16, lambda number: stores[number].move_ref("main", targets[number], old))
        winners = [outcome for outcome in outcomes if isinstance(outcome, Ref)]
        losses = [outcome for outcome in outcomes if isinstance(outcome, SapwoodError)]
        assert len(winners) == 1
        assert {loss.kind for loss in losses} == {"ref-moved"}
        assert reader.read_ref("main") == winners[0]

    def test_a_ref_that_was_removed_counts_as_missing_and_can_be_moved_on(self, store: Store, reader: Store) -> None:
        removed = store.remove_ref(store.move_ref("main", A, None))
        with pytest.raises(NotFoundError) as missing:
            reader.read_ref("main")
        assert missing.value.kind == "ref-missing"
        assert reader.ref_state("main") == removed
        with pytest.raises(ConflictError, match="removed") as lost:
            store.move_ref("main", B, None)
        assert lost.value.found == removed
        assert store.move_ref("main", B, removed).counter == 3
        assert reader.read_ref("main").snapshot == B

    def test_of_sixteen_racing_movers_and_removers_one_succeeds(self, store: Store, reader: Store) -> None:
        old = store.move_ref("main", A, None)
        calls = [
            lambda: store.move_ref("main", B, old),
            lambda: store.remove_ref(old),
            lambda: store.cut_ref(old, [B]),
        ]
        outcomes = race(16, lambda number: calls[number % 3]())
        losses = [outcome for outcome in outcomes if isinstance(outcome, SapwoodError)]
        assert {loss.kind for loss in losses} == {"ref-moved"}
        assert [outcome for outcome in outcomes if outcome not in losses] == [reader.ref_state("main")]

    @pytest.mark.parametrize("racers", [8])
    def test_no_move_is_lost_when_all_retry(self, store: Store, place: Place, reader: Store, racers: int) -> None:
        store.move_ref("main", A, None)

        def move(number: int) -> int:
            own, tries = open_store(place.url), 0
            while True:
                tries += 1
                try:
                    own.move_ref("main", B, own.read_ref("main"))
                    return tries
                except ConflictError:
                    assert tries < 1000

        race(racers, move)
        assert reader.read_ref("main").counter == 1 + racers

    @pytest.mark.parametrize(
        "damaged",
        [
            b"",
            b"null",
            b"\x00" * 100,
            encode({"snapshot": A, "counter": 1}),
            encode({"snapshot": A, "counter": -1, "nonce": "0" * 16}),
            encode({"snapshot": A, "counter": True, "nonce": "0" * 16}),
            encode({"snapshot": A, "counter": 1, "nonce": "0" * 15}),
            encode({"snapshot": A[:-1], "counter": 1, "nonce": "0" * 16}),
            encode({"snapshot": A.upper(), "counter": 1, "nonce": "0" * 16}),
            encode({"snapshot": A, "counter": 1, "nonce": "0" * 16}) + b"\n",
            encode({"counter": 1, "snapshot": A, "nonce": "0" * 16}),
        ],
    )
    def test_a_damaged_ref_is_named(self, place: Place, store: Store, reader: Store, damaged: bytes) -> None:
        place.overwrite("refs/main.ref", damaged)
        with pytest.raises(CorruptError, match="ref main is damaged") as found:
            reader.read_ref("main")
        assert found.value.kind == "ref-corrupt"
        assert (found.value.ref, found.value.store) == ("main", reader.url)

    def test_a_newer_ref_is_refused(self, place: Place, store: Store, reader: Store) -> None:
        place.overwrite("refs/main.ref", b'{"format":3,"target":"elsewhere"}')
        with pytest.raises(FormatError, match="ref main has format 3") as newer:
            reader.read_ref("main")
        assert newer.value.kind == "format-newer"

    # Snapshots

    def test_a_snapshot_is_read_as_it_was_written(self, store: Store, reader: Store) -> None:
        snapshot = make_snapshot(source="/home/jörg/\udcff", packs=(PACK,))
        written = store.write_snapshot(snapshot)
        assert written == snapshot.digest
        assert reader.read_snapshot(written) == snapshot

    def test_a_missing_snapshot_is_named(self, reader: Store) -> None:
        with pytest.raises(NotFoundError, match=A[:19]) as missing:
            reader.read_snapshot(A)
        assert missing.value.kind == "snapshot-missing"

    def test_a_snapshot_with_one_bit_flipped_is_named(self, place: Place, store: Store, reader: Store) -> None:
        snapshot = make_snapshot()
        written = store.write_snapshot(snapshot)
        data = bytearray(snapshot.encode())
        data[len(data) // 2] ^= 1
        place.overwrite(f"snapshots/{written.removeprefix('sha256:')}.json", bytes(data))
        with pytest.raises(CorruptError, match=written[:19]) as damaged:
            reader.read_snapshot(written)
        assert (damaged.value.kind, damaged.value.digest) == ("snapshot-corrupt", written)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("tree", "x"), ("treeSize", -1), ("map", None), ("packs", ["../x"]), ("packs", "x"), ("created", "today"),
         ("parent", 7), ("user", 1), ("entries", 1.5), ("bytes", 1 << 63), ("extra", 1)],
    )  # fmt: skip
    def test_a_snapshot_that_says_nonsense_is_named(
        self, place: Place, store: Store, reader: Store, field: str, value: object
    ) -> None:
        data = json.dumps({**json.loads(make_snapshot().encode()), field: value}, separators=(",", ":")).encode()
        written = digest(SnapshotDigest, data)
        place.overwrite(f"snapshots/{written.removeprefix('sha256:')}.json", data)
        with pytest.raises(CorruptError, match=written[:19]) as damaged:
            reader.read_snapshot(written)
        assert damaged.value.kind == "snapshot-corrupt"

    def test_a_newer_snapshot_is_refused(self, place: Place, store: Store, reader: Store) -> None:
        data = b'{"format":3,"trees":[]}'
        written = digest(SnapshotDigest, data)
        place.overwrite(f"snapshots/{written.removeprefix('sha256:')}.json", data)
        with pytest.raises(FormatError, match="format 3"):
            reader.read_snapshot(written)

    def test_the_history_goes_from_the_newest_to_the_first(self, store: Store, reader: Store) -> None:
        first = make_snapshot(source="first")
        second = make_snapshot(source="second", parent=store.write_snapshot(first))
        ref = store.move_ref("main", store.write_snapshot(second), None)
        assert list(reader.history(ref)) == [second, first]
        assert list(reader.history(reader.read_snapshot(ref.snapshot))) == [second, first]

    def test_a_history_that_breaks_off_says_where(self, store: Store, reader: Store) -> None:
        snapshot = make_snapshot(parent=A)
        history = reader.history(store.move_ref("main", store.write_snapshot(snapshot), None))
        assert next(history) == snapshot
        with pytest.raises(NotFoundError, match=A[:19]):
            next(history)

    def test_what_was_before_a_snapshot_ends_where_it_was_collected(self, store: Store, reader: Store) -> None:
        first = make_snapshot(parent=A)
        second = make_snapshot(parent=store.write_snapshot(first))
        assert list(reader.history(second)) == [second, first]

    def test_a_history_that_was_cut_has_what_came_after_and_what_is_kept(self, store: Store, reader: Store) -> None:
        line = [make_snapshot(source="0", parent=A)]
        for number in range(1, 6):
            line.append(make_snapshot(source=str(number), parent=store.write_snapshot(line[-1])))
        ref = store.move_ref("main", store.write_snapshot(line[-1]), store.move_ref("main", A, None))
        ref = store.cut_ref(ref, [line[3].digest, line[0].digest])
        assert (ref.snapshot, ref.counter) == (line[5].digest, 3)
        assert list(reader.history(reader.read_ref("main"))) == [line[5], line[3], line[0]]
        newest = make_snapshot(source="new", parent=line[5].digest)
        store.move_ref("main", store.write_snapshot(newest), ref)
        assert list(reader.history(reader.read_ref("main"))) == [newest, line[5], line[3], line[0]]

    def test_a_tag_has_no_history_but_its_snapshot(self, store: Store, reader: Store) -> None:
        first = make_snapshot(parent=A)
        ref = store.tag_ref("v1", store.write_snapshot(first), None)
        assert list(reader.history(ref)) == [first]
        second = make_snapshot(parent=first.digest)
        store.move_ref("v1", store.write_snapshot(second), ref)
        assert list(reader.history(reader.read_ref("v1"))) == [second, first]

    def test_an_address_leads_to_its_snapshot(self, store: Store, reader: Store) -> None:
        snapshot = make_snapshot()
        ref = store.move_ref("main", store.write_snapshot(snapshot), None)
        opened, found, meant = Address.parse(f"{reader.url}#main").open()
        assert (opened.id, found, meant) == (store.id, ref, snapshot)

    def test_a_pinned_address_stays_when_its_ref_moves(self, store: Store, reader: Store) -> None:
        snapshot = make_snapshot()
        ref = store.move_ref("main", store.write_snapshot(snapshot), None)
        store.move_ref("main", A, ref)
        opened, found, meant = Address.parse(f"{reader.url}#main@{snapshot.digest}").open()
        assert (opened.id, found, meant) == (store.id, None, snapshot)

    # Packs and file maps

    def test_ranges_of_a_pack_are_read(self, store: Store, reader: Store) -> None:
        store.put_pack(PACK, memoryview(b"0123456789" * 1000))
        assert reader.read_ranges(PACK, [(9990, 10), (3, 4)]) == [b"0123456789", b"3456"]

    def test_a_missing_pack_is_named(self, reader: Store) -> None:
        with pytest.raises(NotFoundError, match=PACK[:12]) as missing:
            reader.read_ranges(PACK, [(0, 1)])
        assert (missing.value.kind, missing.value.pack) == ("pack-missing", PACK)

    def test_a_pack_cut_short_is_named(self, store: Store, reader: Store) -> None:
        store.put_pack(PACK, b"0123456789")
        with pytest.raises(CorruptError, match=PACK) as cut:
            reader.read_ranges(PACK, [(5, 6)])
        assert cut.value.kind == "object-short"

    def test_a_file_map_is_read_as_it_was_put(self, store: Store, reader: Store) -> None:
        name = digest(MapDigest, "text")
        store.put_map(name, b"compressed")
        assert reader.read_map(name) == b"compressed"

    def test_a_missing_file_map_is_named(self, reader: Store) -> None:
        name = digest(MapDigest, "text")
        with pytest.raises(NotFoundError, match=name[:19]) as missing:
            reader.read_map(name)
        assert missing.value.kind == "map-missing"


class ListingStoreContract(StoreContract):
    """What needs listings as well."""

    def test_the_refs_are_listed_by_name(self, store: Store, reader: Store) -> None:
        assert reader.refs() == []
        moved = [store.move_ref(name, A, None) for name in ("a", "a/b", "b")]
        store.remove_ref(store.move_ref("gone", A, None))
        assert reader.refs() == moved

    def test_what_is_no_ref_is_not_listed(self, place: Place, store: Store, reader: Store) -> None:
        place.overwrite("refs/README", b"hello")
        place.overwrite("refs/a b.ref", b"hello")
        assert reader.refs() == []

    def test_a_damaged_ref_is_named_in_a_listing(self, place: Place, store: Store, reader: Store) -> None:
        place.overwrite("refs/main.ref", b"{")
        with pytest.raises(CorruptError, match="ref main"):
            reader.refs()

    def test_a_damaged_ref_hides_no_other(self, place: Place, store: Store, reader: Store) -> None:
        moved = [store.move_ref(name, A, None) for name in ("a", "b", "c", "d")]
        place.overwrite("refs/b.ref", b"{")
        place.overwrite("refs/d.ref", b'{"format":3}')
        refs, wrong = reader.sound_refs()
        assert refs == [moved[0], moved[2]]
        assert [(error.kind, error.ref) for error in wrong] == [("ref-corrupt", "b"), ("format-newer", "d")]

    def test_fragments_of_others_are_fetched_once(self, place: Place, store: Store, reader: Store) -> None:
        store.put_fragment(b"one")
        store.put_fragment(b"two")
        assert sorted(reader.fragments()) == [b"one", b"two"]
        # Fetched again they would be found damaged.
        for data in (b"one", b"two"):
            place.overwrite(f"index/{hashlib.sha256(data).hexdigest()}.frag", b"damaged")
        assert sorted(reader.fragments()) == [b"one", b"two"]

    def test_a_damaged_fragment_is_named(self, place: Place, store: Store, reader: Store) -> None:
        name = hashlib.sha256(b"one").hexdigest()
        place.overwrite(f"index/{name}.frag", b"two")
        with pytest.raises(CorruptError, match=name) as damaged:
            reader.fragments()
        assert damaged.value.kind == "fragment-corrupt"
        assert damaged.value.hint is not None

    def test_a_damaged_copy_is_fetched_again(self, store: Store, cache_dir: Path) -> None:
        store.put_fragment(b"one")
        assert store.fragments() == [b"one"]
        for copy in cache_dir.rglob("*.frag"):
            copy.write_bytes(b"rubbish")
        assert store.fragments() == [b"one"]

    def test_a_fragment_that_was_collected_is_forgotten(self, place: Place, store: Store, cache_dir: Path) -> None:
        store.put_fragment(b"one")
        assert store.fragments() == [b"one"]
        place.remove(f"index/{hashlib.sha256(b'one').hexdigest()}.frag")
        assert store.fragments() == []
        assert list(cache_dir.rglob("*.frag")) == []

    def test_what_is_no_fragment_is_left_alone(self, place: Place, store: Store) -> None:
        place.overwrite("index/README", b"hello")
        assert store.fragments() == []

    def test_what_an_unfinished_push_sent_is_known_to_the_next(self, store: Store, place: Place) -> None:
        store.put_pack(PACK, b"pack")
        store.keep_pending(PACK, b"what is in it")
        again = open_store(place.url)
        assert again.pending() == {PACK: b"what is in it"}
        assert again.fragments() == []

    def test_a_pending_fragment_whose_pack_is_gone_is_dropped(
        self, store: Store, place: Place, cache_dir: Path
    ) -> None:
        store.put_pack(PACK, b"pack")
        store.keep_pending(PACK, b"what is in it")
        place.remove(f"packs/{PACK}.tar.zst")
        assert store.pending() == {}
        assert list(cache_dir.rglob("*.frag")) == []

    def test_a_finished_push_clears_its_own_packs_only(self, store: Store) -> None:
        for pack in (PACK, OTHER_PACK):
            store.put_pack(pack, b"pack")
            store.keep_pending(pack, b"what is in it")
        store.put_fragment(b"all")
        store.clear_pending([PACK])
        assert store.pending() == {OTHER_PACK: b"what is in it"}
        assert store.fragments() == [b"all"]
        store.clear_pending([PACK, OTHER_PACK])
        assert store.pending() == {}
