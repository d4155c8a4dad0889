"""Fixtures that several suites need: places that hold stores, and a cache of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import s3server
from tests.support.storeplaces import HttpPlace, LocalPlace, S3Place
from tests.support.webserver import serving


@pytest.fixture(autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache for this test: empty, and never that of whoever runs the tests."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SAPWOOD_CACHE", str(place))
    monkeypatch.delenv("SAPWOOD_STORE", raising=False)
    return place


@pytest.fixture
def local_place(tmp_path: Path) -> LocalPlace:
    """A directory that does not exist yet."""
    return LocalPlace(tmp_path / "store")


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The URL of a running S3 server."""
    with s3server.serving() as url:
        yield url


@pytest.fixture
def s3_place(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> S3Place:
    """A prefix in a new bucket, with the environment that reaches it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return S3Place.in_new_bucket(s3_url)


@pytest.fixture
def http_place(tmp_path: Path) -> Iterator[HttpPlace]:
    """A directory behind a web server."""
    root = tmp_path / "served"
    root.mkdir()
    with serving(root) as url:
        yield HttpPlace(root, url)
