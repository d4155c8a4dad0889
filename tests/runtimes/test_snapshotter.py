"""Layers that sapwood wrote, mounted by the file system of containerd's stargz-snapshotter: bytes, and every fact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import snapshotter
from tests.support.cli import Sapwood
from tests.support.images import Image, gzipped
from tests.support.mounting import mounted
from tests.support.oci import copied, layout
from tests.support.rooted import takes_root
from tests.support.trees import Facts, look, noise

pytestmark = takes_root("the snapshotter mounts by root alone")

VARIANTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "in small chunks": ("--level", "1", "--chunk-size", "65536"),
    "with shared members": ("--min-chunk-size", "100000"),
    "prioritized": ("--prioritize", "list"),
}


def put(image: Path, name: str) -> None:
    """Copy an image from a layout into a registry, as it is."""
    copied(image, f"docker://{name}", "--dest-tls-verify=false", "--preserve-digests")


def seen(root: Path) -> dict[bytes, Facts]:
    # A FUSE file system has no holes.
    return {path: replace(facts, holes=()) for path, facts in look(root).items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_layer_that_is_mounted_is_the_tree(
    program: Path, sapwood: Sapwood, spelled: Path, registry: str, tmp_path: Path, variant: str
) -> None:
    (sapwood.home / "list").write_text("links/z/three\ncontents/text\nnames/...\n")
    archive = tmp_path / "layer.tar.gz"
    said = sapwood.good("pack", "--json", *VARIANTS[variant], spelled, archive).document
    layout(tmp_path / "image", archive, tar=said["tar"], annotations=said["annotations"])
    name = f"{registry}/variants:{variant.replace(' ', '-')}"
    put(tmp_path / "image", name)
    with snapshotter.layers(program, name, tmp_path / "mounted"):
        assert seen(tmp_path / "mounted" / "0") == seen(spelled)


def test_the_layers_of_a_converted_image_are_what_we_mount_of_the_image_as_it_was(
    program: Path, sapwood: Sapwood, registry: str, cache_dir: Path, tmp_path: Path
) -> None:
    large = noise(3 << 20, 1)
    bottom = {
        "etc": None, "etc/kept": b"kept", "etc/gone": b"gone", "opaque": None, "opaque/hidden": b"hidden",
        "large": large, "was-directory": None, "was-directory/file": b"1", "was-file": b"file", "a": b"several names",
        "b": "= a", "link": "-> etc/kept",
    }  # fmt: skip
    middle = {
        "etc": None, "etc/.wh.gone": b"", "opaque": None, "opaque/.wh..wh..opq": b"", "opaque/seen": b"seen",
        "was-directory": b"a file now", "was-file": None, "was-file/inside": b"2",
    }  # fmt: skip
    top = {"large": b"small now", "etc": None, "etc/new": b"new", "etc/again": "= etc/new", ".wh.link": b""}
    made = f"oci:{Image(*(gzipped(entries) for entries in (bottom, middle, top))).layout(tmp_path / 'image')}"
    name = f"{registry}/layers:1"
    (tmp_path / "list").write_text("etc/kept\nopaque/seen\n")
    sapwood.good("convert", "--prioritize", tmp_path / "list", made, f"oci://{name}")
    with (
        snapshotter.overlaid(program, name, tmp_path / "theirs") as theirs,
        mounted(made, tmp_path / "ours", cache_dir),
    ):
        found, wanted = seen(theirs), seen(tmp_path / "ours")
    assert wanted.keys() >= {b"etc/again", b"opaque/seen", b"was-file/inside", b"was-directory", b"large"}
    assert not wanted.keys() & {b"etc/gone", b"opaque/hidden", b"link"}
    # No layer says anything of the root.
    del found[b"."], wanted[b"."]
    assert found == wanted


def test_a_layer_without_our_toc_is_refused_there_so_that_what_is_shown_above_was_read_by_it(
    program: Path, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/plain:1"
    put(Image(gzipped({"file": b"content"})).layout(tmp_path / "image"), name)
    with pytest.raises(AssertionError, match="layer 0"), snapshotter.layers(program, name, tmp_path / "mounted"):
        pass
