"""Images mounted: what programs see is the image, while its tag moves, its registry is away and servers die."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sapwood.errors import CorruptError
from sapwood.image import ImageName, open_image
from sapwood.mount import mounts
from tests.support.badserver import send
from tests.support.cli import Sapwood
from tests.support.fakeregistry import FakeRegistry, registry
from tests.support.images import Image, Layer, chunked, gzipped, stargz
from tests.support.mounting import mounted, shell
from tests.support.trees import look

LARGE = os.urandom(5 << 20)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with registry() as made:
        yield made


@pytest.mark.parametrize("form", [stargz, chunked, gzipped])
def test_a_mounted_image_is_what_is_pulled_of_it(
    fake: FakeRegistry, cache_dir: Path, tmp_path: Path, form: Callable[..., Layer]
) -> None:
    below = form({"bin": None, "bin/a": b"#!/bin/sh\necho a\n", "gone": b"x", "large": LARGE, "hole": bytes(3 << 20)})
    above = form({".wh.gone": b"", "bin": None, "bin/b": b"b", "link": "-> bin/a", "again": "= bin/b"})
    fake.add(Image(below, above), "latest")
    address = f"oci://{fake.host}/some/name:latest"
    run = Sapwood(tmp_path)
    pulled = run("pull", address, tmp_path / "pulled")
    assert pulled.code == 0, pulled.err
    with mounted(address, tmp_path / "mount", cache_dir):
        assert shell(f"diff -r --no-dereference {tmp_path}/pulled {tmp_path}/mount").stdout == ""
        assert shell(f"cat {tmp_path}/mount/large | cmp - {tmp_path}/pulled/large").returncode == 0
        assert look(tmp_path / "mount") == look(tmp_path / "pulled")


def test_a_mount_keeps_its_digest_while_the_tag_moves_the_server_dies_and_the_registry_is_away(
    fake: FakeRegistry, cache_dir: Path, tmp_path: Path
) -> None:
    fake.add(Image(stargz({"a": b"old", "large": LARGE}), gzipped({"b": b"old"})), "latest")
    address = f"oci://{fake.host}/some/name:latest"
    with mounted(address, tmp_path / "mount", cache_dir, prefetch=False):
        fake.add(Image(stargz({"a": b"new"})), "latest")
        fake.first = lambda handler: "/manifests/" in handler.path and send(handler, 503) is None
        [mount] = (mount for mount in mounts() if mount.path == tmp_path / "mount")
        assert mount.server
        os.kill(mount.server, signal.SIGKILL)
        assert shell(f"cat {tmp_path}/mount/a {tmp_path}/mount/b").stdout == "oldold"
        assert shell(f"cat {tmp_path}/mount/large | wc -c").stdout.strip() == str(len(LARGE))


def test_a_token_that_ends_under_a_mount_is_followed_by_another(
    fake: FakeRegistry, cache_dir: Path, tmp_path: Path
) -> None:
    fake.scheme = "bearer"
    fake.add(Image(stargz({"a": b"1", "large": LARGE})), "latest")
    with mounted(f"oci://{fake.host}/some/name:latest", tmp_path / "mount", cache_dir, prefetch=False):
        fake.tokens.clear()
        assert shell(f"cat {tmp_path}/mount/large | wc -c").stdout.strip() == str(len(LARGE))


def test_an_image_of_many_entries_is_mounted_again_without_its_tocs(
    fake: FakeRegistry, cache_dir: Path, tmp_path: Path
) -> None:
    many: dict[str, Any] = {f"d{number:03}": None for number in range(100)}
    many |= {f"d{number % 100:03}/file{number}": b"%d" % number for number in range(21_000)}
    below, above = stargz({**many, "large": LARGE}), chunked({"d001": None, "d001/.wh.file1": b"", "new": b"new"})
    fake.add(Image(below, above), "latest")
    fake.add(Image(below, above, gzipped({"led": b"led"})), "led")
    for tag in ("latest", "led"):
        address = f"oci://{fake.host}/some/name:{tag}"
        wanted = open_image(ImageName.parse(address), brings_pages=True)[0].file_map.tree
        for thread in threading.enumerate():
            if thread.name == "sapwood-keep":
                thread.join()
        for file in (cache_dir / "layers").glob("*.toc"):
            file.unlink()
        kept = open_image(ImageName.parse(address), brings_pages=True)[0]
        assert kept.file_map.tree == wanted
        assert kept.file_map.missing(b"d001/file1", False), "no page was brought"
        with mounted(address, tmp_path / tag, cache_dir, prefetch=False):
            assert shell(
                f"cat {tmp_path}/{tag}/d002/file2 {tmp_path}/{tag}/d*/file20999 {tmp_path}/{tag}/new"
            ).stdout == ("220999new")
            assert shell(f"test -e {tmp_path}/{tag}/d001/file1").returncode == 1
            assert shell(f"find {tmp_path}/{tag} -type f | wc -l").stdout.strip() == str(21_001 + (tag == "led"))
            assert shell(f"wc -c < {tmp_path}/{tag}/large").stdout.strip() == str(len(LARGE))
        assert not list((cache_dir / "layers").glob("*.toc")), "none was asked for"


def test_a_map_that_is_kept_and_damaged_is_made_again(fake: FakeRegistry, cache_dir: Path, tmp_path: Path) -> None:
    many: dict[str, Any] = {f"file{number}": b"%d" % number for number in range(21_000)}
    fake.add(Image(stargz(many)), "latest")
    name = ImageName.parse(f"oci://{fake.host}/some/name")
    for at in (0, -1, -40, -300):
        open_image(name, brings_pages=True)
        for thread in threading.enumerate():
            if thread.name == "sapwood-keep":
                thread.join()
        [file] = (cache_dir / "layers").glob("*.map")
        data = bytearray(file.read_bytes())
        data[at if at else 100] ^= 1
        file.write_bytes(data)
        image, _ = open_image(name, brings_pages=True)
        if at == 0:
            frame = image.file_map.pages()[0]
            [stored] = image.read_ranges(frame.pack, [(frame.offset, frame.length)])  # type: ignore[arg-type]
            with pytest.raises(CorruptError):
                image.file_map.add_page(0, stored)
            image.read_moved(frame.pack, frame.offset, frame.length)  # type: ignore[arg-type]
        else:
            assert image.file_map.missing(b"file7", False) == []


def test_commands_take_images_wherever_addresses_go(fake: FakeRegistry, tmp_path: Path) -> None:
    one, two = Image(stargz({"a": b"1", "b": b"2"})), Image(stargz({"a": b"1", "b": b"3"}))
    fake.add(one, "one")
    fake.add(two, "two")
    layout = one.layout(tmp_path / "layout")
    run, name = Sapwood(tmp_path), f"oci://{fake.host}/some/name"
    assert [entry["path"] for entry in run("ls", "--json", f"{name}:one").document] == ["a", "b"]
    assert run("cat", f"{name}:two", "b").out == "3"
    assert run("diff", f"{name}:one", f"{name}:two").out == "M b\n"
    assert run("diff", f"{name}:one", f"oci:{layout.relative_to(tmp_path)}").code == 0
    assert run("verify", f"{name}:one").code == 0
    assert run("tar", f"{name}:one", "-o", "one.tar").code == 0
    assert run("pack", f"{name}:one", "one.tar.gz").code == 0
    assert run("diff", f"{name}:one", "./one.tar.gz").code == 0
    index = {"schemaVersion": 2, "manifests": [two.described(os="plan9", architecture="mips")]}
    fake.add_document("application/vnd.oci.image.index.v1+json", json.dumps(index).encode(), "many")
    assert run("cat", "--platform", "plan9/mips", f"{name}:many", "b").out == "3"
    said = run("cat", f"{name}:many", "b")
    assert (said.code, "hint: --platform plan9/mips" in said.err) == (3, True), said.err
    for source, remedy in (
        (".", f"sapwood push {name}:one STORE_URL#REF"),
        ("oci:x", f"sapwood convert oci:x {name}:one"),
    ):
        said = run("push", source, f"{name}:one")
        assert (said.code, "an image, where a ref of a store is meant" in said.err) == (2, True), said.err
        assert f": {remedy}\n" in said.err
