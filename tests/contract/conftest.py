"""Explain failed assertions of the contracts as those of tests."""

import pytest

pytest.register_assert_rewrite("tests.contract.objects_contract", "tests.contract.store_contract")
