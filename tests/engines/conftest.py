"""Fixtures of several engines' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.buildgrid import buildgrid
from tests.support.cli import Sapwood
from tests.support.engines import serving
from tests.support.grid import Grid


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """A scheduler, which may be killed and started again, and `sapwood serve` as its CAS."""
    home = Sapwood(tmp_path_factory.mktemp("grid"))
    with serving(home) as served, buildgrid(served.where) as scheduler:
        yield Grid(scheduler, served.where, home, served)
