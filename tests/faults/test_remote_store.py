"""Remote stores when servers refuse, fail, cut off, say nothing, or lose replies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from sapwood.digests import SnapshotDigest
from sapwood.errors import (
    ConflictError,
    CorruptError,
    DeniedError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    UnavailableError,
)
from sapwood.store import attempts, open_store
from sapwood.store.http import HttpObjects
from sapwood.store.remote import RemoteObjects
from sapwood.store.s3 import S3Objects
from tests.support.badserver import Reply, replying, send, status, through
from tests.support.snapshots import digest
from tests.support.storeplaces import S3Place

A, B = (digest(SnapshotDigest, text) for text in "AB")
PYTHON = Path(__file__).resolve().parents[2] / "python"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try each request twice only, the second time soon."""
    monkeypatch.setattr(attempts, "ATTEMPTS", 2)
    monkeypatch.setattr(attempts, "FIRST_PAUSE_OF_THE_BUSY_S", 0.1)


def fails(objects: RemoteObjects, expected: type[SapwoodError], kind: str) -> SapwoodError:
    """Read from a place that does not let itself be read; return the error, which is fit for people."""
    with pytest.raises(expected) as raised:
        objects.get_range("packs/one", 2, 5)
    assert raised.value.kind == kind
    said = str(raised.value)
    assert objects.url in said
    assert len(said) < 200, said
    for noise in ("\n", "\\n", "Generic", "Debug", "RetryError", "{", "<"):
        assert noise not in said
    return raised.value


@pytest.mark.parametrize(
    ("code", "expected", "kind", "says"),
    [
        (401, DeniedError, "store-denied", "401"),
        (403, DeniedError, "store-denied", "403"),
        (404, NotFoundError, "object-missing", "packs/one is not there"),
        (400, UnavailableError, "store-unreachable", "the server replied 400"),
        (416, CorruptError, "object-short", "cut short"),
        (429, UnavailableError, "store-unreachable", "the server replied 429"),
        (500, UnavailableError, "store-unreachable", "the server replied 500"),
        (503, UnavailableError, "store-unreachable", "the server replied 503"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_status_is_said_by_what_to_do_about_it(code: int, expected: type[SapwoodError], kind: str, says: str) -> None:
    with replying(status(code, b"<html>\n<h1>Debug: something happened</h1>\n</html>")) as url:
        assert says in str(fails(HttpObjects(url), expected, kind))


@pytest.mark.usefixtures("impatient")
def test_a_busy_server_is_given_more_time() -> None:
    with replying(status(503)) as url:
        assert fails(HttpObjects(url), UnavailableError, "store-unreachable").retry_after_s == 5.0


def test_a_server_that_fails_once_is_asked_again() -> None:
    requests: list[str] = []

    def reply(handler: BaseHTTPRequestHandler) -> None:
        requests.append(handler.path)
        if len(requests) == 1:
            send(handler, 503)
        else:
            send(handler, 206, b"cdefg", Content_Range="bytes 2-6/10")

    with replying(reply) as url:
        assert HttpObjects(url).get_range("packs/one", 2, 5) == b"cdefg"
    assert len(requests) == 2


def short_range(handler: BaseHTTPRequestHandler) -> None:
    if handler.command == "HEAD":
        send(handler, 200, Content_Length="10")
    else:
        send(handler, 206, b"cd", Content_Range="bytes 2-3/4")


def wrong_range(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 206, b"cdefg", Content_Range="bytes 3-7/10")


def broken_off(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 206, b"cd", Content_Range="bytes 2-6/10", Content_Length="5")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(short_range, "reply-truncated"), (wrong_range, "store-unreachable"), (broken_off, "store-unreachable")],
)
@pytest.mark.usefixtures("impatient")
def test_a_reply_with_other_bytes_than_asked_for_is_no_data(reply: Reply, kind: str) -> None:
    with replying(reply) as url:
        fails(HttpObjects(url), UnavailableError, kind)


def test_a_server_that_ignores_ranges_is_not_read_in_full() -> None:
    with replying(status(200, b"abcdefghij")) as url:
        assert fails(HttpObjects(url), InvalidInputError, "no-ranges").hint is not None


@pytest.mark.usefixtures("impatient")
def test_nobody_there_is_said_with_the_reason() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert "Connection refused" in str(fails(HttpObjects(url), UnavailableError, "store-unreachable"))


@pytest.mark.usefixtures("impatient")
def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "QUIET_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        assert "no reply in time" in str(fails(HttpObjects(url), UnavailableError, "store-unreachable"))
        assert time.monotonic() - begun < 10


def test_what_obstore_says_and_nobody_foresaw_is_our_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such thing\n\nDebug source: Generic {}")

    monkeypatch.setattr("obstore.get_ranges", broken)
    fails(HttpObjects("http://127.0.0.1:9"), InternalError, "obstore-refused")


@pytest.mark.parametrize("asking", ["one object", "several"])
def test_ctrl_c_ends_a_wait_for_a_silent_server_at_once(s3_place: S3Place, s3_url: str, asking: str) -> None:
    store = open_store(s3_place.url, create=True)
    for name in ("a", "b", "c"):
        store.move_ref(name, A, None)
    pending, over = threading.Event(), threading.Event()

    def silent_about_refs(handler: BaseHTTPRequestHandler) -> bool:
        if handler.path.endswith(".ref"):
            pending.set()
            over.wait()
        return False

    code = f"from sapwood.store import open_store; store = open_store({s3_place.url!r}); "
    code += "store.read_ref('a')" if asking == "one object" else "store.refs()"
    with replying(through(s3_url, silent_about_refs)) as relay:
        environment = {**os.environ, "PYTHONPATH": str(PYTHON), "AWS_ENDPOINT_URL": relay}
        with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE) as waiting:
            try:
                assert pending.wait(60)
                begun = time.monotonic()
                waiting.send_signal(signal.SIGINT)
                _, said = waiting.communicate(timeout=60)
                # Long before the request is given up.
                assert time.monotonic() - begun < 15
            finally:
                over.set()
    assert waiting.returncode == -signal.SIGINT
    assert said.rstrip().endswith(b"KeyboardInterrupt")


def is_ref_write(handler: BaseHTTPRequestHandler) -> bool:
    return handler.command == "PUT" and handler.path.endswith(".ref")


def test_a_move_whose_reply_was_lost_is_known_to_have_happened(
    s3_place: S3Place, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_place.url, create=True)
    first = store.move_ref("main", A, None)
    lost: list[str] = []

    def first_write(handler: BaseHTTPRequestHandler) -> bool:
        if is_ref_write(handler) and not lost:
            lost.append(handler.path)
            return True
        return False

    with replying(through(s3_url, first_write)) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", relay)
        moved = open_store(s3_place.url).move_ref("main", B, first)
    assert lost
    assert store.read_ref("main") == moved
    # Its version is the one to move on from.
    assert store.move_ref("main", A, moved).counter == 3


@pytest.mark.usefixtures("impatient")
def test_a_lost_reply_does_not_hide_a_lost_race(
    s3_place: S3Place, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_place.url, create=True)
    first = store.move_ref("main", A, None)
    second = store.move_ref("main", B, first)
    with replying(through(s3_url, is_ref_write)) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", relay)
        with pytest.raises((ConflictError, UnavailableError)):
            open_store(s3_place.url).move_ref("main", A, first)
    assert store.read_ref("main") == second


@pytest.mark.usefixtures("impatient")
def test_missing_credentials_are_said_with_a_remedy(s3_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with replying(status(404)) as metadata:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", metadata)
        denied = fails(S3Objects(s3_place.bucket, "x"), DeniedError, "credentials-missing")
    assert denied.hint is not None
    assert "AWS_ACCESS_KEY_ID" in denied.hint


@pytest.mark.usefixtures("impatient")
def test_refused_credentials_are_denied(s3_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"<?xml version='1.0'?>\n<Error><Code>InvalidAccessKeyId</Code><Message>no\nno</Message></Error>"
    with replying(status(403, body)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert "InvalidAccessKeyId" in str(fails(S3Objects("bucket", "x"), DeniedError, "store-denied"))
