"""Places behind a plain web server: read by name, neither listed nor written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sapwood.digests import MapDigest, PackName, SnapshotDigest
from sapwood.errors import InvalidInputError
from sapwood.store import Store, open_store
from sapwood.upkeep.sources import open_source
from tests.contract.objects_contract import ReadObjectsContract
from tests.contract.store_contract import StoreContract
from tests.support.snapshots import digest, make_snapshot
from tests.support.storeplaces import HttpPlace, Place


class TestHttpObjects(ReadObjectsContract):
    @pytest.fixture
    def place(self, http_place: HttpPlace) -> Place:
        return http_place


class TestNginxObjects(ReadObjectsContract):
    @pytest.fixture
    def place(self, nginx_place: HttpPlace) -> Place:
        return nginx_place


class TestNginxStore(StoreContract):
    @pytest.fixture
    def place(self, nginx_place: HttpPlace) -> Place:
        return nginx_place


class TestHttpStore(StoreContract):
    @pytest.fixture
    def place(self, http_place: HttpPlace) -> Place:
        return http_place

    @pytest.mark.parametrize("listing", [Store.refs, Store.fragments])
    def test_a_listing_is_refused_with_a_remedy(self, reader: Store, listing: Callable[[Store], object]) -> None:
        with pytest.raises(InvalidInputError, match="cannot be listed") as refused:
            listing(reader)
        assert refused.value.kind == "cannot-list"
        assert refused.value.hint is not None

    def test_it_cannot_be_the_copy_that_another_is_repaired_from(self, reader: Store) -> None:
        with pytest.raises(InvalidInputError, match="cannot be listed") as refused:
            open_source(reader.url)
        assert refused.value.kind == "cannot-list"

    @pytest.mark.parametrize(
        "write",
        [
            lambda store: store.move_ref("main", digest(SnapshotDigest, "A"), None),
            lambda store: store.write_snapshot(make_snapshot()),
            lambda store: store.put_pack(PackName("0" * 64), b""),
            lambda store: store.put_map(digest(MapDigest, "map"), b""),
            lambda store: store.put_fragment(b""),
            lambda store: open_store(f"{store.url}/elsewhere", create=True),
        ],
    )
    def test_a_write_is_refused_with_a_remedy(self, reader: Store, write: Callable[[Store], object]) -> None:
        with pytest.raises(InvalidInputError, match="can only be read") as refused:
            write(reader)
        assert refused.value.kind == "read-only-store"
        assert refused.value.hint is not None
