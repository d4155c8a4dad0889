"""Addresses say which store, which ref, and which snapshot; what is none is refused with a remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sapwood.digests import SnapshotDigest
from sapwood.errors import InvalidInputError
from sapwood.store import Address, open_store
from sapwood.store.objects import open_objects
from sapwood.store.remote import RemoteObjects
from tests.support.snapshots import digest, make_snapshot

PIN = digest(SnapshotDigest, "A")


@pytest.mark.parametrize(
    ("text", "store_url", "ref", "pin"),
    [
        ("/srv/store#main", "/srv/store", "main", None),
        ("./store#a/b-1.0_x", "./store", "a/b-1.0_x", None),
        ("store#main", "store", "main", None),
        ("file:///srv/store#main", "file:///srv/store", "main", None),
        ("s3://bucket/prefix#main", "s3://bucket/prefix", "main", None),
        ("https://host:8443/x#main", "https://host:8443/x", "main", None),
        ("/odd#name/store#main", "/odd#name/store", "main", None),
        ("/user@host/store#main", "/user@host/store", "main", None),
        ("/store.tar.gz#main", "/store.tar.gz", "main", None),
        (f"s3://bucket#main@{PIN}", "s3://bucket", "main", PIN),
    ],
)
def test_an_address_is_read(text: str, store_url: str, ref: str, pin: SnapshotDigest | None) -> None:
    address = Address.parse(text)
    assert address == Address(store_url, ref, pin)
    assert str(address) == text
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "pin"), [("main", None), ("#main", None), (f"main@{PIN}", PIN), (f"#main@{PIN}", PIN)]
)
def test_a_bare_ref_is_one_of_the_default_store(
    text: str, pin: SnapshotDigest | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAPWOOD_STORE", "/srv/mine")
    assert Address.parse(text) == Address("/srv/mine", "main", pin)


def test_a_bare_ref_leads_to_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAPWOOD_STORE", str(tmp_path / "mine"))
    store = open_store(str(tmp_path / "mine"), create=True)
    ref = store.move_ref("main", store.write_snapshot(make_snapshot()), None)
    opened, found, snapshot = Address.parse("main").open()
    assert (opened.url, found, snapshot) == (store.url, ref, make_snapshot())


@pytest.mark.parametrize(
    ("text", "kind", "hint"),
    [
        ("oci://host/repo:tag", "not-supported", "sapwood push"),
        ("oci://host/repo#x", "not-supported", "sapwood push oci://host/repo#x STORE_URL#REF"),
        ("image.tar.gz", "not-supported", "sapwood push image.tar.gz STORE_URL#REF"),
        ("/srv/image.tar.zst", "not-supported", "sapwood push /srv/image.tar.zst STORE_URL#REF"),
        ("https://host/image.tgz", "not-supported", "sapwood push https://host/image.tgz STORE_URL#REF"),
        ("/srv/store", "bad-address", "/srv/store#main"),
        ("./store", "bad-address", "./store#main"),
        ("s3://bucket/prefix", "bad-address", "s3://bucket/prefix#main"),
        ("/srv/store#", "bad-address", "/srv/store#main"),
        ("", "bad-address", "#main"),
        ("#", "bad-address", "#main"),
        (f"@{PIN}", "bad-address", "#main"),
        ("/srv/store#../x", "bad-ref-name", "1 to 200"),
        ("/srv/store#a b", "bad-ref-name", "1 to 200"),
        ("/srv/store#main@", "bad-digest", "64 hex"),
        ("/srv/store#main@sha256:12", "bad-digest", "64 hex"),
        ("main@latest", "bad-digest", "64 hex"),
    ],
)
def test_what_is_no_address_is_refused_with_a_remedy(text: str, kind: str, hint: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Address.parse(text)
    assert refused.value.kind == kind
    assert refused.value.hint is not None
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("", "bad-store-url"),
        ("a\0b", "bad-store-url"),
        ("file://", "bad-store-url"),
        ("file://elsewhere/srv", "bad-store-url"),
        ("s3://", "bad-store-url"),
        ("s3:///prefix", "bad-store-url"),
        ("s3://bucket/a/../b", "bad-store-url"),
        ("s3://bucket/a//b", "bad-store-url"),
        ("http://", "bad-store-url"),
        ("http://host/?x=1", "bad-store-url"),
        ("http://[bad", "bad-store-url"),
        ("https://ann:secret@host/x", "bad-store-url"),
        ("ftp://host/x", "store-kind-unknown"),
    ],
)
def test_what_is_no_stores_url_is_refused_with_what_is_one(url: str, kind: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        open_objects(url)
    assert refused.value.kind == kind
    assert "s3://bucket/prefix" in str(refused.value.hint)
    assert "secret" not in str(refused.value)


def test_all_spellings_of_a_path_are_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    identity = open_store("a store", create=True).id
    for url in ("./a store", str(tmp_path / "a store"), f"file://{tmp_path}/a%20store", "a store/", "./x/../a store"):
        store = open_store(url)
        assert (store.id, store.url) == (identity, str(tmp_path / "a store"))


def test_a_local_store_does_without_obstore() -> None:
    code = """
import sys, tempfile
from sapwood.store import open_store
with tempfile.TemporaryDirectory() as place:
    open_store(place, create=True, cache_dir=None).refs()
print([name for name in sys.modules if name.startswith("obstore")])
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "[]"


def test_an_unencrypted_endpoint_is_used_only_where_its_url_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def options(*, allow_http: bool, **_: object) -> dict[str, bool]:
        asked.append(allow_http)
        return {"allow_http": allow_http}

    monkeypatch.setattr("sapwood.store.attempts.client_options", options)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "somebody")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "anything")
    for variable, place in (
        ("AWS_ENDPOINT_URL", "s3://bucket/x"),
        ("GOOGLE_BASE_URL", "gs://bucket/x"),
        ("AZURE_STORAGE_ENDPOINT", "az://bucket/x"),
    ):
        for endpoint in ("https://server.example", "http://127.0.0.1:9"):
            monkeypatch.setenv(variable, endpoint)
            objects = open_objects(place)[0]
            assert isinstance(objects, RemoteObjects)
            objects.client()
    assert asked == [False, True] * 3
