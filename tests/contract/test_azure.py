"""Places in a container of Azure Blob Storage: azurite."""

from __future__ import annotations

import pytest

from sapwood.errors import NotFoundError
from sapwood.store import open_store
from tests.contract.objects_contract import WriteObjectsContract
from tests.contract.store_contract import ListingStoreContract
from tests.support.storeplaces import BucketPlace, Place


class TestAzureObjects(WriteObjectsContract):
    @pytest.fixture
    def place(self, azure_place: BucketPlace) -> Place:
        return azure_place


class TestAzureStore(ListingStoreContract):
    @pytest.fixture
    def place(self, azure_place: BucketPlace) -> Place:
        return azure_place

    @pytest.mark.parametrize("create", [False, True])
    def test_a_missing_bucket_is_named(self, azure_place: BucketPlace, create: bool) -> None:
        with pytest.raises(NotFoundError, match="there is no such bucket") as missing:
            open_store(azure_place.elsewhere, create=create)
        assert missing.value.kind == "bucket-missing"
