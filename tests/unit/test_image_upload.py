"""Images written: blobs taken up where they broke off, documents after what they name, artifacts by their subject."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sapwood.errors import ConflictError, CorruptError, DeniedError, InvalidInputError, NotFoundError, UnavailableError
from sapwood.image import ImageName, pieces
from sapwood.image.manifest import Described
from sapwood.image.referrers import attach, read, referrers
from sapwood.image.upload import WritePlace, open_write_place, persist_upload
from sapwood.open import open_tree
from sapwood.store import attempts
from tests.support.badserver import replying, send
from tests.support.cutting import cutting
from tests.support.fakeregistry import Handler, registry
from tests.support.fakeuploads import WritableRegistry, break_off
from tests.support.images import OCI, Image, stargz

IMAGE = Image(stargz({"a": b"1", "d": None, "d/large": os.urandom(200_000)}))
PIECES = [os.urandom(70_000) for _ in range(5)]
WHOLE = b"".join(PIECES)
NOTE = "application/vnd.test.note"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableRegistry]:
    """A registry to which pieces of 100,000 bytes are sent, and which is tried again at once."""
    monkeypatch.setattr(pieces, "_PIECE", 100_000)
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.001)
    with registry(WritableRegistry()) as made:
        assert isinstance(made, WritableRegistry)
        yield made


@pytest.fixture(params=["registry", "fake", "layout"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> WritePlace:
    """Somewhere to write to: Debian's docker-registry, one with a referrers API, and a directory."""
    if request.param == "layout":
        return to(f"oci:{tmp_path}/layout:latest")
    if request.param == "registry":
        return to(f"oci://{request.getfixturevalue('registry_host')}/{tmp_path.name.lower().replace('_', '-')}/it")
    fake = request.getfixturevalue("fake")
    fake.has_referrers = True
    return to(f"oci://{fake.host}/some/name")


def to(name: str, *beside: str) -> WritePlace:
    return open_write_place(ImageName.parse(name), beside=beside)


def of(fake: WritableRegistry) -> WritePlace:
    return to(f"oci://{fake.host}/some/name")


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put_image(place: WritePlace, image: Image, tag: str = "latest") -> Described:
    for data in image.blobs().values():
        place.put(data)
    return place.put_document(image.manifest, OCI["manifest"], tag=tag)[0]


def sent(fake: WritableRegistry, method: str) -> int:
    return sum(command == method for command, _, _ in fake.asked)


def test_what_is_written_is_read_as_it_was(place: WritePlace) -> None:
    described = put_image(place, IMAGE)
    assert described == Described(IMAGE.digest, len(IMAGE.manifest), OCI["manifest"])
    name = f"oci://{place.host}/{place.repository}:latest" if place.host else f"oci:{place.url}:latest"
    tree = open_tree(name)
    assert b"".join(tree.read_blob(b"a")) == b"1"
    assert place.document("latest") == place.document(IMAGE.digest) == IMAGE.manifest
    assert place.document("other") is None
    assert place.read(Described(digest(IMAGE.config), len(IMAGE.config))) == IMAGE.config
    with pytest.raises(NotFoundError) as caught:
        place.read(Described(digest(b"other"), 5))
    assert caught.value.kind == "object-missing"


def test_a_blob_of_many_pieces_is_told_by_its_digest_at_the_end(
    place: WritePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_PIECE", 100_000)
    assert not place.has(Described(digest(WHOLE), len(WHOLE)))
    with place.upload() as upload:
        for piece in PIECES:
            upload.write(piece)
        assert upload.finish() == Described(digest(WHOLE), len(WHOLE))
    assert place.has(Described(digest(WHOLE), len(WHOLE)))
    assert place.read(Described(digest(WHOLE), len(WHOLE))) == WHOLE


def test_an_upload_that_is_given_up_leaves_nothing(fake: WritableRegistry, tmp_path: Path) -> None:
    for place in (of(fake), to(f"oci:{tmp_path}/layout")):
        with pytest.raises(ZeroDivisionError), place.upload() as upload:
            upload.write(WHOLE)
            raise ZeroDivisionError
        assert not place.has(Described(digest(WHOLE), len(WHOLE)))
    assert (fake.uploads, fake.blobs) == ({}, {})
    assert sorted(os.listdir(tmp_path / "layout")) == ["blobs", "oci-layout"]


def test_nothing_that_is_there_is_sent_again(fake: WritableRegistry) -> None:
    put_image(of(fake), IMAGE)
    before = fake.taken
    put_image(of(fake), IMAGE)
    assert fake.taken == before


def test_a_blob_of_another_repository_is_taken_over_and_not_sent(registry_host: str, fake: WritableRegistry) -> None:
    blob = Described(digest(WHOLE), len(WHOLE))
    there = to(f"oci://{registry_host}/mounts/from")
    there.put(WHOLE)
    here = to(f"oci://{registry_host}/mounts/to", "mounts/from")
    assert here.take(blob, "mounts/from")
    assert here.has(blob)
    assert not here.take(Described(digest(b"none"), 4), "mounts/from")
    assert not here.take(blob, "mounts/to")
    fake.others["other/name", blob.digest] = WHOLE
    fake.scheme, fake.scopes = "bearer", ["repository:some/name:pull,push", "repository:other/name:pull"]
    assert to(f"oci://{fake.host}/some/name", "other/name").take(blob, "other/name")
    assert fake.taken == 0


def test_who_may_not_read_a_repository_beside_may_write_all_the_same(fake: WritableRegistry) -> None:
    fake.scheme, fake.scopes = "bearer", ["repository:some/name:pull,push"]
    place = to(f"oci://{fake.host}/some/name", "others/secret")
    assert not place.take(Described(digest(WHOLE), len(WHOLE)), "others/secret")
    assert place.put(b"mine").digest in fake.blobs


@pytest.mark.parametrize("kept", [0, 1, 50_000, 99_999])
def test_what_breaks_off_goes_on_where_the_registry_has_it(fake: WritableRegistry, kept: int) -> None:
    broken = iter([1, 3])
    pieces = iter(range(10))
    at = next(broken)

    def on_patch(_: WritableRegistry, handler: Handler, there: bytearray) -> bool:
        nonlocal at
        if next(pieces) != at:
            return False
        at = next(broken, -1)
        break_off(handler, there, kept)
        return True

    fake.on_patch = on_patch
    assert persist_upload(of(fake), lambda: PIECES).digest == digest(WHOLE)
    assert fake.blobs[digest(WHOLE)] == WHOLE
    assert sent(fake, "POST") == 1
    assert fake.taken + 2 * kept == len(WHOLE)


def test_an_upload_that_the_registry_forgot_is_begun_anew(fake: WritableRegistry) -> None:
    forgotten = iter([True])

    def on_patch(fake: WritableRegistry, handler: Handler, there: bytearray) -> bool:
        if not there or not next(forgotten, False):
            return False
        fake.uploads.clear()
        break_off(handler, there, 10)
        return True

    fake.on_patch = on_patch
    assert persist_upload(of(fake), lambda: PIECES).digest == digest(WHOLE)
    assert sent(fake, "POST") == 2


@pytest.mark.parametrize("after", [1, 60_000, 180_000, 340_000])
def test_a_real_registry_has_what_was_sent_over_a_line_that_broke(
    registry_host: str, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(pieces, "_PIECE", 100_000)
    data = [os.urandom(70_000) for _ in range(5)]
    with cutting(registry_host, after) as host:
        blob = persist_upload(to(f"oci://{host}/cut/it"), lambda: data)
    assert blob.digest == digest(b"".join(data))
    assert to(f"oci://{registry_host}/cut/it").read(blob) == b"".join(data)


def test_one_that_is_lost_each_time_says_so(fake: WritableRegistry) -> None:
    def on_patch(_: WritableRegistry, handler: Handler, there: bytearray) -> bool:
        there += b"something else"
        send(handler, 416)
        return True

    fake.on_patch = on_patch
    with pytest.raises(UnavailableError) as caught:
        persist_upload(of(fake), lambda: PIECES)
    assert caught.value.kind == "upload-lost"


def test_a_reply_that_is_lost_at_the_end_is_no_second_upload(fake: WritableRegistry) -> None:
    lost = iter([True])

    def first(handler: Handler) -> bool:
        if handler.command != "PUT" or "digest=" not in handler.path or not next(lost, False):
            return False
        fake.blobs[digest(b"small")] = handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.close_connection = True
        return True

    fake.first = first
    of(fake).put(b"small")
    assert (sent(fake, "POST"), sent(fake, "PUT")) == (1, 1)


def test_a_busy_registry_is_waited_for_and_a_token_that_ends_is_followed_by_another(fake: WritableRegistry) -> None:
    fake.scheme, fake.scopes = "bearer", ["repository:some/name:pull,push"]
    ends, busy = iter([False, False, True]), iter([False, True])

    def first(handler: Handler) -> bool:
        if handler.command != "PATCH":
            return False
        if next(busy, False):
            handler.rfile.read(int(handler.headers["Content-Length"]))
            send(handler, 429, Retry_After="0")
            return True
        if next(ends, False):
            fake.tokens.clear()
            handler.rfile.read(int(handler.headers["Content-Length"]))
            send(handler, 401, WWW_Authenticate=f'Bearer realm="http://{fake.host}/token"')
            return True
        return False

    fake.first = first
    assert persist_upload(of(fake), lambda: PIECES).digest == digest(WHOLE)
    assert fake.taken == len(WHOLE)
    assert sum(path.startswith("/token") for _, path, _ in fake.asked) == 2


def test_a_place_elsewhere_is_shown_no_credentials(fake: WritableRegistry) -> None:
    fake.scheme, fake.scopes = "bearer", ["repository:some/name:pull,push"]
    shown = []

    def elsewhere(handler: Handler) -> None:
        shown.append(handler.headers.get("Authorization"))
        fake.give(handler, handler.path.partition("?")[0])

    with replying(elsewhere) as url:
        fake.elsewhere = url.replace("127.0.0.1", "localhost")
        assert persist_upload(of(fake), lambda: PIECES).digest == digest(WHOLE)
    assert shown == [None] * 5
    fake.elsewhere = "ftp://nowhere"
    with pytest.raises(InvalidInputError) as caught:
        of(fake).put(b"other")
    assert caught.value.kind == "bad-redirect"


def test_one_who_may_not_write_is_told_so(fake: WritableRegistry) -> None:
    fake.first = lambda handler: (
        handler.command == "POST" and send(handler, 403, b'{"errors":[{"code":"DENIED"}]}') is None
    )
    with pytest.raises(DeniedError) as caught:
        of(fake).put(b"1")
    assert caught.value.kind == "store-denied"
    assert "403 DENIED" in str(caught.value)


def test_a_registry_that_has_something_else_is_not_believed(fake: WritableRegistry) -> None:
    other = digest(b"other")

    def first(handler: Handler) -> bool:
        if handler.command != "PUT":
            return False
        handler.rfile.read(int(handler.headers["Content-Length"]))
        send(handler, 201, Docker_Content_Digest=other)
        return True

    fake.first = first
    for write in (lambda: of(fake).put(b"1"), lambda: of(fake).put_document(b"{}", OCI["manifest"])):
        with pytest.raises(CorruptError) as caught:
            write()
        assert caught.value.kind == "image-corrupt"


def test_a_manifest_that_names_what_is_not_there_is_refused(registry_host: str, fake: WritableRegistry) -> None:
    for place in (to(f"oci://{registry_host}/refused/it"), of(fake)):
        with pytest.raises(InvalidInputError) as caught:
            place.put_document(IMAGE.manifest, OCI["manifest"], tag="1")
        assert caught.value.kind == "image-refused"
    with pytest.raises(InvalidInputError) as caught:
        of(fake).put_document(b" " * (5 << 20), OCI["manifest"])
    assert caught.value.kind == "image-refused"


def test_a_blob_that_is_not_found_for_a_moment_is_no_refusal(fake: WritableRegistry) -> None:
    left = [b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}']

    def first(handler: Handler) -> bool:
        if handler.command != "PUT" or "/manifests/" not in handler.path or not left:
            return False
        handler.rfile.read(int(handler.headers["Content-Length"]))
        send(handler, 400, left.pop())
        return True

    fake.first = first
    put_image(of(fake), IMAGE)
    assert not left


def test_an_artifact_is_found_by_its_subject(place: WritePlace) -> None:
    subject = put_image(place, IMAGE)
    assert referrers(place, subject.digest) == []
    first = attach(place, subject, NOTE, b"first", "text/plain", {"who": "me"})
    second = attach(place, subject, NOTE, b"second", "text/plain")
    other = attach(place, subject, NOTE + ".other", b"", "text/plain")
    assert attach(place, subject, NOTE, b"first", "text/plain", {"who": "me"}) == first
    found = referrers(place, subject.digest)
    assert {one.digest for one in found} == {first.digest, second.digest, other.digest}
    assert len(found) == 3
    assert referrers(place, subject.digest, NOTE + ".other") == [other]
    [noted] = [one for one in referrers(place, subject.digest, NOTE) if one.annotations]
    assert (noted, read(place, noted), read(place, second)) == (first, b"first", b"second")
    assert referrers(place, digest(b"another image")) == []
    # The image is what its name means, whatever refers to it.
    assert place.document("latest") == IMAGE.manifest
    if not place.host:
        assert open_tree(f"oci:{place.url}").digest == open_tree(f"oci:{place.url}:latest").digest


def test_what_two_attach_at_once_is_kept_or_refused(fake: WritableRegistry) -> None:
    subject = put_image(of(fake), IMAGE)
    others = iter(range(100))

    def first(handler: Handler) -> bool:
        if handler.command == "GET" and "/manifests/sha256-" in handler.path:
            number = next(others)
            entry = {"mediaType": OCI["manifest"], "digest": digest(b"%d" % number), "size": 1, "artifactType": NOTE}
            said = {"schemaVersion": 2, "manifests": [entry]}
            if number % 2 and number < limit:
                fake.add_document(OCI["index"], json.dumps(said).encode(), handler.path.rpartition("/")[2])
        return False

    fake.first, limit = first, 3
    mine = attach(of(fake), subject, NOTE, b"mine", "text/plain")
    assert {one.digest for one in referrers(of(fake), subject.digest)} == {mine.digest, digest(b"1")}
    others, limit = iter(range(1, 200, 2)), 200
    with pytest.raises(ConflictError) as caught:
        attach(of(fake), subject, NOTE, b"yours", "text/plain")
    assert caught.value.kind == "referrers-busy"


def test_what_is_no_artifact_is_refused(fake: WritableRegistry) -> None:
    place = of(fake)
    subject = put_image(place, IMAGE)
    fake.add_document(OCI["index"], b"[]", subject.digest.replace(":", "-"))
    with pytest.raises(CorruptError):
        referrers(place, subject.digest)
    with pytest.raises(CorruptError):
        read(place, Described(fake.add_document("x", b"{}"), 2))


def test_layouts_keep_what_is_in_them_and_one_writer_at_a_time_lists(tmp_path: Path) -> None:
    layout = IMAGE.layout(tmp_path / "layout", "first")
    images = [Image(stargz({"a": str(number).encode()})) for number in range(8)]

    def write(number: int) -> None:
        put_image(to(f"oci:{layout}"), images[number], f"tag{number % 4}" if number < 4 else f"tag{number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert len(listed) == 9
    assert to(f"oci:{layout}").document("first") == IMAGE.manifest
    put_image(to(f"oci:{layout}"), images[7], "first")
    assert to(f"oci:{layout}").document("first") == images[7].manifest
    assert len(json.loads((layout / "index.json").read_bytes())["manifests"]) == 9


def test_a_layout_keeps_nothing_of_a_blob_whose_writer_was_killed(tmp_path: Path) -> None:
    write = f"""
import os, signal
from sapwood.image import ImageName
from sapwood.image.upload import open_write_place
open_write_place(ImageName.parse("oci:{tmp_path}/layout")).upload().write(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", write], check=False).returncode == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "layout").rglob("*") if path.is_file()) == ["oci-layout"]


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, kind in (("", "not-empty"), ("/file", "bad-address")):
        with pytest.raises(InvalidInputError) as caught:
            to(f"oci:{tmp_path}{name}")
        assert caught.value.kind == kind
    with pytest.raises(InvalidInputError) as caught:
        to(f"oci-archive:{tmp_path}/x")
    assert caught.value.kind == "not-supported"


def test_a_damaged_layout_is_an_error(tmp_path: Path) -> None:
    place = to(f"oci:{tmp_path}/it")
    described = put_image(place, IMAGE)
    (tmp_path / "it/blobs/sha256" / described.digest[7:]).write_bytes(b"{}")
    with pytest.raises(CorruptError):
        place.document("latest")
    (tmp_path / "outside").write_bytes(b"{}")
    odd = [b"[1]", b"[" * 5000, b"no"]
    listed: list[dict[str, Any]] = [{"digest": digest(data), "artifactType": "x"} for data in odd]
    for data in odd:
        place.put(data)
    listed += [{"annotations": {"org.opencontainers.image.ref.name": "none"}}, {"artifactType": "x"}]
    listed += [{"digest": "sha256:../../../outside", "artifactType": "x"}, {"digest": 7, "artifactType": "x"}]
    (tmp_path / "it/index.json").write_text(json.dumps({"manifests": listed}))
    assert place.document("none") is None
    assert referrers(place, described.digest) == []
    (tmp_path / "it/index.json").write_text("[]")
    with pytest.raises(CorruptError) as caught:
        place.document("latest")
    assert caught.value.kind == "image-corrupt"
