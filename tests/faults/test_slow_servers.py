"""Servers that drip, are silent or busy, say things twice or too late: every wait ends, and nothing false is taken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from sapwood.digests import SnapshotDigest
from sapwood.errors import SapwoodError, UnavailableError
from sapwood.store import attempts, open_store
from sapwood.store.base import CollectObjects
from sapwood.store.http import HttpObjects
from sapwood.store.objects import open_objects
from tests.support.badserver import Reply, replying, send, status, through
from tests.support.snapshots import digest
from tests.support.storeplaces import S3Place

A = digest(SnapshotDigest, "A")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are noted instead of made."""
    made: list[float] = []
    this, sleep = threading.current_thread(), attempts.time.sleep

    def pause(seconds: float) -> None:
        # What tests before this one have left may still sleep, and try again.
        (made.append if threading.current_thread() is this else sleep)(seconds)

    monkeypatch.setattr(attempts.time, "sleep", pause)
    return made


@pytest.fixture
def dripping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reply]:
    """A reply of a megabyte that comes byte by byte, and far too slowly for the short patience of this test."""
    monkeypatch.setattr(attempts, "QUIET_S", 0.3)
    monkeypatch.setattr(attempts, "SLOWEST", 1 << 30)
    monkeypatch.setattr(attempts, "ATTEMPTS", 2)
    over = threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(206 if handler.headers.get("Range") else 200)
        handler.send_header("Content-Length", "1000000")
        handler.send_header("Content-Range", "bytes 0-999999/1000000")
        handler.end_headers()
        try:
            while not over.wait(0.05):
                handler.wfile.write(b"x")
                handler.wfile.flush()
        except OSError:  # given up, as it should be
            handler.close_connection = True

    yield reply
    over.set()


@pytest.mark.parametrize(
    "read", [lambda place: place.get("packs/one"), lambda place: place.get_range("packs/one", 0, 1_000_000)]
)
def test_a_reply_that_drips_is_given_up(dripping: Reply, read: Callable[[HttpObjects], bytes]) -> None:
    with replying(dripping) as url, pytest.raises(UnavailableError, match="no reply in time") as slow:
        read(HttpObjects(url))
    assert slow.value.kind == "store-unreachable"


@pytest.mark.parametrize(("code", "first"), [(503, 1.0), (429, 1.0), (500, 0.1), (502, 0.1)])
def test_a_busy_server_is_left_alone_for_longer_than_a_failing_one(
    pauses: list[float], code: int, first: float
) -> None:
    place = None
    with replying(lambda handler: send(handler, code, Retry_After="3")) as url, pytest.raises(UnavailableError):
        place = HttpObjects(url)
        place.get("packs/one")
    expected = [min(first * 2**number, 15.0) for number in range(5)]
    assert len(pauses) == len(expected)
    # Drawn, so that those who were refused together do not come back together.
    assert all(longest / 2 <= pause <= longest for pause, longest in zip(pauses, expected, strict=True))
    assert place is not None
    assert place.requests.so_far()["get"] == 6


@pytest.mark.parametrize("code", [400, 405, 411, 501])
def test_what_will_never_work_is_not_tried_again(pauses: list[float], code: int) -> None:
    with replying(status(code)) as url, pytest.raises(SapwoodError):
        HttpObjects(url).get("packs/one")
    assert pauses == []


def test_no_attempt_is_begun_after_its_time(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BEGIN_S", 0.0)
    with replying(status(500)) as url, pytest.raises(UnavailableError):
        HttpObjects(url).get("packs/one")
    assert pauses == []


@pytest.mark.parametrize(
    ("length", "grace_s", "limit"),
    [(100, None, 15), (100, 86_400, 15), (100, 80, 5), (16 << 20, 86_400, 300), (16 << 20, 1600, 100)],
)
def test_writes_end_within_an_eighth_of_the_grace(length: int, grace_s: float | None, limit: float) -> None:
    assert attempts.write_limit_s(length, grace_s) == limit
    if grace_s is not None:
        # The last attempt begins when as much time has passed as one may take.
        assert 2 * limit <= grace_s / 8


@pytest.mark.parametrize(
    "write",
    [
        lambda place: place.put("packs/one", b"x"),
        lambda place: place.swap("refs/main.ref", b"x", None),
        lambda place: place.delete("packs/one"),
    ],
)
def test_a_write_that_nobody_answers_is_given_up_in_time(
    s3_place: S3Place, monkeypatch: pytest.MonkeyPatch, write: Callable[[CollectObjects], None]
) -> None:
    over = threading.Event()
    monkeypatch.setattr(attempts, "QUIET_S", 0.2)
    with replying(lambda _: over.wait() and None) as silent:  # type: ignore[arg-type,return-value]
        monkeypatch.setenv("AWS_ENDPOINT_URL", silent)
        place = open_objects(s3_place.url)[2]
        assert place is not None
        place.limit_writes(1.6)
        try:
            with pytest.raises(UnavailableError, match="no reply in time"):
                write(place)
        finally:
            over.set()


def test_a_reply_that_comes_twice_is_not_taken_for_the_next() -> None:
    def twice(handler: BaseHTTPRequestHandler) -> None:
        body = handler.path.rpartition("/")[2].encode()
        said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        handler.wfile.write(said + said)
        handler.wfile.flush()
        handler.close_connection = False

    with replying(twice) as url:
        place = HttpObjects(url)
        assert [place.get(f"packs/{name}") for name in ("one", "two", "three")] == [b"one", b"two", b"three"]


def once(chosen: Callable[[BaseHTTPRequestHandler], bool]) -> Callable[[BaseHTTPRequestHandler], bool]:
    """Choose only the first of those."""
    left = iter([True])
    return lambda handler: chosen(handler) and next(left, False)


def test_a_deletion_whose_reply_was_lost_is_done(
    s3_place: S3Place, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_place.overwrite("packs/one", b"x")
    with replying(through(s3_url, once(lambda handler: handler.command == "DELETE"))) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", relay)
        place = open_objects(s3_place.url)[2]
        assert place is not None
        place.delete("packs/one")
        assert place.requests.so_far()["delete"] == 2
        assert not place.exists("packs/one")


def test_a_listing_that_broke_off_goes_on_where_it_was(
    s3_place: S3Place, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"index/{number:04}" for number in range(1010)]
    for key in keys:
        s3_place.overwrite(key, b"")
    with replying(through(s3_url, once(lambda handler: "continuation-token" in handler.path))) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", relay)
        place = open_objects(s3_place.url)[0]
        assert place.list("index") == keys
        # The first page, the second that was lost, and that again.
        assert place.requests.so_far()["list"] == 3


def test_a_swap_that_met_another_on_its_way_is_tried_again(
    s3_place: S3Place, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing = through(s3_url)
    met = once(lambda handler: handler.command == "PUT" and handler.path.endswith(".ref"))

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if met(handler):
            handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            send(handler, 409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
        else:
            passing(handler)

    store = open_store(s3_place.url, create=True)
    with replying(reply) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", relay)
        moved = open_store(s3_place.url).move_ref("main", A, None)
    assert store.read_ref("main") == moved
