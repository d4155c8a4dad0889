"""Images converted: the same tree, each layer entered anywhere, nothing sent that is there."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sapwood.archive.write import Choices
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError
from sapwood.image import ImageName
from sapwood.image.convert import Converted, convert_image
from sapwood.open import open_tree
from sapwood.profile import Part, Profile
from tests.support.cli import Sapwood
from tests.support.fakeregistry import FakeRegistry, registry
from tests.support.fakeuploads import WritableRegistry
from tests.support.images import DOCKER, OCI, Image, Layer, archived, chunked, gzipped, plain, stargz, tar_of

ZSTD = Choices(zstd=True)
TOC = "containerd.io/snapshot/stargz/toc.digest"
CHECKSUM = "io.github.containers.zstd-chunked.manifest-checksum"
SIZE = "io.containers.estargz.uncompressed-size"
LARGE = os.urandom(1 << 20)
HISTORY = [{"created_by": "one"}, {"created_by": "ENV", "empty_layer": True}, {"created_by": "two"}]


@pytest.fixture
def source() -> Iterator[FakeRegistry]:
    with registry() as made:
        yield made


@pytest.fixture
def target() -> Iterator[WritableRegistry]:
    with registry(WritableRegistry()) as made:
        assert isinstance(made, WritableRegistry)
        yield made


def of(fake: FakeRegistry, tag: str = "latest") -> str:
    return f"oci://{fake.host}/some/name:{tag}"


def convert(a: object, b: object, choices: Choices | None = None, cache_dir: Path | None = None) -> Converted:
    return convert_image(ImageName.parse(str(a)), ImageName.parse(str(b)), choices, cache_dir=cache_dir)


def layers(form: Callable[..., Layer] = gzipped) -> list[Layer]:
    return [
        form({"etc": None, "etc/a": b"one", "etc/gone": b"x", "large": LARGE, "d": None, "d/x": b""}),
        form({"etc": None, "etc/.wh.gone": b"", "d": None, "d/.wh..wh..opq": b"", "d/y": b"2", "link": "-> etc/a"}),
    ]


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blob(place: Path, name: str) -> bytes:
    return (place / "blobs" / name.replace(":", "/")).read_bytes()


def document(place: Path, name: str) -> Any:
    return json.loads(blob(place, name))


def unpacked(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("choices", [None, ZSTD])
@pytest.mark.parametrize("form", [plain, gzipped, stargz, chunked])
def test_an_image_of_each_form_is_the_same_tree_in_layers_that_are_entered_anywhere(
    source: FakeRegistry, tmp_path: Path, form: Callable[..., Layer], choices: Choices | None
) -> None:
    image = Image(*layers(form), kinds=DOCKER if form is gzipped else OCI, Env=["A=1"])
    said = json.loads(image.config) | {"history": HISTORY, "created": "2020-01-01T00:00:00Z", "other": [1, "ü", None]}
    image.config = json.dumps(said).encode()
    image.said["config"] |= {"digest": digest(image.config), "size": len(image.config)}
    image.said["annotations"] = {"about": "it"}
    source.add(image, "latest")
    there = tmp_path / "there"
    done = convert(of(source), f"oci:{there}:new", choices)
    assert open_tree(f"oci:{there}:new").digest == open_tree(of(source)).digest
    manifest = document(there, done.name.digest or "")
    kinds = [OCI["zstd" if choices else "gzip"]] * 2
    assert [layer["mediaType"] for layer in manifest["layers"]] == kinds
    assert all((CHECKSUM if choices else TOC) in layer["annotations"] for layer in manifest["layers"])
    assert (manifest["mediaType"], manifest["config"]["mediaType"]) == (OCI["manifest"], OCI["config"])
    assert manifest["annotations"] == {"about": "it"}
    config = document(there, manifest["config"]["digest"])
    tars = [unpacked(blob(there, layer["digest"])) for layer in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [digest(tar) for tar in tars]
    assert config | {"rootfs": 0} == said | {"rootfs": 0}
    assert list(config) == list(said)
    stays = (form, choices) in ((stargz, None), (chunked, ZSTD))
    assert [layer.replaced is None for layer in done.images[0].layers] == [stays] * 2
    if not stays and choices is None:
        assert [layer["annotations"][SIZE] for layer in manifest["layers"]] == [str(len(tar)) for tar in tars]
    assert (done.name.digest == image.digest) == stays


def test_the_same_image_is_converted_into_the_same_bytes(tmp_path: Path) -> None:
    made = Image(*layers()).layout(tmp_path / "made")
    archive = archived(made, tmp_path / "made.tar")
    names = [
        convert(source, f"oci:{tmp_path}/{number}:x", cache_dir=tmp_path / f"cache{number}").name.digest
        for number, source in enumerate((f"oci:{made}", f"oci:{made}", f"oci-archive:{archive}"))
    ]
    assert len(set(names)) == 1


def test_what_docker_saved_is_converted(tmp_path: Path) -> None:
    saved = Image(*layers(plain)).archive(tmp_path / "saved.tar", "some/name:1")
    convert(f"docker-archive:{saved}", f"oci:{tmp_path}/there:1")
    assert open_tree(f"oci:{tmp_path}/there").digest == open_tree(f"docker-archive:{saved}").digest


def test_layers_that_are_right_stay_and_the_others_are_made(source: FakeRegistry, tmp_path: Path) -> None:
    first, second = layers(stargz)[0], layers(gzipped)[1]
    source.add(Image(first, second), "latest")
    done = convert(of(source), f"oci:{tmp_path}/there:1")
    assert [layer.replaced is None for layer in done.images[0].layers] == [True, False]
    assert blob(tmp_path / "there", first.digest) == first.data
    config = document(tmp_path / "there", document(tmp_path / "there", done.name.digest or "")["config"]["digest"])
    assert config["rootfs"]["diff_ids"][0] == digest(first.tar)
    again = convert(of(source), f"oci:{tmp_path}/anew:1", Choices(level=1))
    assert [layer.replaced is None for layer in again.images[0].layers] == [False, False]


def test_a_layer_whose_toc_lies_is_made_anew(source: FakeRegistry, tmp_path: Path) -> None:
    one = layers(stargz)[0]
    one.annotations = {TOC: digest(b"another")}
    source.add(Image(one), "latest")
    done = convert(of(source), f"oci:{tmp_path}/there:1")
    assert done.images[0].layers[0].replaced is not None
    assert b"".join(open_tree(f"oci:{tmp_path}/there").read_blob(b"etc/a")) == b"one"


def test_converted_again_nothing_is_read_and_nothing_sent(source: FakeRegistry, target: WritableRegistry) -> None:
    source.add(Image(*layers(gzipped), stargz({"s": b"1"})), "latest")
    first = convert(of(source), of(target))
    taken, read = target.taken, source.blob_requests()
    again = convert(of(source), of(target))
    assert (again.name, again.images[0].digest) == (first.name, first.images[0].digest)
    assert (target.taken, source.blob_requests(), again.bytes_read, again.bytes_sent) == (taken, read, 0, 0)
    assert {layer.came for layer in again.images[0].layers} == {"there"}
    # What one of them lacks, and that alone, is sent again.
    lost = first.images[0].layers[0].blob
    del target.blobs[lost.digest]
    assert convert(of(source), of(target)).bytes_sent == lost.size
    assert target.taken == taken + lost.size


def test_a_layer_that_is_there_twice_is_made_once(source: FakeRegistry, target: WritableRegistry) -> None:
    one, two = layers()
    source.add(Image(one, two, one), "latest")
    done = convert(of(source), of(target))
    assert len(done.images[0].layers) == 3
    assert sum(method == "PATCH" or "digest=" in path for method, path, _ in target.asked) == 3  # and the configuration


def test_what_another_repository_of_the_registry_has_is_taken_over(registry_host: str, tmp_path: Path) -> None:
    made = Image(stargz({"s": b"1"}), *layers(gzipped)).layout(tmp_path / "made")
    first = f"oci://{registry_host}/converted/first:1"
    done = convert(f"oci:{made}", first)
    assert [layer.came for layer in done.images[0].layers] == ["sent"] * 3
    # As they are, from where they are read; those made anew, from where they were written to.
    second = convert(first, f"oci://{registry_host}/converted/second:1")
    assert [layer.came for layer in second.images[0].layers] == ["taken"] * 3
    third = convert(f"oci:{made}", f"oci://{registry_host}/converted/third:1")
    assert [layer.came for layer in third.images[0].layers] == ["sent", "taken", "taken"]
    assert done.name.digest == second.name.digest == third.name.digest
    assert second.bytes_sent == 0
    assert open_tree(f"oci://{registry_host}/converted/third:1").digest == open_tree(f"oci:{made}").digest


def test_what_is_mounted_is_not_sent_by_the_registrys_own_account(
    source: FakeRegistry, target: WritableRegistry
) -> None:
    target.add(image := Image(*layers(stargz)), "latest")
    for layer in image.layers:
        target.others["some/name", layer.digest] = target.blobs.pop(layer.digest)
    target.others["some/name", digest(image.config)] = image.config
    # Where it is read from, it is there; not where it is written to.
    old = FakeRegistry()
    old.blobs = {name: data for (_, name), data in target.others.items()}
    new = target.give_blob

    def give_blob(handler: Any, name: str) -> None:
        (new if "/other/name/" in handler.path else old.give_blob)(handler, name)

    target.give_blob = give_blob  # type: ignore[method-assign]
    done = convert(of(target), f"oci://{target.host}/other/name:1")
    assert [layer.came for layer in done.images[0].layers] == ["taken", "taken"]
    assert target.taken == 0
    assert sum(method == "POST" and "mount=" in path for method, path, _ in target.asked) == 2


def test_all_images_of_an_index_are_converted_and_attestations_left_out(source: FakeRegistry, tmp_path: Path) -> None:
    ours, theirs = Image(*layers()), Image(layers()[0], gzipped({"arm": b"1"}), architecture="arm64")
    entries = []
    for image, platform in ((ours, {"architecture": "amd64"}), (theirs, {"architecture": "arm64", "variant": "v8"})):
        source.add(image)
        entries.append(image.described(os="linux", **platform) | {"annotations": {"kept": "yes"}})
    entries.append(ours.described(os="unknown", architecture="unknown"))
    index = {"schemaVersion": 2, "mediaType": OCI["index"], "manifests": entries, "annotations": {"about": "all"}}
    source.add_document(OCI["index"], json.dumps(index).encode(), "latest")
    done = convert(of(source), f"oci:{tmp_path}/there:1")
    assert [image.platform for image in done.images] == ["linux/amd64", "linux/arm64/v8"]
    assert done.left_out == 1
    said = document(tmp_path / "there", done.name.digest or "")
    assert (said["annotations"], said["mediaType"]) == ({"about": "all"}, OCI["index"])
    assert [entry["platform"]["architecture"] for entry in said["manifests"]] == ["amd64", "arm64"]
    assert [entry["annotations"] for entry in said["manifests"]] == [{"kept": "yes"}] * 2
    for name in ("linux/amd64", "linux/arm64"):
        there = open_tree(f"oci:{tmp_path}/there:1?platform={name}")
        assert there.digest == open_tree(f"{of(source)}?platform={name}").digest
    alone = convert(f"{of(source)}?platform=linux/arm64", f"oci:{tmp_path}/alone:1")
    assert [image.digest for image in alone.images] == [done.images[1].digest]
    assert alone.name.digest == done.images[1].digest
    with pytest.raises(NotFoundError) as caught:
        convert(f"{of(source)}?platform=linux/s390x", f"oci:{tmp_path}/none:1")
    assert caught.value.kind == "platform-missing"


def test_indexes_that_name_themselves_or_nothing_are_refused(source: FakeRegistry, tmp_path: Path) -> None:
    image = Image(stargz({"a": b"1"}))
    source.add(image)
    name, data = image.digest, image.manifest
    for _ in range(6):
        entry = {"mediaType": OCI["index"], "digest": name, "size": len(data)}
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": [entry] * 12}).encode()
        name = source.add_document(OCI["index"], data, "deep")
    wide = json.dumps({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": [image.described()] * 1001}).encode()
    source.add_document(OCI["index"], wide, "wide")
    source.add_document(OCI["index"], b'{"schemaVersion":2,"manifests":[]}', "empty")
    for tag, kind, told in (
        ("deep", InvalidInputError, "not-supported"),
        ("wide", CorruptError, "image-corrupt"),
        ("empty", NotFoundError, "image-missing"),
    ):
        with pytest.raises(kind) as caught:
            convert(of(source, tag), f"oci:{tmp_path}/there:1")
        assert caught.value.kind == told


def test_files_are_first_in_the_layer_that_has_them(source: FakeRegistry, tmp_path: Path) -> None:
    source.add(Image(*layers(), *layers(stargz), stargz({"z": b"1"})), "latest")
    done = convert(of(source), f"oci:{tmp_path}/there:1", Choices(prioritize=["./d/y", "/large", "nowhere"]))
    made = done.images[0].layers
    assert [layer.first for layer in made] == [(b"large",), (b"d/y",)] * 2 + [()]
    assert made[-1].replaced is None
    assert done.absent == (b"nowhere",)
    tar = unpacked(blob(tmp_path / "there", made[0].blob.digest))
    assert tar.index(b"large\0") < tar.index(b".prefetch.landmark") < tar.index(b"etc/gone\0")
    again = convert(of(source), f"oci:{tmp_path}/there:1", Choices(prioritize=["large", "d/y", "nowhere"]))
    assert (again.name, again.absent, again.bytes_read) == (done.name, done.absent, 0)


@pytest.mark.parametrize("choices", [None, ZSTD])
def test_a_layer_with_links_to_files_below_it_is_converted(tmp_path: Path, choices: Choices | None) -> None:
    made = Image(*layers(), gzipped({"again": "= etc/a", "d": None, "d/third": "= again"})).layout(tmp_path / "made")
    convert(f"oci:{made}", f"oci:{tmp_path}/there:1", choices)
    assert open_tree(f"oci:{tmp_path}/there:1").digest == open_tree(f"oci:{made}").digest
    assert b"".join(open_tree(f"oci:{tmp_path}/there:1").read_blob(b"again")) == b"one"


def test_what_became_of_a_layer_is_made_again_when_what_is_kept_is_damaged(
    source: FakeRegistry, tmp_path: Path, cache_dir: Path
) -> None:
    source.add(Image(*layers()), "latest")
    first = convert(of(source), f"oci:{tmp_path}/there:1")
    kept = [*(cache_dir / "layers").glob("*.made")]
    assert len(kept) == 2
    for path in kept:
        path.write_bytes(path.read_bytes().replace(b"sha256:", b"sha256;"))
    again = convert(of(source), f"oci:{tmp_path}/there:1")
    assert again.name == first.name
    assert again.bytes_read > 0


def test_an_image_can_be_converted_in_its_place(source: FakeRegistry, tmp_path: Path) -> None:
    made = Image(*layers()).layout(tmp_path / "made", "1")
    before = open_tree(f"oci:{made}:1").digest
    convert(f"oci:{made}:1", f"oci:{made}:1")
    assert open_tree(f"oci:{made}:1").digest == before
    assert len(json.loads((made / "index.json").read_bytes())["manifests"]) == 1


def test_a_configuration_that_does_not_say_its_layers_is_refused(source: FakeRegistry, tmp_path: Path) -> None:
    image = Image(*layers())
    image.layers = image.layers[:1]
    image.said["layers"] = image.said["layers"][:1]
    source.add(image, "latest")
    with pytest.raises(CorruptError) as caught:
        convert(of(source), f"oci:{tmp_path}/there:1")
    assert caught.value.kind == "image-corrupt"


@pytest.mark.parametrize("ending", ["@sha256:" + "0" * 64, "?platform=linux/amd64"])
def test_what_is_written_cannot_be_said_before(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        convert(f"oci:{tmp_path}", f"oci:{tmp_path}/b:1{ending}")
    assert caught.value.kind == "bad-address"


def test_the_command_says_what_became_of_the_image(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    made = Image(layers(stargz)[0], layers()[1]).layout(tmp_path / "made", "1")
    (tmp_path / "list").write_text("d/y\nnowhere\n")
    done = run.good("convert", "--prioritize", "list", f"oci:{made}:1", "oci:there:1")
    name = done.out.strip()
    assert name.startswith(f"oci:{tmp_path}/there:1@sha256:")
    assert "linux/amd64: 2 layers: 1 as it was and sent, 1 converted and sent" in done.err
    assert "not there to be first: nowhere" in done.err
    assert "all is well" in run.good("verify", name).err or run.good("verify", name).code == 0
    said = run.good("convert", "--json", "--prioritize", "list", f"oci:{made}:1", "oci:there:1").document
    assert set(said) == {
        "address", "digest", "images", "bytesRead", "bytesSent", "absent", "leftOut", "requests", "requestsByVerb",
        "seconds",
    }  # fmt: skip
    assert (said["address"], said["bytesRead"], said["absent"]) == (name, 0, ["nowhere"])
    [image] = said["images"]
    assert set(image) == {"platform", "source", "digest", "layers"}
    assert [layer["converted"] for layer in image["layers"]] == [False, True]
    assert set(image["layers"][0]) == {"source", "sourceSize", "digest", "size", "converted", "came", "annotations"}
    row = next(line for line in Path("docs/cli.md").read_text(encoding="utf-8").splitlines() if "| convert |" in line)
    assert all(name in row for name in (*said, *image, *image["layers"][0]))


def test_an_image_and_what_is_none_are_told_apart(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "a.tar").write_bytes(tar_of({"a": b"1"}))
    for words in (
        ("oci:it", "out.tar.gz"),
        ("a.tar", "oci:it:1"),
        ("a.tar", "out.tar.gz", "--platform", "linux/arm64"),
    ):
        done = run("convert", *words)
        assert done.code == 2
        assert "image" in done.err


def test_a_profile_of_the_image_says_what_is_first(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    made = Image(*layers()).layout(tmp_path / "made", "1")
    parts = tuple(Part(name, 0, 1, 1, 0, frozenset()) for name in (b"etc/a", b"large"))
    profile = Profile(open_tree(f"oci:{made}:1").digest, 1, "2026-01-01T00:00:00Z", parts)
    (tmp_path / "profile").write_bytes(profile.encode())
    said = run.good("convert", "--json", "--prioritize", "profile", f"oci:{made}:1", "oci:there:1").document
    assert said["absent"] == []
