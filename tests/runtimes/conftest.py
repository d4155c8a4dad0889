"""Fixtures of the suite that hands images to the runtimes of others: a registry, the command, trees, skopeo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.conftest import hard, sapwood, spelled
from tests.support import peers, snapshotter

__all__ = ["hard", "sapwood", "spelled"]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running registry: its host and port."""
    with peers.registry(tmp_path_factory.mktemp("registry")) as at:
        yield at


@pytest.fixture(scope="session")
def program() -> Path:
    """The stargz-snapshotter's file system as a program."""
    return snapshotter.built()
