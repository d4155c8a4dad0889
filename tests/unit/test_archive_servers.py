"""Archives behind servers with quirks: read all the same, or refused with what the server does wrong."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from sapwood.errors import ConflictError, CorruptError, InvalidInputError, SapwoodError, UnavailableError
from sapwood.open import open_tree
from tests.support import stargz
from tests.support.badserver import replying, send
from tests.support.mounting import mounted
from tests.support.ranges import serve, span
from tests.support.trees import noise

Handler = BaseHTTPRequestHandler


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "large").write_bytes(noise(200_000))
    (root / "b").write_text("hello\n")
    return stargz.make(root, tmp_path / "x.tar.gz").read_bytes()


def content(url: str) -> bytes:
    return b"".join(open_tree(f"{url}/x.tar.gz").read_blob(b"b"))


def without_head(handler: Handler, data: bytes) -> None:
    if handler.command == "HEAD":
        send(handler, 405)
    else:
        serve(handler, data)


def wrong_length_of_head(handler: Handler, data: bytes) -> None:
    if handler.command == "HEAD":
        send(handler, 200, Content_Length=str(len(data) // 2))
    else:
        serve(handler, data)


def without_ranges_from_the_end(handler: Handler, data: bytes) -> None:
    if handler.headers.get("Range", "").startswith("bytes=-"):
        send(handler, 200, data)
    else:
        serve(handler, data)


def no_number_as_length_of_the_end(handler: Handler, data: bytes) -> None:
    if handler.headers.get("Range", "").startswith("bytes=-"):
        send(handler, 206, Content_Length="NaN")
    else:
        serve(handler, data)


@pytest.mark.parametrize(
    "server", [no_number_as_length_of_the_end, without_head, wrong_length_of_head, without_ranges_from_the_end]
)
def test_a_server_that_can_do_little_is_enough(data: bytes, server: Callable[[Handler, bytes], None]) -> None:
    with replying(lambda handler: server(handler, data)) as url:
        assert content(url) == b"hello\n"


def test_a_redirect_that_is_good_for_one_request_is_asked_for_anew(data: bytes) -> None:
    used = set[str]()

    def reply(handler: Handler) -> None:
        if not handler.path.startswith("/token"):
            send(handler, 302, Location=f"/token{len(used)}/x.tar.gz")
        elif handler.path in used:
            send(handler, 403, b"expired")
        else:
            used.add(handler.path)
            serve(handler, data)

    with replying(reply) as url:
        assert content(url) == b"hello\n"
    assert len(used) == 2


def ignoring(handler: Handler, data: bytes) -> None:
    send(handler, 200, data)


def multipart(handler: Handler, data: bytes) -> None:
    begin, end = span(handler, len(data)) or (0, len(data))
    head = f"--XX\r\nContent-Range: bytes {begin}-{end - 1}/{len(data)}\r\n\r\n".encode()
    send(handler, 206, head + data[begin:end] + b"\r\n--XX--\r\n", Content_Type="multipart/byteranges; boundary=XX")


@pytest.mark.parametrize("server", [ignoring, multipart])
def test_a_server_without_ranges_is_refused_with_a_remedy(
    data: bytes, server: Callable[[Handler, bytes], None]
) -> None:
    with replying(lambda handler: server(handler, data)) as url, pytest.raises(InvalidInputError) as refused:
        content(url)
    assert refused.value.kind == "no-ranges"
    assert refused.value.hint is not None


def test_other_bytes_than_were_asked_for_are_never_taken(data: bytes) -> None:
    def reply(handler: Handler) -> None:
        begin, end = span(handler, len(data)) or (0, len(data))
        send(handler, 206, data[: end - begin], Content_Range=f"bytes 0-{end - begin - 1}/{len(data)}")

    with replying(reply) as url, pytest.raises(SapwoodError):
        content(url)


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_reply_of_another_length_than_it_says_is_never_taken(data: bytes, wrong: int) -> None:
    def reply(handler: Handler) -> None:
        begin, end = span(handler, len(data)) or (0, len(data))
        said = f"bytes {begin}-{end - 1}/{len(data)}"
        handler.close_connection = True
        send(handler, 206, data[begin:end], Content_Range=said, Content_Length=str(end - begin + wrong))

    with replying(reply) as url, pytest.raises(SapwoodError) as refused:
        content(url)
    assert isinstance(refused.value, CorruptError | UnavailableError)


def test_an_archive_that_is_replaced_on_its_server_is_an_error_that_says_so(data: bytes, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "large").write_bytes(noise(200_000, seed=2))
    (root / "b").write_text("other\n")
    now = [(data, "1")]
    with replying(lambda handler: serve(handler, *now[0])) as url:
        tree = open_tree(f"{url}/x.tar.gz")
        now[0] = (stargz.make(root, tmp_path / "y.tar.gz").read_bytes(), "2")
        with pytest.raises(ConflictError) as changed:
            list(tree.read_blob(b"large"))
    assert changed.value.kind == "archive-changed"


def test_what_is_signed_stands_in_no_command_line_of_a_mount(data: bytes, tmp_path: Path) -> None:
    secret = "Signature=0123456789abcdef"
    with (
        replying(lambda handler: serve(handler, data)) as url,
        mounted(f"{url}/x.tar.gz?{secret}", tmp_path / "mount", tmp_path / "cache") as started,
    ):
        assert (tmp_path / "mount" / "b").read_text() == "hello\n"
        shown = [Path(f"/proc/{started.pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    assert [secret.encode() in text for text in shown] == [False, False]
