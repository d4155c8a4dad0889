"""Fixtures that several suites need: places that hold stores, and a cache of the test's own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import gcsserver, peers, s3server
from tests.support.storeplaces import BucketPlace, HttpPlace, LocalPlace, S3Place
from tests.support.webserver import serving

# On a machine that is busy an example may take any time, and so may what it is drawn from.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache for this test: empty, and never that of whoever runs the tests."""
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SAPWOOD_CACHE", str(place))
    monkeypatch.setenv("SAPWOOD_CHANGES", str(tmp_path_factory.mktemp("changes")))
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


@pytest.fixture(scope="session")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running registry of images."""
    with peers.registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def nginx_place(tmp_path: Path) -> Iterator[HttpPlace]:
    """A directory behind nginx."""
    root, work = tmp_path / "served", tmp_path / "nginx"
    root.mkdir()
    work.mkdir()
    with peers.nginx(root, work) as url:
        yield HttpPlace(root, url)


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A running versitygw: the directory whose folders are its buckets, and its URL."""
    data = tmp_path_factory.mktemp("versitygw") / "data"
    data.mkdir()
    with peers.versitygw(data) as url:
        yield data, url


@pytest.fixture
def versitygw_place(versitygw: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    """A prefix in a new bucket of versitygw, with the environment that reaches it."""
    from obstore.store import S3Store

    data, url = versitygw
    bucket = f"test-{secrets.token_hex(6)}"
    (data / bucket).mkdir()
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", peers.KEYS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", peers.KEYS[1])
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    client = S3Store(bucket, prefix="some/prefix", client_options={"allow_http": True})
    return BucketPlace(f"s3://{bucket}/some/prefix", client)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running azurite."""
    with peers.azurite(tmp_path_factory.mktemp("azurite")) as url:
        yield url


@pytest.fixture
def azure_place(azurite: str, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    """A prefix in a new container of azurite, with the environment that reaches it."""
    from obstore.store import AzureStore

    container = f"test-{secrets.token_hex(6)}"
    peers.make_container(azurite, container)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", peers.ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", peers.ACCOUNT_KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", azurite)
    client = AzureStore(container, prefix="some/prefix", client_options={"allow_http": True})
    return BucketPlace(f"az://{container}/some/prefix", client)


@pytest.fixture
def gcs_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketPlace]:
    """A prefix in a bucket of the stub of Google's service, with the environment that reaches it."""
    from obstore.store import GCSStore

    with gcsserver.serving() as server:
        server.buckets["test-bucket"] = {}
        monkeypatch.setenv("GOOGLE_BASE_URL", server.url)
        monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "of-the-tests")
        client = GCSStore("test-bucket", prefix="some/prefix", client_options={"allow_http": True})
        yield BucketPlace("gs://test-bucket/some/prefix", client)
