"""Images as trees: layers of every form, from every place, read by range and proved link by link."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sapwood.address import open_address
from sapwood.archive.write import Choices
from sapwood.digests import PackName
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError
from sapwood.image import ImageName, open_image
from sapwood.image.convert import convert_image
from sapwood.open import open_tree
from sapwood.tree import Tree
from tests.support import images
from tests.support.fakeregistry import FakeRegistry, registry
from tests.support.images import DOCKER, OCI, Image, Layer, chunked, gzipped, plain, stargz

FORMS = [plain, gzipped, stargz, chunked]
LARGE = os.urandom(3 << 20)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with registry() as made:
        yield made


def of(fake: FakeRegistry, tag: str = "latest") -> str:
    return f"oci://{fake.host}/some/name:{tag}"


def contents(tree: Tree) -> dict[str, bytes | str | None]:
    """Return what is below a tree, as images are made of."""
    out: dict[str, bytes | str | None] = {}
    for path, item in tree.list():
        if item.kind == "dir":
            out[path.decode()] = None
        elif item.kind == "reg":
            out[path.decode()] = b"".join(tree.read_blob(path))
        else:
            out[path.decode()] = f"{item.kind} {os.fsdecode(item.target or b'')}"
    return out


def three(form: Callable[[dict[str, bytes | str | None]], Layer]) -> list[Layer]:
    """Return layers in which something is replaced, taken away, hidden, and named twice."""
    return [
        form({"etc": None, "etc/a": b"one", "etc/gone": b"x", "lib": None, "lib/large": LARGE, "d": None, "d/x": b""}),
        form({"etc/a": b"two", "etc/.wh.gone": b"", "d": None, "d/.wh..wh..opq": b"", "d/y": b"two", "empty": b""}),
        form({"bin": None, "bin/sh": b"shell", "bin/bash": "= bin/sh", "link": "-> bin/sh", "lib/small": b"three"}),
    ]  # fmt: skip


SEEN = {
    "bin": None, "bin/bash": b"shell", "bin/sh": "hardlink bin/bash", "d": None, "d/y": b"two", "empty": b"",
    "etc": None, "etc/a": b"two", "lib": None, "lib/large": LARGE, "lib/small": b"three", "link": "symlink bin/sh",
}  # fmt: skip


@pytest.mark.parametrize("kinds", [OCI, DOCKER])
@pytest.mark.parametrize("form", FORMS)
def test_layers_of_each_form_are_one_tree(
    fake: FakeRegistry, form: Callable[..., Layer], kinds: dict[str, str]
) -> None:
    fake.add(Image(*three(form), kinds=kinds), "latest")
    assert contents(open_tree(of(fake))) == SEEN


def test_layers_of_several_forms_are_one_tree(fake: FakeRegistry) -> None:
    mixed = [three(form)[number] for number, form in enumerate((stargz, gzipped, chunked))]
    fake.add(Image(*mixed), "latest")
    assert contents(open_tree(of(fake))) == SEEN


@pytest.mark.parametrize("form", FORMS)
def test_a_layout_an_archive_of_it_and_what_docker_saves_are_read(tmp_path: Path, form: Callable[..., Layer]) -> None:
    image = Image(*three(form))
    layout = image.layout(tmp_path / "layout", "one")
    packed = images.archived(layout, tmp_path / "layout.tar")
    saved = image.archive(tmp_path / "saved.tar", "some/name:one")
    trees = [open_tree(name).digest for name in (f"oci:{layout}:one", f"oci:{layout}", f"oci-archive:{packed}:one")]
    trees += [open_tree(f"docker-archive:{saved}{tag}").digest for tag in ("", ":one", ":some/name:one")]
    assert len(set(trees)) == 1
    assert contents(open_tree(f"docker-archive:{saved}")) == SEEN
    for name in (f"oci:{layout}", f"oci-archive:{packed}", f"docker-archive:{saved}", f"docker-archive:{packed}"):
        opened, tree = open_address(name)
        assert open_address(opened.url)[1] == tree, "by its digest it is the same"


def test_which_image_of_a_place_must_be_said(tmp_path: Path) -> None:
    layout = Image(plain({"a": b"1"})).layout(tmp_path / "layout", "one")
    Image(plain({"a": b"2"})).layout(layout, "two")
    assert contents(open_tree(f"oci:{layout}:two")) == {"a": b"2"}
    saved = Image(plain({"a": b"3"})).archive(tmp_path / "saved.tar", "name:one")
    (tmp_path / "empty").mkdir()
    for name, remedy in {
        f"oci:{tmp_path}/empty": "sapwood convert, skopeo copy and buildah push write layouts",
        f"oci:{layout}": f"oci:{layout}:one",
        f"oci:{layout}:three": f"oci:{layout}:one",
        f"docker-archive:{saved}:two": f"docker-archive:{saved}:name:one",
        f"docker-archive:{tmp_path}/none": "of a registry: oci://HOST/REPOSITORY:TAG",
        f"oci:{tmp_path}/none": "of a registry: oci://HOST/REPOSITORY:TAG",
    }.items():
        with pytest.raises(NotFoundError) as caught:
            open_tree(name)
        assert (caught.value.kind, caught.value.hint) == ("image-missing", remedy)
    index = json.loads((layout / "index.json").read_text())
    [one] = [entry for entry in index["manifests"] if "one" in entry["annotations"].values()]
    (layout / "index.json").write_text(json.dumps(index | {"manifests": [one, one | {"annotations": {}}]}))
    assert contents(open_tree(f"oci:{layout}")) == {"a": b"1"}
    with pytest.raises(InvalidInputError, match="no OCI layout"):
        open_tree(f"oci:{saved}")


def test_an_archive_that_is_compressed_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar.gz"
    path.write_bytes(gzipped({"manifest.json": b"[]"}).data)
    with pytest.raises(InvalidInputError) as caught:
        open_tree(f"docker-archive:{path}")
    assert (caught.value.kind, caught.value.hint) == ("not-supported", f"gzip -dk {path}")


@pytest.mark.parametrize("form", [stargz, chunked])
def test_only_what_is_read_is_fetched_of_a_layer_with_a_toc(fake: FakeRegistry, form: Callable[..., Layer]) -> None:
    image = Image(form({"small": b"small", "large": LARGE, "other": LARGE[::-1]}))
    fake.add(image, "latest")
    sent: list[int] = []

    def note(handler: object) -> bool:
        asked = getattr(handler, "headers").get("Range")  # noqa: B009
        if asked:
            begin, end = asked.removeprefix("bytes=").split("-")
            sent.append(int(end) - int(begin) + 1)
        return False

    fake.first = note  # type: ignore[assignment]
    assert b"".join(open_tree(of(fake)).read_blob(b"small")) == b"small"
    assert sum(sent) < 200_000


def test_what_was_opened_once_is_opened_by_its_digest_without_a_request(fake: FakeRegistry) -> None:
    image = Image(stargz({"a": b"1"}), gzipped({"b": b"2"}), chunked({"c": b"3"}))
    fake.add(image, "latest")
    tree = open_tree(of(fake)).digest
    fake.asked.clear()
    pinned = f"oci://{fake.host}/some/name@{image.digest}"
    assert open_tree(pinned).digest == tree
    assert fake.asked == []
    assert b"".join(open_tree(pinned).read_blob(b"b")) == b"2", "a small plain layer is kept whole"
    assert fake.asked == []


def test_a_tag_is_asked_for_anew_and_an_open_image_stays_what_it_was(fake: FakeRegistry) -> None:
    old, new = Image(stargz({"a": b"1"})), Image(stargz({"a": b"2"}))
    fake.add(old, "latest")
    image, opened = open_address(of(fake))
    fake.add(new, "latest")
    assert opened.pinned == f"{of(fake)}@{old.digest}"  # type: ignore[union-attr]
    assert contents(open_tree(of(fake))) == {"a": b"2"}
    assert contents(open_tree(opened.pinned or "")) == {"a": b"1"}  # type: ignore[union-attr]
    assert image.url == opened.pinned  # type: ignore[union-attr]


def test_the_image_for_a_platform_is_taken_out_of_an_index(fake: FakeRegistry) -> None:
    arm, v6, amd = (Image(plain({"a": text})) for text in (b"arm64", b"v6", b"amd64"))
    for image in (arm, v6, amd):
        fake.add(image)
    entries = [
        arm.described(os="linux", architecture="arm64", variant="v8"),
        v6.described(os="linux", architecture="arm", variant="v6"),
        amd.described(os="linux", architecture="amd64"),
        amd.described(os="unknown", architecture="unknown"),
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": entries}).encode()
    nested = {"mediaType": OCI["index"], "digest": images.digest(index), "size": len(index)}
    fake.add_document(OCI["index"], index, "latest")
    fake.add_document(OCI["index"], json.dumps({"schemaVersion": 2, "manifests": [nested]}).encode(), "nested")
    for platform, text in {"linux/arm64": b"arm64", "linux/arm/v6": b"v6", "linux/amd64": b"amd64"}.items():
        assert contents(open_tree(f"{of(fake)}?platform={platform}")) == {"a": text}
        assert contents(open_tree(f"{of(fake, 'nested')}?platform={platform}")) == {"a": text}
    with pytest.raises(NotFoundError, match="linux/amd64, linux/arm/v6, linux/arm64/v8") as caught:
        open_tree(f"{of(fake)}?platform=windows/amd64")
    assert caught.value.kind == "platform-missing"


def test_an_image_that_is_for_another_platform_is_not_that_which_is_asked_for(
    fake: FakeRegistry, tmp_path: Path
) -> None:
    fake.add(Image(plain({"a": b"1"}), architecture="arm64"), "latest")
    for name in ("", "?platform=linux/arm64", "?platform=linux/arm64/v8"):
        assert contents(open_tree(of(fake) + name)) == {"a": b"1"}
    with pytest.raises(NotFoundError, match="one image, for linux/arm64") as caught:
        open_tree(f"{of(fake)}?platform=linux/amd64")
    assert (caught.value.kind, caught.value.hint) == ("platform-missing", "--platform linux/arm64")
    with pytest.raises(NotFoundError) as caught:
        convert_image(
            ImageName.parse(f"{of(fake)}?platform=linux/amd64"), ImageName.parse(f"oci:{tmp_path}/no:1"), Choices()
        )
    assert caught.value.kind == "platform-missing"


@pytest.mark.parametrize("form", [stargz, chunked])
def test_a_toc_that_the_manifest_does_not_vouch_for_is_not_used(fake: FakeRegistry, form: Callable[..., Layer]) -> None:
    layer = form({"a": b"1", "b": LARGE})
    bare = Layer(layer.data, layer.tar, layer.form)
    fake.add(Image(bare), "latest")
    assert set(contents(open_tree(of(fake)))) == {"a", "b"}
    wrong = Layer(layer.data, layer.tar, layer.form, dict.fromkeys(layer.annotations, "sha256:" + "0" * 64))
    fake.add(Image(wrong), "wrong")
    with pytest.raises(CorruptError, match="another than the manifest names") as caught:
        open_tree(of(fake, "wrong"))
    assert caught.value.kind == "image-corrupt"


@pytest.mark.parametrize("form", [plain, gzipped])
def test_a_plain_layer_is_proved_before_anything_of_it_is_believed(
    fake: FakeRegistry, form: Callable[..., Layer]
) -> None:
    for text in (b"small", os.urandom(9 << 20)):
        good, other = form({"a": text}), form({"a": text[::-1]})
        image = Image(good)
        fake.add(image, "latest")
        fake.blobs[good.digest] = other.data[: len(good.data)].ljust(len(good.data), b"\0")
        with pytest.raises(CorruptError) as caught:
            open_tree(of(fake))
        assert caught.value.kind in ("image-corrupt", "archive-corrupt")
        fake.blobs[good.digest] = good.data
        assert contents(open_tree(of(fake))) == {"a": text}


def test_what_is_kept_of_layers_is_proved_or_made_again(fake: FakeRegistry, cache_dir: Path) -> None:
    fake.add(Image(*three(stargz)), "toc")
    fake.add(Image(*three(gzipped)), "index")
    before = [contents(open_tree(of(fake, tag))) for tag in ("toc", "index")]
    for file in [*(cache_dir / "layers").iterdir(), *(cache_dir / "archives").iterdir()]:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        if not file.name.endswith(".blob"):
            file.write_bytes(data)
    assert [contents(open_tree(of(fake, tag))) for tag in ("toc", "index")] == before
    shutil.rmtree(cache_dir)
    assert [contents(open_tree(of(fake, tag))) for tag in ("toc", "index")] == before


def test_a_directory_that_a_layer_does_not_name_keeps_what_lower_ones_say(fake: FakeRegistry) -> None:
    info = tarfile.TarInfo("tmp")
    info.type, info.mode, info.uid = tarfile.DIRTYPE, 0o1777, 7
    for form in FORMS:
        fake.add(Image(form({"tmp": info}), form({"tmp/a": b"1"})), "latest")
        item = open_tree(of(fake)).lookup(b"tmp")
        assert (item.mode, item.uid) == (0o1777, 7)


@pytest.mark.parametrize("form", [plain, gzipped])
def test_a_hard_link_across_layers_is_another_name_of_the_lower_ones_file(
    fake: FakeRegistry, form: Callable[..., Layer]
) -> None:
    upper = form({"b": "= lib/a", ".wh.c": b"", "d": "= c"})
    for base in FORMS:
        fake.add(Image(base({"lib": None, "lib/a": LARGE, "c": b"c"}), upper), "latest")
        # Also of what was kept of its layers.
        for _ in range(2):
            tree = open_tree(of(fake))
            assert contents(tree) == {"b": LARGE, "d": b"c", "lib": None, "lib/a": "hardlink b"}
    fake.add(Image(form({"a": b""}), form({"b": "= x/none"})), "latest")
    with pytest.raises(CorruptError, match="b is a hard link to x/none, of which no layer below has a file") as caught:
        open_tree(of(fake)).list()
    assert caught.value.kind == "image-corrupt"


def test_an_image_without_layers_is_an_empty_tree(fake: FakeRegistry) -> None:
    fake.add(Image(), "latest")
    assert contents(open_tree(of(fake))) == {}


@pytest.mark.parametrize(("between", "requests"), [(8_000, 1), (40_000, 2)])
def test_what_lies_between_two_ranges_comes_along_if_it_is_little(
    fake: FakeRegistry, between: int, requests: int
) -> None:
    fake.add(Image(stargz({"large": os.urandom(1 << 20)})), "apart")
    image, _ = open_image(ImageName.parse(f"oci://{fake.host}/some/name:apart"))
    [first, *_] = image.file_map.lookup(b"large").chunks  # type: ignore[union-attr]
    before = fake.blob_requests()
    found = image.read_ranges(PackName(first[0].pack), [(0, 1000), (1000 + between, 500)])
    assert [len(one) for one in found] == [1000, 500]
    assert fake.blob_requests() - before == requests
