"""Places in a bucket that speaks S3: of moto, which believes any signature, and of versitygw, which believes none."""

from __future__ import annotations

import pytest

from sapwood.errors import NotFoundError
from sapwood.store import open_store
from tests.contract.objects_contract import WriteObjectsContract
from tests.contract.store_contract import ListingStoreContract
from tests.support.storeplaces import BucketPlace, Place, S3Place


class TestS3Objects(WriteObjectsContract):
    @pytest.fixture
    def place(self, s3_place: S3Place) -> Place:
        return s3_place


class TestS3Store(ListingStoreContract):
    @pytest.fixture
    def place(self, s3_place: S3Place) -> Place:
        return s3_place

    @pytest.mark.parametrize("create", [False, True])
    def test_a_missing_bucket_is_named(self, s3_place: S3Place, create: bool) -> None:
        with pytest.raises(NotFoundError, match="s3://nobody-has-this/x: there is no such bucket") as missing:
            open_store("s3://nobody-has-this/x", create=create)
        assert missing.value.kind == "bucket-missing"

    def test_a_whole_bucket_is_a_store(self, s3_place: S3Place) -> None:
        store = open_store(f"s3://{s3_place.bucket}", create=True)
        assert store.url == f"s3://{s3_place.bucket}"
        assert open_store(f"s3://{s3_place.bucket}/").id == store.id


class TestVersitygwObjects(WriteObjectsContract):
    @pytest.fixture
    def place(self, versitygw_place: BucketPlace) -> Place:
        return versitygw_place


class TestVersitygwStore(ListingStoreContract):
    @pytest.fixture
    def place(self, versitygw_place: BucketPlace) -> Place:
        return versitygw_place

    @pytest.mark.parametrize("create", [False, True])
    def test_a_missing_bucket_is_named(self, versitygw_place: BucketPlace, create: bool) -> None:
        with pytest.raises(NotFoundError, match="there is no such bucket") as missing:
            open_store(versitygw_place.elsewhere, create=create)
        assert missing.value.kind == "bucket-missing"
