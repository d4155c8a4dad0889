"""Explain failed assertions of the contracts as those of tests."""

import pytest

pytest.register_assert_rewrite(*(f"tests.contract.{name}_contract" for name in ("mount", "objects", "store")))
