"""Images whose layers sapwood wrote, in podman and buildah: they run, and files that are there are not fetched."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import peers
from tests.support.busybox import make_root
from tests.support.cli import Sapwood
from tests.support.oci import layout
from tests.support.podman import Podman
from tests.support.rooted import takes_root
from tests.support.trees import Facts, look, noise

pytestmark = takes_root("containers of podman's overlays take root")

FORMS = {"estargz": (), "zstd-chunked": ("--zstd",)}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A registry, and where its log is."""
    work = tmp_path_factory.mktemp("logged")
    with peers.registry(work, logged=True) as host:
        yield host, work


@pytest.fixture
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    found = Podman(tmp_path_factory.mktemp("podman") / "p")
    yield found
    found.end()


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two trees that run, most of whose files are the same."""
    root = tmp_path_factory.mktemp("trees")
    first = make_root(root / "first")
    (first / "data").mkdir()
    for number in range(40):
        (first / "data" / f"{number}").write_bytes(noise(200_000, number))
    (first / "data" / "link").symlink_to("7")
    (first / "data" / "again").hardlink_to(first / "data" / "7")
    (first / "data" / "8").chmod(0o4751)
    shutil.copytree(first, root / "second", symlinks=True)
    (root / "second" / "data" / "3").write_bytes(noise(200_000, 99))
    (root / "second" / "data" / "new").write_text("new")
    return {"first": first, "second": root / "second"}


def put(sapwood: Sapwood, tree: Path, form: str, host: str, place: Path) -> str:
    """Convert an image of the tree into one in the registry, and return its name."""
    place.mkdir()
    subprocess.run(["tar", "--sort=name", "-C", tree, "-cf", place / "layer.tar", "."], check=True)
    layout(place / "image", place / "layer.tar")
    image = f"{host}/{form}:{tree.name}"
    sapwood.good("convert", *FORMS[form], f"oci:{place}/image", f"oci://{image}")
    return image


def stored(root: Path) -> dict[bytes, Facts]:
    # Its partial pulls lose times and owners, of layers that buildah wrote too.
    return {path: replace(facts, mtime_ns=0, owner=(0, 0), holes=()) for path, facts in look(root).items()}


@pytest.mark.parametrize("form", FORMS)
def test_a_second_image_costs_podman_the_files_that_it_has_not(
    sapwood: Sapwood, trees: dict[str, Path], logged: tuple[str, Path], podman: Podman, tmp_path: Path, form: str
) -> None:
    host, log = logged
    fetched = {}
    for name, tree in trees.items():
        image = put(sapwood, tree, form, host, tmp_path / name)
        before = len(peers.sent(log))
        podman("pull", "--quiet", "--tls-verify=false", image)
        fetched[name] = sum(size for path, size in peers.sent(log)[before:] if "/blobs/" in path)
        assert (
            podman.run(image, "/bin/sh", "-c", "cat /data/new || echo old") == {"first": "old", "second": "new"}[name]
        )
        with podman.mounted(image) as root:
            assert (name, stored(root)) == (name, stored(tree))
    assert fetched["first"] > 8_000_000
    assert fetched["second"] < 250_000


@pytest.mark.parametrize("form", FORMS)
def test_buildah_unpacks_the_tree(
    sapwood: Sapwood, trees: dict[str, Path], registry: str, tmp_path: Path, form: str
) -> None:
    image = put(sapwood, trees["first"], form, registry, tmp_path / "image")
    storage = ["--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]

    def buildah(*words: str) -> str:
        return subprocess.run(["buildah", *storage, *words], capture_output=True, text=True, check=True).stdout.strip()

    container = buildah("from", "--tls-verify=false", f"docker://{image}")
    found = stored(Path(buildah("mount", container)))
    # To who reads a layer whole its TOC is a file.
    assert (found.pop(b"stargz.index.json", None) is not None) == (form == "estargz")
    assert found == stored(trees["first"])
