"""Credentials are found where Amazon's tools find them, and again when a server refuses the old: versitygw checks."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sapwood.digests import SnapshotDigest
from sapwood.errors import DeniedError
from sapwood.store import Store, open_store
from tests.support import peers
from tests.support.snapshots import digest
from tests.support.storeplaces import BucketPlace

A = digest(SnapshotDigest, "A")
VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
             "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL")  # fmt: skip
OLD = ("old-key", "old-secret")
# A new secret is answered with 403, a new key with 404.
NEW = [("old-key", "new-secret"), ("new-key", "new-secret")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with nothing in it, and an environment without keys."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path / ".aws"


def keys(pair: tuple[str, str] = peers.KEYS) -> str:
    return f"aws_access_key_id = {pair[0]}\naws_secret_access_key = {pair[1]}\n"


def process(place: Path, said: str, code: int = 0) -> str:
    """Return the line of a profile whose keys a program prints."""
    program = f"import sys; print({said!r}); sys.exit({code})"
    return f"credential_process = {shlex.join([sys.executable, '-c', program])}\n"


@pytest.fixture
def place(versitygw_place: BucketPlace, versitygw: tuple[Path, str], home: Path) -> str:
    """The URL of a place that only a profile leads to."""
    return versitygw_place.url


def printed(**more: str) -> str:
    access, secret = peers.KEYS
    return json.dumps({"Version": 1, "AccessKeyId": access, "SecretAccessKey": secret, **more})


@pytest.mark.parametrize(
    ("profile", "credentials", "config"),
    [
        (None, lambda _: "[default]\n" + keys(), lambda _: ""),
        ("work", lambda _: "[default]\naws_access_key_id = x\n[work]\n" + keys(), lambda _: "[profile work]\n"),
        ("work", lambda _: "", lambda _: "[default]\n[profile work]\n" + keys()),
        ("work", lambda _: "", lambda place: "[profile work]\n" + process(place, printed())),
        (None, lambda _: "", lambda place: "[default]\n" + process(place, printed(Expiration="2040-01-01T00:00:00Z"))),
    ],
)
def test_a_profile_has_keys_region_and_endpoint(
    home: Path, place: str, versitygw: tuple[Path, str], monkeypatch: pytest.MonkeyPatch,
    profile: str | None, credentials: Callable[[Path], str], config: Callable[[Path], str],
) -> None:  # fmt: skip
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    (home / "credentials").write_text(credentials(home))
    (home / "config").write_text(config(home) or "[default]\n")
    with (home / "config").open("a") as file:
        file.write(f"region = us-east-1\nendpoint_url = {versitygw[1]}\n")
    assert open_store(place, create=True).refs() == []


def test_keys_of_the_environment_come_before_a_profile(
    home: Path, place: str, versitygw: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "credentials").write_text("[default]\n" + keys(("somebody", "else")))
    (home / "config").write_text(f"[default]\nregion = us-east-1\nendpoint_url = {versitygw[1]}\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", peers.KEYS[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", peers.KEYS[1])
    assert open_store(place, create=True).refs() == []


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (lambda _: "", "there is no such profile"),
        (lambda _: "[profile work]\nrole_arn = arn:aws:iam::1:role/x\n", "it has role_arn, which is not read here"),
        (lambda _: "[profile work]\nsso_session = x\n", "it has sso, which is not read here"),
        (lambda _: "[profile work]\nregion = us-east-1\n", "it has no keys"),
        (lambda _: "no section\n", "cannot be read"),
        (lambda place: "[profile work]\n" + process(place, printed(), 3), "its credential_process ended with 3"),
        (lambda place: "[profile work]\n" + process(place, "no"), "its credential_process printed no credentials"),
        (lambda _: "[profile work]\ncredential_process = /nowhere/x\n", "cannot be run: No such file or directory"),
    ],
)
def test_a_profile_that_leads_to_no_keys_is_said_with_where_they_were_looked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, config: Callable[[Path], str], says: str
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    (home / "config").write_text(config(home))
    with pytest.raises(DeniedError, match=says) as denied:
        open_store("s3://bucket/x")
    assert denied.value.kind == "profile-unusable"
    assert "s3://bucket/x: profile work: " in str(denied.value)
    assert str(home / "credentials") in str(denied.value)
    assert denied.value.hint is not None


@pytest.fixture
def opened(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, Path, int]:
    """A store that was opened with the old keys; the server that knew them is gone."""
    data, port = tmp_path / "data", peers.free_port()
    (data / "bucket").mkdir(parents=True)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    (home / "credentials").write_text("[default]\n" + keys(OLD))
    with peers.versitygw(data, port=port, keys=OLD):
        store = open_store("s3://bucket/x", create=True)
        store.move_ref("main", A, None)
        return store, data, port


@pytest.mark.parametrize("new", NEW)
def test_refused_credentials_are_read_anew_and_the_request_repeated(
    opened: tuple[Store, Path, int], home: Path, new: tuple[str, str]
) -> None:
    store, data, port = opened
    (home / "credentials").write_text("[default]\n" + keys(new))
    with peers.versitygw(data, port=port, keys=new):
        before = store.requests()
        moved = store.move_ref("main", A, store.read_ref("main"))
        assert store.read_ref("main") == moved
        # Once is enough, for what reads and what writes.
        asked = {verb: number - before[verb] for verb, number in store.requests().items()}
        assert asked == {"get": 3, "put": 1, "list": 0, "head": 0, "delete": 0}


@pytest.mark.parametrize("new", NEW)
def test_credentials_that_stay_refused_are_asked_for_once_more_only(
    opened: tuple[Store, Path, int], new: tuple[str, str]
) -> None:
    store, data, port = opened
    with peers.versitygw(data, port=port, keys=new):
        before = store.requests()["get"]
        with pytest.raises(DeniedError) as denied:
            store.read_ref("main")
        assert denied.value.kind == "store-denied"
        assert store.requests()["get"] == before + 2


@pytest.fixture
def azure_home(azure_place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a place that the environment does not lead to any more."""
    for name in ("ACCOUNT_NAME", "ACCOUNT_KEY", "ENDPOINT"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}")
    return azure_place.url


def test_a_connection_string_has_account_key_and_endpoint(
    azure_home: str, azurite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"AccountName={peers.ACCOUNT};AccountKey={peers.ACCOUNT_KEY};BlobEndpoint={azurite};"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"DefaultEndpointsProtocol=http;{said}")
    assert open_store(azure_home, create=True).refs() == []


def test_a_missing_account_is_said_with_what_was_tried(azure_home: str) -> None:
    with pytest.raises(DeniedError, match="AZURE_STORAGE_CONNECTION_STRING and AZURE_STORAGE_ACCOUNT_NAME") as denied:
        open_store(azure_home)
    assert denied.value.kind == "credentials-missing"
    assert denied.value.hint is not None


def test_a_wrong_key_of_an_account_is_denied(azure_place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(DeniedError) as denied:
        open_store(azure_place.url)
    assert denied.value.kind == "store-denied"
