"""`push IMAGE STORE#REF`, `convert STORE#REF IMAGE` and `tar --layer`: an image comes back with the digests it had."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, SapwoodError
from sapwood.fetch import load_map
from sapwood.image import ImageName
from sapwood.oci import staging
from sapwood.oci.giving import Given, give_image
from sapwood.oci.stored import FOLDER, StoredImage
from sapwood.oci.storing import SCRATCH, find_image, push_image
from sapwood.open import OpenStore
from sapwood.push import Pushed
from sapwood.scratch import scratch
from sapwood.upkeep.copy import copy
from sapwood.upkeep.gc import collect
from sapwood.upkeep.verify import verify
from tests.support.cli import Sapwood
from tests.support.images import Image, Layer, chunked, gzipped, plain, stargz
from tests.support.smalldisk import small_disk

LARGE = random.Random(1).randbytes(1_500_000)
WORDS = b"".join(b"line %d of something that is written down\n" % number for number in range(4000))
BASE = {"etc": None, "etc/one": WORDS, "etc/gone": WORDS[::-1], "bin": None, "bin/tool": LARGE, "bin/sh": "-> tool"}
UPPER = {
    "etc": None,
    "etc/.wh.gone": b"",
    "etc/two": b"small",
    "bin/other": "= bin/tool",
    "bin": None,
    "bin/tool": LARGE,
}


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


def pushed(store: OpenStore, image: Image, place: Path, ref: str = "image") -> Pushed:
    if not place.exists():
        image.layout(place)
    return push_image(store, find_image(ImageName.parse(f"oci:{place}")), ref)


def given(store: OpenStore, to: Path, ref: str = "image") -> Given:
    return give_image(StoredImage(store, store.snapshot(ref)), ImageName.parse(f"oci:{to}:latest"))


def blobs(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place / "blobs" / "sha256").iterdir()}


def forms(store: OpenStore, ref: str = "image") -> list[str]:
    return [layer.form for layer in StoredImage(store, store.snapshot(ref)).layers]


def sent(store: OpenStore) -> int:
    place = Path(store.url) / "packs"
    return sum(path.stat().st_size for path in place.iterdir())


MADE: dict[str, tuple[Any, list[str]]] = {
    "plain": (plain, ["tar", "tar"]),
    "gzip": (gzipped, ["gzip", "gzip"]),
    "eStargz": (stargz, ["gzip", "gzip"]),
    "zstd:chunked": (chunked, ["kept", "kept"]),
}


@pytest.mark.parametrize("form", MADE)
def test_an_image_comes_back_with_the_digests_it_had(form: str, store: OpenStore, tmp_path: Path) -> None:
    make, expected = MADE[form]
    image = Image(make(BASE), make(UPPER), Env=["A=b"])
    pushed(store, image, tmp_path / "image")
    assert forms(store) == expected
    back = given(store, tmp_path / "back")
    assert back.digest == image.digest
    assert blobs(tmp_path / "back") == blobs(tmp_path / "image")
    verify(store, read_data=1.0)
    assert [entry.name for entry in load_map(store, store.snapshot("image"), pages=True).list(b"")] == [
        FOLDER.encode(),
        b"bin",
        b"etc",
    ]
    assert [entry.name for entry in load_map(store, store.snapshot("image"), pages=True).list(b"etc")] == [
        b"one",
        b"two",
    ]


def test_contents_are_stored_once_whichever_layers_and_images_have_them(store: OpenStore, tmp_path: Path) -> None:
    pushed(store, Image(gzipped(BASE)), tmp_path / "first", "first")
    before = sent(store)
    assert before < 1.2 * len(LARGE)
    # The same files, in another order, in two layers of which one hides the other, by another writer.
    other = {name: BASE[name] for name in ("bin", "bin/tool", "etc", "etc/one")}
    pushed(store, Image(stargz(other), plain({"bin": None, "bin/.wh.tool": b""})), tmp_path / "other", "other")
    assert sent(store) - before < 40_000
    given(store, tmp_path / "back", "other")
    assert blobs(tmp_path / "back") == blobs(tmp_path / "other")


def test_a_layer_that_the_image_before_has_is_not_read_again(store: OpenStore, tmp_path: Path) -> None:
    below = [gzipped(BASE), plain(UPPER), chunked({"srv": None, "srv/it": WORDS})]
    pushed(store, Image(*below), tmp_path / "image")
    # It hides files that the layers below are told by.
    new = Image(*below, gzipped({"etc": None, "etc/.wh.one": b"", "bin": None, "bin/.wh.tool": b"", "x": b"new"}))
    place = new.layout(tmp_path / "image2")
    for layer in below:
        (place / "blobs" / layer.digest.replace(":", "/")).unlink()
    done = pushed(store, new, place)
    assert done.bytes_hashed < 50_000
    given(store, tmp_path / "back")
    back = blobs(tmp_path / "back")
    assert back == {name.removeprefix("sha256:"): data for name, data in new.blobs().items()} | {
        new.digest.removeprefix("sha256:"): new.manifest
    }
    verify(store, read_data=1.0)


def test_an_image_that_the_ref_names_costs_its_manifest(store: OpenStore, tmp_path: Path) -> None:
    image = Image(gzipped(BASE))
    first = pushed(store, image, tmp_path / "image")
    for layer in image.layers:
        (tmp_path / "image" / "blobs" / layer.digest.replace(":", "/")).unlink()
    again = pushed(store, image, tmp_path / "image")
    assert (again.unchanged, again.snapshot, again.bytes_stored) == (True, first.snapshot, 0)


def test_what_the_store_lost_is_read_again(store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = gzipped(BASE)
    pushed(store, Image(below), tmp_path / "image")
    for path in (tmp_path / "store" / "packs").iterdir():
        path.unlink()
    # This machine saw what the ref names, and would not look.
    monkeypatch.setenv("SAPWOOD_CACHE", str(tmp_path / "elsewhere"))
    store = open_store(store.url)
    image = Image(below, gzipped({"x": b"new"}))
    pushed(store, image, tmp_path / "image2")
    given(store, tmp_path / "back")
    assert blobs(tmp_path / "back") == blobs(tmp_path / "image2")


def test_an_index_of_one_image_comes_back_too(store: OpenStore, tmp_path: Path) -> None:
    image = Image(gzipped(BASE))
    place = image.layout(tmp_path / "image")
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": image.kinds["index"], "manifests": [image.described()]}
    ).encode()
    name = hashlib.sha256(index).hexdigest()
    (place / "blobs" / "sha256" / name).write_bytes(index)
    said = {"mediaType": image.kinds["index"], "digest": f"sha256:{name}", "size": len(index)}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [said]}))
    pushed(store, image, place)
    assert given(store, tmp_path / "back").digest == f"sha256:{name}"
    assert blobs(tmp_path / "back") == blobs(place)


@pytest.mark.parametrize("how", ["fuse", "native", "writable"])
def test_a_mount_shows_the_image_and_nothing_beside_it(how: str, tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    Image(gzipped(BASE), chunked(UPPER)).layout(tmp_path / "image")
    sapwood.good("push", f"oci:{tmp_path}/image", "it")
    place = tmp_path / "place"
    place.mkdir()
    sapwood.good("mount", *(["--writable"] if how == "writable" else ["--tier", how]), "it", place)
    try:
        assert sorted(os.listdir(place)) == ["bin", "etc"]
        assert not (place / FOLDER).exists()
        assert (place / "bin" / "tool").read_bytes() == LARGE
        # What is pushed from there is a tree: it may have been changed, and would give nothing back.
        sapwood.good("push", place, "tree")
    finally:
        sapwood.good("umount", "--discard", place) if how == "writable" else sapwood.good("umount", place)
    assert [entry["path"] for entry in sapwood.good("ls", "tree", "--json").document] == ["bin", "etc"]
    assert sapwood("convert", "tree", f"oci:{tmp_path}/back:1").code == 3


def test_an_index_of_several_is_told_of_and_not_given_back(tmp_path: Path) -> None:
    sapwood, image = Sapwood(tmp_path), Image(gzipped(BASE))
    place = image.layout(tmp_path / "image")
    attestation = {"mediaType": image.kinds["manifest"], "digest": "sha256:" + "0" * 64, "size": 7}
    known = image.described(os="linux", architecture="amd64")
    entries = [known, attestation | {"platform": {"os": "unknown", "architecture": "unknown"}}]
    index = json.dumps({"schemaVersion": 2, "mediaType": image.kinds["index"], "manifests": entries}).encode()
    digest = hashlib.sha256(index).hexdigest()
    (place / "blobs" / "sha256" / digest).write_bytes(index)
    said = {"mediaType": image.kinds["index"], "digest": f"sha256:{digest}", "size": len(index)}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [said]}))
    sapwood.good("push", "--platform", "linux/amd64", f"oci:{place}", "it")
    given = sapwood.good("convert", "it", f"oci:{tmp_path}/back:latest")
    assert f"without its index sha256:{digest[:12]}" in given.err
    assert given.out.endswith(f"{image.digest}\n")
    again = sapwood.good("convert", "it", f"oci:{tmp_path}/back:latest", "--json")
    assert (again.document["digest"], again.document["indexLeft"]) == (image.digest, f"sha256:{digest}")


def test_what_is_told_of_a_push_is_the_image(tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    Image(gzipped({"a": b"one", "b": b"two", "c": b"three"}), plain({".wh.a": b""})).layout(tmp_path / "image")
    first = sapwood.good("push", f"oci:{tmp_path}/image", "it", "--json").document
    again = sapwood.good("push", f"oci:{tmp_path}/image", "it", "--json").document
    assert (first["unchanged"], again["unchanged"]) == (False, True)
    assert (first["files"], first["bytes"]) == (again["files"], again["bytes"]) == (2, 8)


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_a_layer_that_becomes_too_large_is_refused(
    form: str, store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = plain({"zeros": bytes(40_000_000)}).tar
    command = ["gzip", "-9c"] if form == "gzip" else ["zstd", "-qc"]
    bomb = Layer(subprocess.run(command, input=zeros, capture_output=True, check=True).stdout, zeros, form)
    monkeypatch.setattr(staging, "MOST_PLAIN", 20_000_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(CorruptError) as wrong:
        pushed(store, Image(plain(BASE), bomb), tmp_path / "image")
    assert (wrong.value.kind, bomb.digest[7:] in str(wrong.value)) == ("layer-too-large", True)
    assert not list(tmp_path.glob(f"{SCRATCH}*"))
    monkeypatch.setattr(staging, "MOST_PLAIN", 50_000_000)
    pushed(store, Image(plain(BASE), bomb), tmp_path / "image")


def test_a_disk_without_room_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sapwood = Sapwood(tmp_path)
    zeros = plain({"zeros": bytes(40_000_000)}).tar
    images = {"plain": Layer(zeros, zeros, "tar"), "gzip": Layer(gzip.compress(zeros), zeros, "gzip")}
    with small_disk(tmp_path / "disk", 32 << 20) as disk:
        monkeypatch.setenv("TMPDIR", str(disk))
        for name, layer in images.items():
            Image(layer).layout(tmp_path / name)
            said = sapwood("push", f"oci:{tmp_path}/{name}", "it")
            assert (said.code, "hint: TMPDIR=" in said.err or "No space left" in said.err) == (6, True), said.err
            assert os.listdir(disk) == []


def test_an_image_is_kept_by_its_ref_collected_with_it_and_copied(store: OpenStore, tmp_path: Path) -> None:
    image = Image(gzipped(BASE), chunked(UPPER))
    pushed(store, image, tmp_path / "image")
    pushed(store, Image(plain({"x": WORDS})), tmp_path / "other", "other")
    other = open_store(str(tmp_path / "other-store"), create=True)
    copy(store, store.snapshot("image"), other, "copied")
    store.remove_ref(store.read_ref("other"))
    for _ in range(3):
        collect(store, grace_s=0)
    given(store, tmp_path / "back")
    given(other, tmp_path / "back-of-copy", "copied")
    assert blobs(tmp_path / "back") == blobs(tmp_path / "back-of-copy") == blobs(tmp_path / "image")


def test_a_layer_that_is_not_what_its_manifest_names_is_not_stored(store: OpenStore, tmp_path: Path) -> None:
    image = Image(gzipped(BASE))
    place = image.layout(tmp_path / "image")
    blob = place / "blobs" / image.layers[0].digest.replace(":", "/")
    blob.write_bytes(blob.read_bytes()[:-9] + b"\0" + blob.read_bytes()[-8:])
    with pytest.raises(CorruptError) as wrong:
        pushed(store, image, place)
    assert wrong.value.kind == "image-corrupt"
    assert store.ref_state("image") is None


@pytest.mark.parametrize(
    "layer", [Layer(b"\xff" * 2000, b"", "tar"), Layer(b"\x1f\x8b\x08\0 and no more", b"", "gzip")]
)
def test_a_layer_that_is_no_tar_is_named(layer: Layer, store: OpenStore, tmp_path: Path) -> None:
    with pytest.raises(SapwoodError) as wrong:
        pushed(store, Image(plain(BASE), layer), tmp_path / "image")
    assert layer.digest[7:] in str(wrong.value)
    assert "sapwood-image-" not in str(wrong.value)


def test_an_image_that_says_what_pushes_say_is_believed_nothing(store: OpenStore, tmp_path: Path) -> None:
    """Neither our own folder nor an attribute of a layer tells a push of contents."""
    pushed(store, Image(plain({"secret": WORDS})), tmp_path / "first")
    import tarfile

    info = tarfile.TarInfo("steals")
    told = f"sha256:{hashlib.sha256(WORDS).hexdigest()}/{len(WORDS)}"
    info.pax_headers = {"SCHILY.xattr.sapwood.told": told, "SCHILY.xattr.user.sapwood": told}
    hostile = Image(plain({"steals": info, FOLDER: None, f"{FOLDER}/image.json": b"{}", "keeps": b"it"}))
    pushed(store, hostile, tmp_path / "image")
    entry = load_map(store, store.snapshot("image"), pages=True).lookup(b"steals")
    assert entry is not None
    assert entry.size == 0
    given(store, tmp_path / "back")
    assert blobs(tmp_path / "back") == blobs(tmp_path / "image")


def test_a_store_whose_image_was_changed_gives_back_an_error(store: OpenStore, tmp_path: Path) -> None:
    """A tree that anybody may have pushed in the form of an image."""
    pushed(store, Image(gzipped(BASE)), tmp_path / "image")
    tree = tmp_path / "tree"
    from sapwood.pull import pull
    from sapwood.push import push

    pull(store, store.snapshot("image"), str(tree))
    [folder] = (tree / FOLDER / "layers").iterdir()
    for changed, wrong in {
        folder / "headers": lambda data: data[:-600],
        folder / "parts": lambda data: data.replace(b"etc/one", b"etc/two"),
        folder / "corrections": lambda data: data[: len(data) // 2],
        tree / "etc" / "one": lambda data: data[::-1],
    }.items():
        sound = changed.read_bytes()
        changed.write_bytes(wrong(sound))
        push(store, str(tree), "changed")
        changed.write_bytes(sound)
        with pytest.raises(CorruptError) as found:
            given(store, tmp_path / "back", "changed")
        assert found.value.kind in ("image-corrupt", "damaged"), found.value
        assert store.url in str(found.value)


def test_a_tree_that_is_no_image_is_none_to_give_back(store: OpenStore, tmp_path: Path) -> None:
    from sapwood.push import push

    (tmp_path / "tree").mkdir()
    push(store, str(tmp_path / "tree"), "image")
    with pytest.raises(NotFoundError) as wrong:
        given(store, tmp_path / "back")
    assert wrong.value.kind == "image-missing"


def test_the_commands_push_an_image_and_give_it_and_its_layers_back(tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    image = Image(gzipped(BASE), chunked(UPPER))
    image.layout(tmp_path / "image")
    said = sapwood("push", f"oci:{tmp_path}/image", "store#it", "--json")
    assert said.code == 0, said.err
    assert said.document["ref"] == "it"
    given = sapwood("convert", "store#it", f"oci:{tmp_path}/back:latest", "--json")
    assert given.code == 0, given.err
    assert given.document["digest"] == image.digest
    assert (given.document["layers"], given.document["layersSent"]) == (2, 2)
    assert blobs(tmp_path / "back") == blobs(tmp_path / "image")
    again = sapwood("convert", "store#it", f"oci:{tmp_path}/back:latest")
    assert "0 sent" in again.err
    assert again.out == f"oci:{tmp_path}/back:latest@{image.digest}\n"
    for number, layer in enumerate(image.layers, 1):
        told = sapwood("tar", "--layer", str(number), "store#it", "-o", "layer.tar")
        assert told.out.strip() == f"sha256:{hashlib.sha256(layer.tar).hexdigest()}"
        assert (tmp_path / "layer.tar").read_bytes() == layer.tar
    assert sapwood("tar", "--layer", "3", "store#it").code == 2
    assert sapwood("convert", "--zstd", "store#it", f"oci:{tmp_path}/zstd").code == 2
    assert sapwood("push", "--gitignore", f"oci:{tmp_path}/image", "store#it").code == 2


def test_a_push_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    image = Image(plain({f"f{number}": random.Random(number).randbytes(2_500_000) for number in range(14)}))
    image.layout(tmp_path / "image")
    command = sapwood.command("push", f"oci:{tmp_path}/image", "store#it")
    process = subprocess.Popen(command, cwd=tmp_path, env=sapwood.environment, stderr=subprocess.DEVNULL)
    packs = tmp_path / "store" / "packs"
    while process.poll() is None and not (packs.exists() and any(packs.iterdir())):
        os.sched_yield()
    process.kill()
    process.wait()
    done = sapwood("push", f"oci:{tmp_path}/image", "store#it", "--json")
    assert done.code == 0, done.err
    given = sapwood("convert", "store#it", f"oci:{tmp_path}/back:latest", "--json")
    assert given.document["digest"] == image.digest


def test_what_the_killed_left_on_the_disk_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("left", "link", "new"):
        (tmp_path / f"{SCRATCH}{name}" / "layout").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / f"{SCRATCH}link").rename(tmp_path / "linked")
    (tmp_path / f"{SCRATCH}link").symlink_to(tmp_path / "linked")
    for name in (f"{SCRATCH}left", "linked", "other"):
        os.utime(tmp_path / name, (1, 1))
    with scratch(SCRATCH) as living:
        os.utime(living, (1, 1))
        with scratch(SCRATCH) as second:
            names = {living.name, second.name, f"{SCRATCH}new", f"{SCRATCH}link", "linked", "other"}
            assert set(os.listdir(tmp_path)) == names
    assert set(os.listdir(tmp_path)) == names - {living.name, second.name}


def test_two_pushes_at_once_leave_an_image_that_is_whole(tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    images = [Image(gzipped(BASE | {"which": b"%d" % number})) for number in range(2)]
    open_store(str(tmp_path / "store"), create=True)
    running = []
    for number, image in enumerate(images):
        image.layout(tmp_path / f"image{number}")
        command = sapwood.command("push", f"oci:{tmp_path}/image{number}", "store#it")
        running.append(subprocess.Popen(command, cwd=tmp_path, env=sapwood.environment, stderr=subprocess.PIPE))
    codes = []
    for process in running:
        process.communicate(timeout=60)
        codes.append(process.returncode)
    assert 0 in codes
    given = sapwood("convert", "store#it", f"oci:{tmp_path}/back:latest", "--json")
    assert given.document["digest"] in {image.digest for image in images}


def test_an_image_of_a_registry_comes_back_to_one_as_it_was(
    registry_host: str, store: OpenStore, tmp_path: Path
) -> None:
    image = Image(gzipped(BASE), chunked(UPPER))
    pushed(store, image, tmp_path / "image", "from-layout")
    there = ImageName.parse(f"oci://{registry_host}/stored/from:1")
    assert give_image(StoredImage(store, store.snapshot("from-layout")), there).layers_sent == 2
    push_image(store, find_image(there), "from-registry")
    back = give_image(
        StoredImage(store, store.snapshot("from-registry")), ImageName.parse(f"oci://{registry_host}/stored/to:1")
    )
    assert back.digest == image.digest
    for ending in (f"@{image.digest}", ":1?platform=linux/arm64"):
        with pytest.raises(InvalidInputError) as caught:
            give_image(StoredImage(store, store.snapshot("from-registry")), ImageName.parse(str(there)[:-2] + ending))
        assert caught.value.kind == "bad-address"
    assert find_image(ImageName.parse(f"oci://{registry_host}/stored/to:1")).described.digest == image.digest
    again = give_image(StoredImage(store, store.snapshot("from-registry")), there)
    assert (again.layers_sent, again.bytes_sent) == (0, 0)
