"""Tests that take root: an ordinary user goes without them, and CI, which is to have all parts, fails without it."""

from __future__ import annotations

import os

import pytest

__all__ = ["takes_root"]


def takes_root(why: str) -> pytest.MarkDecorator:
    """Skip what cannot be done, but not where `.ci/run` runs the tests."""
    return pytest.mark.skipif(os.geteuid() != 0 and "SAPWOOD_CI" not in os.environ, reason=why)
