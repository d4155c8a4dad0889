"""Places follow the environment as it is when they are asked for."""

from pathlib import Path

import pytest

from sapwood import places

VARIABLES = ("SAPWOOD_CACHE", "SAPWOOD_STORE", "XDG_CACHE_HOME", "XDG_DATA_HOME")
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*VARIABLES, *ENDPOINTS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_places_are_below_home_when_nothing_is_said(home: Path) -> None:
    assert places.cache_dir() == home / ".cache/sapwood"
    assert places.default_store() == f"{home}/.local/share/sapwood/store"
    assert places.s3_endpoint() is None


def test_the_xdg_base_directories_come_before_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert places.cache_dir() == Path("/caches/sapwood")
    assert places.default_store() == "/data/sapwood/store"


def test_a_relative_base_directory_is_ignored_as_xdg_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert places.cache_dir() == home / ".cache/sapwood"


def test_sapwoods_own_variables_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"/{name}")
    assert places.cache_dir() == Path("/SAPWOOD_CACHE")
    assert places.default_store() == "/SAPWOOD_STORE"


def test_the_default_store_may_be_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAPWOOD_STORE", "s3://bucket/trees")
    assert places.default_store() == "s3://bucket/trees"


def test_the_endpoint_for_s3_alone_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in reversed(ENDPOINTS):
        monkeypatch.setenv(name, f"http://{name}")
        assert places.s3_endpoint() == f"http://{name}"
