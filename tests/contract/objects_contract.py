"""What every place promises: `sapwood.store.base`. A kind of place is a subclass with a `place` fixture."""

from __future__ import annotations

import time

import pytest

from sapwood.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError, SapwoodError
from sapwood.store.base import CollectObjects, ReadObjects, Version, WriteObjects
from sapwood.store.objects import open_objects
from tests.support.racing import race
from tests.support.storeplaces import Place

DATA = bytes(range(256)) * 16


class ReadObjectsContract:
    """Reading."""

    @pytest.fixture
    def place(self) -> Place:
        raise NotImplementedError

    @pytest.fixture
    def objects(self, place: Place) -> ReadObjects:
        place.overwrite("packs/one", DATA)
        return open_objects(place.read_url)[0]

    def test_an_object_is_read_whole(self, objects: ReadObjects) -> None:
        assert objects.get("packs/one") == DATA

    def test_an_empty_object_is_read(self, place: Place, objects: ReadObjects) -> None:
        place.overwrite("packs/empty", b"")
        assert objects.get("packs/empty") == b""

    def test_an_object_is_there_or_not(self, objects: ReadObjects) -> None:
        assert objects.exists("packs/one")
        assert not objects.exists("packs/two")
        assert not objects.exists("packs")

    @pytest.mark.parametrize(("offset", "length"), [(0, 1), (0, 4096), (17, 300), (4095, 1), (0, 0), (4096, 0)])
    def test_a_range_is_read_exactly(self, objects: ReadObjects, offset: int, length: int) -> None:
        assert objects.get_range("packs/one", offset, length) == DATA[offset : offset + length]

    def test_ranges_come_in_the_order_asked(self, place: Place, objects: ReadObjects) -> None:
        large = DATA * 256  # a megabyte, so that some ranges are fetched together and some are not
        place.overwrite("packs/large", large)
        ranges = [(900_000, 100), (5, 10), (0, 0), (5, 10), (0, 4096), (500_000, 70_000), (1_048_575, 1), (7, 3)]
        assert objects.get_ranges("packs/large", ranges) == [large[begin : begin + size] for begin, size in ranges]

    def test_no_ranges_are_no_bytes(self, objects: ReadObjects) -> None:
        assert objects.get_ranges("packs/one", []) == []

    @pytest.mark.parametrize(
        "ranges", [[(4000, 97)], [(4096, 1)], [(1 << 40, 10)], [(0, 10), (4095, 2)], [(0, 1 << 50)]]
    )
    def test_a_range_past_the_end_is_damage_and_never_short(
        self, objects: ReadObjects, ranges: list[tuple[int, int]]
    ) -> None:
        with pytest.raises(CorruptError, match="packs/one") as cut:
            objects.get_ranges("packs/one", ranges)
        assert cut.value.kind == "object-short"

    @pytest.mark.parametrize(("offset", "length"), [(-1, 10), (10, -1), (1 << 63, 1), (1, (1 << 63) - 1), (1 << 70, 1)])
    def test_an_impossible_range_is_refused(self, objects: ReadObjects, offset: int, length: int) -> None:
        with pytest.raises(InvalidInputError) as refused:
            objects.get_range("packs/one", offset, length)
        assert refused.value.kind == "bad-range"

    def test_a_missing_object_is_named(self, objects: ReadObjects) -> None:
        for read in (objects.get, objects.read_versioned, lambda key: objects.get_range(key, 0, 10)):
            with pytest.raises(NotFoundError, match="packs/two") as missing:
                read("packs/two")
            assert missing.value.kind == "object-missing"
            assert objects.url in str(missing.value)
            assert "\n" not in str(missing.value)

    def test_a_folder_is_no_object(self, objects: ReadObjects) -> None:
        with pytest.raises(NotFoundError):
            objects.get("packs")

    def test_an_object_larger_than_any_of_ours_is_not_taken_into_memory(
        self, objects: ReadObjects, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("local", "remote"):
            monkeypatch.setattr(f"sapwood.store.{module}.LARGEST_OBJECT", len(DATA) - 1)
        with pytest.raises(CorruptError) as large:
            objects.get("packs/one")
        assert large.value.kind == "object-too-large"

    def test_the_version_changes_with_the_bytes(self, place: Place, objects: ReadObjects) -> None:
        data, version = objects.read_versioned("packs/one")
        assert data == DATA
        assert objects.read_versioned("packs/one") == (data, version)
        place.overwrite("packs/one", b"other")
        data, other = objects.read_versioned("packs/one")
        assert data == b"other"
        assert other != version

    def test_its_url_opens_it_again(self, objects: ReadObjects) -> None:
        assert open_objects(objects.url)[0].get("packs/one") == DATA


class WriteObjectsContract(ReadObjectsContract):
    """Writing, too."""

    @pytest.fixture
    def writer(self, place: Place) -> WriteObjects:
        writer = open_objects(place.url)[1]
        assert writer is not None
        return writer

    def test_what_was_put_is_there(self, place: Place, writer: WriteObjects) -> None:
        writer.put("packs/new", DATA)
        assert open_objects(place.url)[0].get("packs/new") == DATA

    def test_a_view_of_bytes_is_put(self, writer: WriteObjects) -> None:
        writer.put("packs/new", memoryview(DATA)[10:20])
        assert writer.get("packs/new") == DATA[10:20]

    def test_putting_again_is_harmless(self, writer: WriteObjects) -> None:
        writer.put("packs/new", DATA)
        writer.put("packs/new", DATA)
        assert writer.get("packs/new") == DATA

    def test_an_object_that_somebody_cut_short_is_healed_by_putting_it_again(
        self, place: Place, writer: WriteObjects
    ) -> None:
        place.overwrite("packs/new", DATA[:100])
        writer.put("packs/new", DATA)
        assert writer.get("packs/new") == DATA

    def test_many_put_the_same_object_at_once(self, writer: WriteObjects) -> None:
        assert race(16, lambda _: writer.put("packs/new", DATA)) == [None] * 16
        assert writer.get("packs/new") == DATA

    def test_a_listing_has_every_key_below_a_folder_and_no_other(self, writer: WriteObjects) -> None:
        for key in ("refs/b.ref", "refs/a/b.ref", "refs/a.ref", "refsnot/c.ref", "top"):
            writer.put(key, b"x")
        assert writer.list("refs") == ["refs/a.ref", "refs/a/b.ref", "refs/b.ref"]
        assert writer.list("nothing") == []

    def test_a_listing_of_more_than_one_page_is_whole(self, place: Place, writer: WriteObjects) -> None:
        keys = [f"index/{number:04}" for number in range(1100)]
        for key in keys:
            place.overwrite(key, b"")
        assert writer.list("index") == keys

    def test_a_place_is_empty_until_something_is_there(self, place: Place, writer: WriteObjects) -> None:
        assert writer.is_empty()
        place.overwrite("notes/not-ours.txt", b"mine")
        assert not writer.is_empty()

    def test_a_swap_from_the_state_seen_succeeds(self, writer: WriteObjects) -> None:
        first = writer.swap("refs/main.ref", b"one", None)
        assert writer.read_versioned("refs/main.ref") == (b"one", first)
        second = writer.swap("refs/main.ref", b"two", first)
        assert writer.read_versioned("refs/main.ref") == (b"two", second)

    def test_what_is_there_is_not_created_again(self, writer: WriteObjects) -> None:
        writer.swap("refs/main.ref", b"one", None)
        self.loses(writer, b"two", None)
        assert writer.get("refs/main.ref") == b"one"

    def test_a_swap_from_an_old_state_changes_nothing(self, writer: WriteObjects) -> None:
        first = writer.swap("refs/main.ref", b"one", None)
        writer.swap("refs/main.ref", b"two", first)
        self.loses(writer, b"three", first)
        assert writer.get("refs/main.ref") == b"two"

    def test_a_swap_of_what_is_gone_changes_nothing(self, place: Place, writer: WriteObjects) -> None:
        first = writer.swap("refs/main.ref", b"one", None)
        place.remove("refs/main.ref")
        self.loses(writer, b"two", first)
        assert not writer.exists("refs/main.ref")

    @pytest.mark.parametrize("created", [False, True])
    def test_of_sixteen_racing_swaps_one_succeeds(self, place: Place, created: bool) -> None:
        places = [self.writing(place) for _ in range(16)]
        expect = places[0].swap("refs/main.ref", b"before", None) if created else None
        outcomes = race(16, lambda number: places[number].swap("refs/main.ref", b"%d" % number, expect))
        winners = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, SapwoodError)]
        losses = [outcome for outcome in outcomes if isinstance(outcome, SapwoodError)]
        assert len(winners) == 1
        assert {(type(loss), loss.kind) for loss in losses} == {(ConflictError, "object-changed")}
        assert places[0].get("refs/main.ref") == b"%d" % winners[0]

    def test_a_listing_tells_size_and_time_by_one_clock(self, place: Place, writer: WriteObjects) -> None:
        collector = self.collecting(place)
        writer.put("packs/a/b", DATA)
        writer.put("packs/c", b"")
        place.overwrite("other/d", b"")
        listed = collector.listed("packs")
        assert [(entry.key, entry.size) for entry in listed] == [("packs/a/b", len(DATA)), ("packs/c", 0)]
        # Any clock, but one that moves with ours, and counts nanoseconds since 1970.
        assert all(abs(entry.modified_ns - time.time_ns()) < 3600e9 for entry in listed)
        assert collector.listed("nothing") == []

    def test_what_is_put_again_is_as_new_in_listings(self, place: Place, writer: WriteObjects) -> None:
        collector = self.collecting(place)
        writer.put("leases/one", DATA)
        first = collector.listed("leases")[0].modified_ns

        def put_again() -> int:
            writer.put("leases/one", DATA)
            return collector.listed("leases")[0].modified_ns

        assert next(modified for modified in iter(put_again, None) if modified > first)

    def test_what_was_deleted_is_gone(self, place: Place, writer: WriteObjects) -> None:
        writer.put("packs/one", DATA)
        writer.put("packs/one-more", DATA)
        self.collecting(place).delete("packs/one")
        assert not writer.exists("packs/one")
        assert writer.list("packs") == ["packs/one-more"]

    def test_deleting_what_is_absent_is_fine(self, place: Place, writer: WriteObjects) -> None:
        writer.put("packs/one", DATA)
        for key in ("packs/one", "packs/one", "packs/two", "nothing/three"):
            self.collecting(place).delete(key)
        assert writer.list("packs") == []

    def test_requests_are_counted_by_verb(self, place: Place) -> None:
        collector = self.collecting(place)
        assert collector.requests.so_far() == dict.fromkeys(("get", "put", "list", "head", "delete"), 0)
        collector.put("packs/one", DATA)
        collector.swap("refs/main.ref", DATA, None)
        collector.get_ranges("packs/one", [(0, 10), (20, 10)])
        collector.exists("packs/one")
        collector.list("packs")
        collector.listed("packs")
        collector.delete("packs/one")
        assert collector.requests.so_far() == {"get": 1, "put": 2, "list": 2, "head": 1, "delete": 1}

    @staticmethod
    def collecting(place: Place) -> CollectObjects:
        collector = open_objects(place.url)[2]
        assert collector is not None
        return collector

    @staticmethod
    def writing(place: Place) -> WriteObjects:
        writer = open_objects(place.url)[1]
        assert writer is not None
        return writer

    @staticmethod
    def loses(writer: WriteObjects, data: bytes, expect: Version | None) -> None:
        with pytest.raises(ConflictError, match=r"refs/main\.ref") as lost:
            writer.swap("refs/main.ref", data, expect)
        assert lost.value.kind == "object-changed"
        assert writer.url in str(lost.value)
