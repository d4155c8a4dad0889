"""Profiles that travel with images: pushed by one machine, found and followed by another, and trusted by none."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sapwood.digests import TreeDigest
from sapwood.errors import CorruptError, SapwoodError, UnavailableError
from sapwood.image import Image, ImageName, open_image
from sapwood.image.manifest import Described
from sapwood.image.profiles import ARTIFACT, fetch_profile, keep_traced, known_profile, push_profile, traced_here
from sapwood.image.referrers import attach, referrers
from sapwood.image.upload import open_write_place
from sapwood.profile import Profile
from sapwood.store import attempts
from tests.support.badserver import send
from tests.support.cli import Sapwood
from tests.support.fakeregistry import Handler, registry
from tests.support.fakeuploads import WritableRegistry
from tests.support.images import OCI, gzipped, stargz
from tests.support.images import Image as Made
from tests.support.mounting import mounted, shell
from tests.support.programs import busybox

FILES = {name: os.urandom(300_000) for name in ("one", "two", "three")}
IMAGE = Made(stargz({"small": b"s"} | FILES))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableRegistry]:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.001)
    with registry(WritableRegistry()) as made:
        assert isinstance(made, WritableRegistry)
        made.has_referrers = True
        made.add(IMAGE, "latest")
        yield made


@pytest.fixture(params=["registry", "fake", "layout"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The image in Debian's docker-registry, in one with a referrers API, and in a layout."""
    if request.param == "layout":
        return f"oci:{IMAGE.layout(tmp_path / 'layout')}"
    if request.param == "fake":
        return f"oci://{request.getfixturevalue('fake').host}/some/name"
    name = f"oci://{request.getfixturevalue('registry_host')}/{tmp_path.name.lower().replace('_', '-')}"
    place = open_write_place(ImageName.parse(name))
    for data in IMAGE.blobs().values():
        place.put(data)
    place.put_document(IMAGE.manifest, OCI["manifest"], tag="latest")
    return name


def opened(address: str, cache: Path) -> tuple[Image, TreeDigest]:
    image, tree = open_image(ImageName.parse(address), cache_dir=cache)
    return image, tree.tree


def run_of(tree: TreeDigest, *names: str, second: int = 0) -> Profile:
    read = [(name.encode(), 0, [(0, len(FILES.get(name, b"s")))], [b"test"]) for name in names]
    return Profile.of_run(tree, f"2026-01-01T00:00:{second:02}Z", read)


def paths(profile: Profile | None) -> set[bytes]:
    assert profile is not None
    return set(profile.paths())


def test_what_one_machine_pushes_others_find_and_add_to(address: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    image, tree = opened(address, here)
    assert fetch_profile(image.found, here) is None
    # What was traced here before goes with it, and is then only there.
    keep_traced(run_of(tree, "one"), here)
    assert push_profile(image, run_of(tree, "two", second=1), here).runs == 2
    assert traced_here(tree, here) is None
    other, _ = opened(address, there)
    found = fetch_profile(other.found, there)
    assert (paths(found), found and found.runs) == ({b"one", b"two"}, 2)
    whole = push_profile(other, run_of(tree, "three", second=2), there)
    assert (paths(whole), whole.runs) == ({b"one", b"two", b"three"}, 3)
    assert fetch_profile(image.found, here) == whole
    # What it has in it is no more, where it can be taken away, and the image is what it was.
    place = open_write_place(ImageName.parse(address))
    assert len(referrers(place, image.found.described.digest, ARTIFACT)) == 1
    assert opened(address, tmp_path / "new")[1] == tree


def test_one_machine_knows_its_own_runs_and_those_of_others(fake: WritableRegistry, tmp_path: Path) -> None:
    image, tree = opened(f"oci://{fake.host}/some/name", tmp_path)
    push_profile(image, run_of(tree, "one"), tmp_path)
    keep_traced(run_of(tree, "two", second=1), tmp_path)
    known = known_profile(image, tree, tmp_path)
    assert (paths(known), known and known.runs) == ({b"one", b"two"}, 2)
    # Of another image of this tree, whatever it is called.
    assert traced_here(tree, tmp_path) == run_of(tree, "two", second=1)


@pytest.mark.parametrize(("has_referrers", "nothing", "something"), [(True, 1, 2), (False, 2, 3)])
def test_it_takes_a_request_or_two_more(
    fake: WritableRegistry, tmp_path: Path, has_referrers: bool, nothing: int, something: int
) -> None:
    fake.has_referrers = has_referrers
    address = f"oci://{fake.host}/some/name"
    image, tree = opened(address, tmp_path)
    before = len(fake.asked)
    assert fetch_profile(image.found, tmp_path) is None
    assert len(fake.asked) == before + nothing
    push_profile(image, run_of(tree, "one"), tmp_path)
    before = len(fake.asked)
    assert paths(fetch_profile(image.found, tmp_path)) == {b"one"}
    assert len(fake.asked) == before + something


def test_a_mount_follows_what_lies_beside_its_image(fake: WritableRegistry, tmp_path: Path) -> None:
    address = f"oci://{fake.host}/some/name"
    image, tree = opened(address, tmp_path / "here")
    push_profile(image, run_of(tree, "two"), tmp_path / "here")
    came = threading.Event()
    begin, length = frame_of(image, b"two")

    def noted(handler: Handler) -> bool:
        first, _, last = handler.headers.get("Range", "bytes=0-0").removeprefix("bytes=").partition("-")
        if "/blobs/" in handler.path and int(first) <= begin and begin + length <= int(last) + 1:
            came.set()
        return False

    fake.first = noted
    with mounted(address, tmp_path / "mount", tmp_path / "there", prefetch=False):
        # Nobody reads it.
        assert came.wait(60)


def frame_of(image: Image, path: bytes) -> tuple[int, int]:
    entry = image.file_map.lookup(path)
    assert entry is not None
    frame = entry.chunks[0][0]
    return frame.offset, frame.length


def test_a_profile_is_asked_for_before_the_layers_are_there(fake: WritableRegistry, tmp_path: Path) -> None:
    asked = threading.Event()

    def first(handler: Handler) -> bool:
        if "/referrers/" in handler.path:
            asked.set()
        elif "/blobs/" in handler.path:
            # Nothing of a layer comes before it was.
            assert asked.wait(60)
        return False

    fake.first = first
    with mounted(f"oci://{fake.host}/some/name", tmp_path / "mount", tmp_path / "cache", prefetch=False):
        assert shell(f"cat {tmp_path}/mount/small").stdout == "s"


def test_no_read_waits_for_a_profile(fake: WritableRegistry, tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(handler: Handler) -> bool:
        if "/referrers/" in handler.path:
            asked.set()
            go_on.wait(110)
        return False

    fake.first = slow
    try:
        with mounted(f"oci://{fake.host}/some/name", tmp_path / "mount", tmp_path / "cache", prefetch=False):
            assert shell(f"cat {tmp_path}/mount/small").stdout == "s"
            assert asked.wait(60)
            assert not go_on.is_set()
            go_on.set()
    finally:
        go_on.set()


def test_of_two_who_push_at_once_neither_is_lost(fake: WritableRegistry, tmp_path: Path) -> None:
    image, tree = opened(f"oci://{fake.host}/some/name", tmp_path)
    push_profile(image, run_of(tree, "one"), tmp_path)
    listed, pushed = threading.Event(), threading.Event()

    def meanwhile(handler: Handler) -> bool:
        # The list that the second sees has only what was there before the first wrote.
        if "/referrers/" in handler.path and not listed.is_set():
            listed.set()
            other, _ = opened(f"oci://{fake.host}/some/name", tmp_path / "other")
            send(handler, 200, json.dumps({"manifests": before}).encode())
            push_profile(other, run_of(tree, "two", second=1), tmp_path / "other")
            pushed.set()
            return True
        return False

    before = json.loads(open_write_place(image.name).referrers(image.found.described.digest) or b"")["manifests"]
    fake.first = meanwhile
    kept = dict(fake.manifests)
    push_profile(image, run_of(tree, "three", second=2), tmp_path)
    assert pushed.wait(60)
    fake.first = lambda _: False
    assert set(kept) - set(fake.manifests), "what both have in them"
    # Each has the first; who only reads gets one of them, the next to write merges both.
    assert paths(fetch_profile(image.found, tmp_path)) in ({b"one", b"two"}, {b"one", b"three"})
    assert paths(push_profile(image, run_of(tree, "small", second=3), tmp_path)) == {b"one", b"two", b"three", b"small"}


def test_what_lies_beside_an_image_is_bounded_and_proved(fake: WritableRegistry, tmp_path: Path) -> None:
    image, tree = opened(f"oci://{fake.host}/some/name", tmp_path)
    place = open_write_place(image.name)
    good = run_of(tree, "one").encode()
    bomb = gzip.compress(bytes(200 << 20), 1)
    other = "sha256:" + "7" * 64
    lies = [
        (good, {"sapwood.profile.size": str(1 << 40)}, "holds no profile that is read"),
        (good, {"sapwood.profile.size": "many"}, "holds no profile that is read"),
        (good, {"sapwood.profile.blob": "sha256:../../x"}, "a digest that is none"),
        (bomb, {}, "is damaged: it is too large|is damaged: a line is too long"),
        (b"none", {}, "is damaged"),
    ]
    for number, (data, said, message) in enumerate(lies):
        blob = place.put(data)
        told = {"sapwood.profile.blob": blob.digest, "sapwood.profile.size": str(blob.size)}
        told |= {"sapwood.profile.runs": str(10 + number)}
        made = attach(place, image.found.described, ARTIFACT, data, "x", told | said)
        with pytest.raises(SapwoodError, match=message):
            fetch_profile(image.found, tmp_path)
        fake.manifests.pop(made.digest)
    # What is not there is no profile, and what another has by that name is none.
    attach(
        place, image.found.described, ARTIFACT, good, "x", {"sapwood.profile.blob": other, "sapwood.profile.size": "9"}
    )
    with pytest.raises(SapwoodError):
        fetch_profile(image.found, tmp_path)
    fake.blobs[other] = b"x" * 9
    with pytest.raises(CorruptError):
        fetch_profile(image.found, tmp_path)
    # A mount goes on without, and says so.
    with mounted(f"oci://{fake.host}/some/name", tmp_path / "mount", tmp_path / "cache") as started:
        assert shell(f"cat {tmp_path}/mount/small").stdout == "s"
        assert started.pid
    # Who adds a run leaves it as it is.
    assert push_profile(image, run_of(tree, "two"), tmp_path).runs == 1


def test_nothing_is_removed_that_is_no_profile_of_the_image(fake: WritableRegistry, tmp_path: Path) -> None:
    image, tree = opened(f"oci://{fake.host}/some/name", tmp_path)
    data = run_of(tree, "one").encode()
    blob = open_write_place(image.name).put(data)
    said = {"sapwood.profile.blob": blob.digest, "sapwood.profile.size": str(blob.size)}
    fake.has_referrers = False
    entries = [
        {"artifactType": ARTIFACT, "digest": name, "size": 1, "annotations": said}
        for name in (image.found.described.digest, "sha256:../../other/manifests/latest", "latest")
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    fake.add_document(OCI["index"], index, image.found.described.digest.replace(":", "-"))
    assert push_profile(image, run_of(tree, "two"), tmp_path).runs == 1
    assert not [path for method, path, _ in fake.asked if method == "DELETE"]
    assert image.found.described.digest in fake.manifests


def test_what_was_fetched_serves_while_the_registry_is_away(fake: WritableRegistry, tmp_path: Path) -> None:
    image, tree = opened(f"oci://{fake.host}/some/name", tmp_path)
    push_profile(image, run_of(tree, "one"), tmp_path / "other")
    assert paths(fetch_profile(image.found, tmp_path)) == {b"one"}
    fake.first = lambda handler: send(handler, 400) is None
    assert paths(fetch_profile(image.found, tmp_path)) == {b"one"}
    with pytest.raises(UnavailableError):
        fetch_profile(image.found, tmp_path / "new")
    # Of what is known here nobody else is needed.
    keep_traced(run_of(tree, "two"), tmp_path / "new")
    assert paths(known_profile(image, tree, tmp_path / "new")) == {b"two"}


def test_an_image_in_an_archive_has_nothing_beside_it(tmp_path: Path) -> None:
    image, _ = opened(f"docker-archive:{IMAGE.archive(tmp_path / 'it.tar', 'it:latest')}", tmp_path / "cache")
    assert fetch_profile(image.found, tmp_path / "cache") is None


def test_trace_pushes_what_ran_and_nothing_runs_whose_profile_could_not_be_pushed(
    fake: WritableRegistry, tmp_path: Path
) -> None:
    fake.add(Made(stargz(busybox("sh", "cat")), gzipped({"said": b"said\n"}), Cmd=["cat", "/said"]), "program")
    address = f"oci://{fake.host}/some/name:program"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here, there = Sapwood(tmp_path / "a"), Sapwood(tmp_path / "b")
    first = here("trace", "--push", "--json", address)
    assert first.code == 0, first.err
    assert there.good("trace", "--push", "--json", address).document["runs"] == 2
    assert "said" not in there.good("coverage", "--drop-list", address).out.splitlines()

    fake.first = lambda handler: handler.command == "POST" and send(handler, 403) is None
    for words in (["--push", address], ["--push", f"docker-archive:{IMAGE.archive(tmp_path / 'it.tar', 'it:latest')}"]):
        refused = here("trace", "--bind", f"{tmp_path}:/here", *words, "--", "sh", "-c", ": > /here/ran")
        assert refused.code in (2, 7)
    assert not (tmp_path / "ran").exists()
    assert "access refused" in here("trace", "--push", address).err
    assert "hint: no --push" in here("trace", "--push", "main", "--", "true").err


def test_an_artifact_of_an_image_in_a_layout_is_no_image(tmp_path: Path) -> None:
    address = f"oci:{IMAGE.layout(tmp_path / 'layout')}"
    image, tree = opened(address, tmp_path / "cache")
    push_profile(image, run_of(tree, "one"), tmp_path / "cache")
    assert image.found.described == Described(IMAGE.digest, len(IMAGE.manifest), OCI["manifest"])
    assert opened(address, tmp_path / "cache")[1] == tree


@pytest.mark.parametrize("command", ["convert", "slim"])
def test_what_lies_beside_an_image_lies_beside_what_is_made_of_it(
    fake: WritableRegistry, tmp_path: Path, command: str
) -> None:
    fake.add(Made(gzipped({"small": b"s"} | FILES)), "plain")
    address, run = f"oci://{fake.host}/some/name:plain", Sapwood(tmp_path)
    image, tree = opened(address, tmp_path / "here")
    push_profile(image, run_of(tree, "two"), tmp_path / "here")
    for out in (f"oci:{tmp_path}/layout", f"oci://{fake.host}/some/name:made"):
        said = run.good(command, address, out)
        assert "without" not in said.err
        made, _ = opened(out, tmp_path / "there")
        assert made.found.described.digest != image.found.described.digest
        assert paths(fetch_profile(made.found, tmp_path / "there")) == {b"two"}
    # What is at its place already is not written again.
    before = len(referrers(open_write_place(made.name), made.found.described.digest))
    run.good("convert", f"oci://{fake.host}/some/name:made", f"oci://{fake.host}/some/name:made")
    assert len(referrers(open_write_place(made.name), made.found.described.digest)) == before
    # It is no reason for nothing to be made.
    fake.first = lambda handler: "/referrers/" in handler.path and send(handler, 403) is None
    read = tmp_path / "read"
    read.write_bytes(run_of(tree, "two").encode())
    words = ["--profile", "read"] if command == "slim" else []
    said = run.good(command, *words, address, f"oci:{tmp_path}/other")
    assert "without its profile:" in said.err


def test_what_was_read_of_an_image_comes_first_in_what_is_packed_or_converted_of_it(tmp_path: Path) -> None:
    run, image = Sapwood(tmp_path), Made(gzipped({"small": b"s"} | FILES))
    address = f"oci:{image.layout(tmp_path / 'layout')}"
    for words in (
        ["pack", "--prioritize", "@read", address, "out.tar.gz"],
        ["convert", "--prioritize", "@read", address],
    ):
        refused = run(*words, *([f"oci:{tmp_path}/made"] if words[0] == "convert" else []))
        assert (refused.code, "nobody has recorded what is read of it" in refused.err) == (3, True)
    source, tree = opened(address, run.cache)
    keep_traced(run_of(tree, "two"), run.cache)
    run.good("pack", "--prioritize", "@read", address, "out.tar.gz")
    run.good("convert", "--prioritize", "@read", address, f"oci:{tmp_path}/made")
    made, _ = opened(f"oci:{tmp_path}/made", run.cache)
    layer = tmp_path / "made" / "blobs" / made.found.manifest.layers[0].digest.replace(":", "/")
    for path in (tmp_path / "out.tar.gz", layer):
        with tarfile.open(path) as tar:
            names = tar.getnames()
        assert {*names[: names.index(".prefetch.landmark")]} - {"."} == {"two"}
    assert made.found.described.digest != source.found.described.digest
