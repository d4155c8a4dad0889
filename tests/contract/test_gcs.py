"""Places in a bucket of Google Cloud Storage: a stub of its XML API."""

from __future__ import annotations

import pytest

from sapwood.errors import NotFoundError
from sapwood.store import open_store
from tests.contract.objects_contract import WriteObjectsContract
from tests.contract.store_contract import ListingStoreContract
from tests.support.storeplaces import BucketPlace, Place


class TestGcsObjects(WriteObjectsContract):
    @pytest.fixture
    def place(self, gcs_place: BucketPlace) -> Place:
        return gcs_place


class TestGcsStore(ListingStoreContract):
    @pytest.fixture
    def place(self, gcs_place: BucketPlace) -> Place:
        return gcs_place

    @pytest.mark.parametrize("create", [False, True])
    def test_a_missing_bucket_is_named(self, gcs_place: BucketPlace, create: bool) -> None:
        with pytest.raises(NotFoundError, match="there is no such bucket") as missing:
            open_store(gcs_place.elsewhere, create=create)
        assert missing.value.kind == "bucket-missing"
