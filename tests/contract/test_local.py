"""Places on a local file system."""

from __future__ import annotations

import pytest

from tests.contract.objects_contract import WriteObjectsContract
from tests.contract.store_contract import ListingStoreContract
from tests.support.storeplaces import LocalPlace, Place


class TestLocalObjects(WriteObjectsContract):
    @pytest.fixture
    def place(self, local_place: LocalPlace) -> Place:
        return local_place


class TestLocalStore(ListingStoreContract):
    @pytest.fixture
    def place(self, local_place: LocalPlace) -> Place:
        return local_place
