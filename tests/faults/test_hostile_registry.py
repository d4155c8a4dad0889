"""Registries that lie, are busy, break off, or send more than anybody can want; layers that would lead outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sapwood.errors import CorruptError, DeniedError, InvalidInputError, NotFoundError, SapwoodError, UnavailableError
from sapwood.image import ImageName, open_image
from sapwood.image.streaming import Streamed
from sapwood.open import open_tree
from sapwood.store import attempts
from sapwood.store.requests import Requests
from tests.support.badserver import send
from tests.support.cli import Sapwood
from tests.support.fakeregistry import FakeRegistry, Handler, registry
from tests.support.hostile import run_bounded
from tests.support.images import OCI, Image, chunked, digest, gzipped, plain, stargz
from tests.support.peers import free_port

IMAGE = Image(stargz({"a": b"1", "large": os.urandom(3 << 20)}))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with registry() as made:
        made.add(IMAGE, "latest")
        yield made


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes is tried again at once."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(attempts, "FIRST_PAUSE_OF_THE_BUSY_S", 0.001)


def read(fake: FakeRegistry, path: bytes = b"a") -> bytes:
    return b"".join(open_tree(f"oci://{fake.host}/some/name").read_blob(path))


def what_comes(fake: FakeRegistry) -> bytes | str:
    """Read a file, and return it, or the kind of the error."""
    try:
        return read(fake)
    except SapwoodError as error:
        return error.kind


def once(fake: FakeRegistry, part: str, answer: Any) -> None:
    """Let the first request whose path has `part` be answered by `answer`."""
    left = iter([answer])

    def first(handler: Handler) -> bool:
        if part in handler.path and (this := next(left, None)):
            this(handler)
            return True
        return False

    fake.first = first


def always(fake: FakeRegistry, part: str, answer: Any) -> None:
    fake.first = lambda handler: part in handler.path and answer(handler) is None


def test_what_passes_is_tried_again(fake: FakeRegistry) -> None:
    def breaks(handler: Handler) -> None:
        handler.send_response(206)
        handler.send_header("Content-Length", "1000")
        handler.send_header("Content-Range", "bytes 0-999/1000")
        handler.end_headers()
        handler.wfile.write(b"short")

    def garbage(handler: Handler) -> None:
        handler.wfile.write(b"no HTTP at all\r\n\r\n")

    for part in ("/manifests/", "/blobs/"):
        for answer in (
            lambda h: send(h, 500),
            lambda h: send(h, 429, Retry_After="0"),
            breaks,
            garbage,
            lambda h: None,
        ):
            once(fake, part, answer)
            assert read(fake) == b"1"


def test_a_registry_that_says_how_long_it_is_busy_is_left_alone_for_so_long(
    fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    this, sleep = threading.current_thread(), time.sleep
    # What tests before this one have left may still sleep.
    monkeypatch.setattr(
        time, "sleep", lambda seconds: (slept.append if threading.current_thread() is this else sleep)(seconds)
    )
    once(fake, "/manifests/", lambda h: send(h, 429, Retry_After="7"))
    assert read(fake) == b"1"
    assert 7.0 in slept
    always(fake, "/manifests/", lambda h: send(h, 429, Retry_After="86400"))
    with pytest.raises(UnavailableError, match="429, and wants 86400 s of peace") as caught:
        read(fake)
    assert caught.value.kind == "store-unreachable"
    assert max(slept) < 60, "longer than that nobody waits"


def test_a_refusal_is_an_error_that_says_what_to_do(fake: FakeRegistry) -> None:
    always(fake, "/v2/", lambda h: send(h, 403, b'{"errors":[{"code":"DENIED"}]}'))
    with pytest.raises(DeniedError, match="403 DENIED") as caught:
        read(fake)
    assert caught.value.kind == "store-denied"
    always(fake, "/manifests/", lambda h: send(h, 404))
    with pytest.raises(NotFoundError) as missing:
        read(fake)
    assert missing.value.kind == "image-missing"
    always(fake, "/blobs/", lambda h: send(h, 404))
    with pytest.raises(NotFoundError) as gone:
        read(fake)
    assert gone.value.kind == "object-missing"


def said(status: int, body: bytes = b"", **headers: str) -> Any:
    return lambda handler: send(handler, status, body, **headers)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (said(503, Retry_After="\xb2"), "store-unreachable"),
        (said(500, b"[" * 4000), "store-unreachable"),
        (said(302, Location="http://["), "bad-redirect"),
        (said(302, Location="http://127.0.0.1:99999/"), "bad-redirect"),
        (said(302, Location=f"http://{'a' * 64}.example/"), "store-unreachable"),
        (said(302, Location="http://a..example/"), "store-unreachable"),
        (said(401, WWW_Authenticate=f'Bearer realm="http://{"a" * 64}.example/"'), "store-unreachable"),
    ],
)
@pytest.mark.parametrize("part", ["/manifests/", "/blobs/"])
def test_whatever_a_reply_says_it_is_an_error_that_is_named(
    fake: FakeRegistry, part: str, answer: Any, kind: str
) -> None:
    always(fake, part, answer)
    assert what_comes(fake) == kind


@pytest.mark.parametrize(
    "answer", [b"[" * 5000, '{"token":"\u4e2d"}'.encode(), b'{"token":"x","expires_in":' + b"9" * 5000 + b"}"]
)
def test_what_is_no_token_is_a_refusal(fake: FakeRegistry, answer: bytes) -> None:
    fake.scheme = "bearer"
    always(fake, "/token", said(200, answer))
    assert what_comes(fake) == "store-denied"


def test_a_range_that_nobody_can_count_is_none(fake: FakeRegistry) -> None:
    always(fake, "/blobs/", said(206, b"x", Content_Range=f"bytes 0-{'9' * 5000}/1"))
    assert what_comes(fake) == "no-ranges"


def test_who_reads_a_stream_hears_of_whatever_ends_it() -> None:
    def breaks(_: Any) -> None:
        raise RecursionError("a bug")

    with pytest.raises(RecursionError, match="a bug"):
        Streamed("oci://host/name", 10, Requests(), b"", breaks).read([(0, 10)])


def test_a_manifest_that_is_another_than_its_digest_is_refused(fake: FakeRegistry) -> None:
    other = Image(stargz({"a": b"2"}))
    fake.manifests[IMAGE.digest] = (OCI["manifest"], other.manifest)
    with pytest.raises(CorruptError) as caught:
        open_image(ImageName.parse(f"oci://{fake.host}/some/name@{IMAGE.digest}"))
    assert caught.value.kind == "image-corrupt"
    index = {"schemaVersion": 2, "manifests": [IMAGE.described(os="linux", architecture="amd64")]}
    fake.add_document(OCI["index"], json.dumps(index).encode(), "index")
    with pytest.raises(CorruptError):
        open_image(ImageName.parse(f"oci://{fake.host}/some/name:index?platform=linux/amd64"))


def test_a_manifest_of_a_hundred_megabytes_is_not_read(fake: FakeRegistry, tmp_path: Path) -> None:
    piece = b" " * (1 << 20)

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(100 << 20))
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(piece)
        except OSError:
            pass

    always(fake, "/manifests/", endless)
    home = tmp_path / "home"
    home.mkdir()
    peaked = run_bounded(Sapwood(home), "ls", f"oci://{fake.host}/some/name")
    assert (peaked.said.code, peaked.peak_mb < 120) == (5, True), peaked
    assert "more than 4194304 bytes" in peaked.said.err


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"layers": [{"mediaType": OCI["tar"], "digest": "sha256:" + "0" * 64, "size": 1}] * 10_000}, "image-corrupt"),
        ({"layers": None}, "image-corrupt"),
        ({"layers": [7]}, "image-corrupt"),
        ({"layers": [{"mediaType": OCI["tar"], "digest": "sha256:../../x", "size": 1}]}, "image-corrupt"),
        ({"layers": [{"mediaType": OCI["tar"], "digest": "sha512:" + "0" * 128, "size": 1}]}, "not-supported"),
        ({"layers": [{"mediaType": OCI["tar"], "digest": "sha256:" + "0" * 64, "size": -1}]}, "image-corrupt"),
        ({"layers": [{"mediaType": OCI["tar"], "digest": "sha256:" + "0" * 64, "size": 1 << 60}]}, "image-corrupt"),
        ({"layers": [{"mediaType": "text/plain", "digest": "sha256:" + "0" * 64, "size": 1}]}, "not-supported"),
        ({"layers": [{"mediaType": OCI["tar"] + "+encrypted", "digest": digest(b""), "size": 0}]}, "not-supported"),
        ({"layers": [{"mediaType": OCI["tar"], "digest": digest(b""), "size": 0}]}, "image-corrupt"),
        ({"schemaVersion": 1}, "not-supported"),
        ({"config": []}, "image-corrupt"),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_is_refused(fake: FakeRegistry, change: dict[str, Any], kind: str) -> None:
    fake.blobs[digest(b"")] = b""
    fake.add_document(OCI["manifest"], json.dumps(IMAGE.said | change).encode(), "latest")
    with pytest.raises(SapwoodError) as caught:
        read(fake)
    assert caught.value.kind == kind


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff"])
def test_a_manifest_that_is_no_document_is_refused(fake: FakeRegistry, text: bytes) -> None:
    fake.add_document(OCI["manifest"], text or b" ", "latest")
    with pytest.raises(CorruptError) as caught:
        read(fake)
    assert caught.value.kind == "image-corrupt"


def test_an_index_that_names_itself_again_and_again_ends(fake: FakeRegistry) -> None:
    entry: dict[str, Any] = {"mediaType": OCI["index"], "digest": "sha256:" + "0" * 64, "size": 1}
    for _ in range(10):
        data = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        entry = entry | {"digest": fake.add_document(OCI["index"], data, "latest")}
    with pytest.raises(InvalidInputError, match="indexes of indexes") as caught:
        read(fake)
    assert caught.value.kind == "not-supported"


def test_a_registry_that_lies_about_ranges_is_found_out(fake: FakeRegistry) -> None:
    data = IMAGE.layers[0].data

    def another(handler: Handler) -> None:
        send(handler, 206, data[:10], Content_Range=f"bytes 0-9/{len(data)}")

    def unsaid(handler: Handler) -> None:
        send(handler, 206, data[-65536:])

    def longer(handler: Handler) -> None:
        begin, end = handler.headers["Range"].removeprefix("bytes=").split("-")
        send(handler, 206, data[int(begin) : int(end) + 1], Content_Range=f"bytes {begin}-{end}/{len(data) + 1}")

    for answer, kind in ((another, "no-ranges"), (unsaid, "no-ranges"), (longer, "object-short")):
        always(fake, "/blobs/", answer)
        with pytest.raises(SapwoodError) as caught:
            read(fake)
        assert caught.value.kind == kind
    always(fake, "/blobs/", lambda h: send(h, 416))
    with pytest.raises(CorruptError, match="shorter than"):
        read(fake)


def test_a_registry_that_ignores_ranges_is_read_whole_where_that_is_little(fake: FakeRegistry) -> None:
    always(fake, "/blobs/", lambda h: send(h, 200, fake.blobs[h.path.rpartition("/")[2]]))
    assert read(fake) == b"1"
    always(fake, "/blobs/", lambda h: send(h, 200, fake.blobs[h.path.rpartition("/")[2]] + b"more"))
    with pytest.raises(CorruptError, match="more than"):
        read(fake, b"large")
    big = Image(plain({"large": bytes(17 << 20)}))
    fake.add(big, "latest")
    with pytest.raises(InvalidInputError) as caught:
        read(fake)
    assert caught.value.kind == "no-ranges"


def part_of(handler: Handler, data: bytes, count: int) -> None:
    """Promise the bytes that were asked for, send so many of them, and break off."""
    begin = int(handler.headers["Range"].removeprefix("bytes=").partition("-")[0])
    handler.send_response(206)
    handler.send_header("Content-Length", str(len(data) - begin))
    handler.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
    handler.end_headers()
    handler.wfile.write(data[begin : begin + count])
    handler.wfile.flush()


def test_a_large_layer_comes_by_one_request_that_is_taken_up_where_it_broke(fake: FakeRegistry) -> None:
    layer = plain({"a": b"1", "large": os.urandom(12 << 20)})
    data = layer.data
    fake.add(Image(layer), "latest")
    whole: list[str] = []

    def breaks(handler: Handler) -> bool:
        asked = handler.headers.get("Range", "")
        if "/blobs/" not in handler.path or not asked.endswith(f"-{len(data) - 1}") or asked == tail:
            return False
        whole.append(asked)
        # More often than anything is tried that brings nothing.
        if len(whole) <= 8:
            part_of(handler, data, 1 << 20)
            handler.close_connection = True
            return True
        if len(whole) == 9:
            send(handler, 200, data)
            return True
        return False

    tail = f"bytes={len(data) - 65536}-{len(data) - 1}"
    fake.first = breaks
    assert read(fake) == b"1"
    assert whole == [f"bytes={n << 20}-{len(data) - 1}" for n in range(9)]
    # Of what is known now only what is read is fetched.
    fake.asked.clear()
    assert read(fake) == b"1"
    assert fake.blob_requests() == 1


def test_a_large_layer_that_is_another_leaves_nothing(fake: FakeRegistry, cache_dir: Path) -> None:
    layer = plain({"a": b"1", "large": os.urandom(9 << 20)})
    fake.add(Image(layer), "latest")
    fake.blobs[layer.digest] = layer.data[:-2000] + b"x" + layer.data[-1999:]
    with pytest.raises(CorruptError) as caught:
        read(fake)
    assert caught.value.kind == "image-corrupt"
    fake.blobs[layer.digest] = layer.data + b"more"
    with pytest.raises(CorruptError) as longer:
        read(fake)
    assert longer.value.kind == "object-short"
    always(fake, "/blobs/", lambda h: part_of(h, layer.data, 0))
    with pytest.raises(UnavailableError):
        read(fake)
    assert not list((cache_dir / "layers").glob("*"))


def test_ctrl_c_while_a_large_layer_comes_leaves_nothing(fake: FakeRegistry, tmp_path: Path) -> None:
    layer = plain({"a": b"1", "large": os.urandom(40 << 20)})
    fake.add(Image(layer), "latest")
    begun, ended = threading.Event(), threading.Event()

    def stalls(handler: Handler) -> bool:
        if "/blobs/" not in handler.path or not handler.headers["Range"].startswith("bytes=0-4"):
            return False
        part_of(handler, layer.data, 30 << 20)
        begun.set()
        return ended.wait(60)

    fake.first = stalls
    run = Sapwood(tmp_path)
    with subprocess.Popen(
        run.command("ls", f"oci://{fake.host}/some/name"), env=run.environment, stderr=subprocess.PIPE
    ) as process:
        assert begun.wait(60)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        ended.set()
    assert not [path for path in tmp_path.rglob("layers/*") if path.is_file()]


def test_a_registry_that_is_not_there_is_told_from_one_that_breaks_off() -> None:
    with pytest.raises(UnavailableError, match="the connection was refused: nothing listens there") as caught:
        open_image(ImageName.parse(f"oci://127.0.0.1:{free_port()}/some/name"))
    assert caught.value.hint is not None


def test_other_bytes_than_the_layers_are_never_given_out(fake: FakeRegistry) -> None:
    for form in (stargz, chunked, gzipped, plain):
        layer = form({"a": b"right" * 100_000})
        fake.add(Image(layer), "latest")
        assert read(fake) == b"right" * 100_000
        for at in (20, len(layer.data) // 2):
            fake.blobs[layer.digest] = layer.data[:at] + bytes([layer.data[at] ^ 255]) + layer.data[at + 1 :]
            assert what_comes(fake) in (b"right" * 100_000, "archive-corrupt", "chunk-corrupt", "image-corrupt")


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("form", [plain, gzipped])
def test_layers_that_would_lead_outside_are_refused_or_stay_inside(
    fake: FakeRegistry, form: Any, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    for entries in ({"../x": b"1"}, {"a/../../x": b"1"}, {"link": f"= {outside}"}, {"link": "= ../outside"}):
        fake.add(Image(form(entries)), "latest")
        with pytest.raises(CorruptError) as caught:
            read(fake)
        assert caught.value.kind in ("archive-corrupt", "image-corrupt")
    # Below a link there is nothing, and whiteouts take away what is beside them, by whatever they are called.
    below = form({"etc": None, "etc/a": b"1", "link": f"-> {tmp_path}"})
    above = form({"etc": None, "etc/.wh...": b"", "etc/.wh..": b"", ".wh..": b"", "link": None, "link/outside": b"2"})
    fake.add(Image(below, above), "latest")
    assert read(fake, b"link/outside") == b"2"
    assert read(fake, b"etc/a") == b"1"
    assert outside.read_bytes() == b"secret"
