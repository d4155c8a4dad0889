"""Fixtures of several engines' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.buildgrid import buildgrid
from tests.support.cli import Sapwood
from tests.support.grid import Grid, Served
from tests.support.peers import free_port


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """A scheduler, with `sapwood serve` as its CAS; each may be killed and started again."""
    home = Sapwood(tmp_path_factory.mktemp("grid"))
    served = Served(f"127.0.0.1:{free_port()}", home)
    served.start()
    try:
        with buildgrid(served.where) as scheduler:
            yield Grid(scheduler, served)
    finally:
        served.end()
