"""Archives that sapwood wrote, pulled as podman, buildah and skopeo pull layers: by ranges, or whole."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Programs
from tests.support.cli import Sapwood
from tests.support.oci import copied, layout
from tests.support.trees import Facts, look

VARIANTS: dict[str, tuple[str, ...]] = {
    "zstd": ("--zstd",),
    "zstd in small chunks": ("--zstd", "--chunk-size", "65536", "--level", "1"),
    "gzip": (),
}


@dataclass(frozen=True)
class Layer:
    """An archive of the tree, and what packing it said."""

    archive: Path
    said: dict[str, Any]

    @property
    def annotations(self) -> dict[str, str]:
        """What a manifest says of the layer, so that its TOC is found and believed."""
        annotations: dict[str, str] = self.said["annotations"]
        return annotations


@pytest.fixture(scope="module")
def tree(spelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree without what this reader fails at.

    It makes neither devices nor FIFOs, and no links to them; and it counts times in 64 bits of nanoseconds.
    """
    out = tmp_path_factory.mktemp("layer") / "tree"
    subprocess.run(["cp", "-a", spelled, out], check=True)
    inodes = set[int]()
    for folder, _, names in os.walk(out):
        for name in sorted(names):
            path = Path(folder, name)
            seen = path.lstat()
            is_second = not (stat.S_ISREG(seen.st_mode) or stat.S_ISLNK(seen.st_mode)) and seen.st_ino in inodes
            if is_second or seen.st_mtime_ns >= 1 << 63:
                path.unlink()
            inodes.add(seen.st_ino)
    return out


@pytest.fixture(scope="module", params=VARIANTS)
def layer(
    request: pytest.FixtureRequest, sapwood: Sapwood, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> Layer:
    options = VARIANTS[request.param]
    archive = tmp_path_factory.mktemp("layers") / ("a.tar.zst" if "--zstd" in options else "a.tar.gz")
    return Layer(archive, sapwood.good("pack", "--json", *options, tree, archive).document)


def _pulled(facts: Facts) -> Facts:
    # Of directories and links the reader sets no time, and of links nothing else.
    if stat.S_ISLNK(facts.mode):
        return replace(facts, mtime_ns=0, owner=(os.geteuid(), os.getegid()), xattrs=())
    return replace(facts, mtime_ns=0 if stat.S_ISDIR(facts.mode) else facts.mtime_ns, holes=())


def _made(facts: Facts) -> bool:
    return stat.S_IFMT(facts.mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def test_a_partial_pull_gives_the_tree_and_proves_the_tar(
    programs: Programs, tree: Path, layer: Layer, tmp_path: Path
) -> None:
    said = json.loads(programs("chunked", "apply", layer.archive, tmp_path, stdin=json.dumps(layer.annotations)))
    if layer.archive.suffix == ".zst":
        # The tar was put together of what was pulled and the tar-split data.
        assert said["toc"] == layer.annotations["io.github.containers.zstd-chunked.manifest-checksum"]
        assert (said["tar"], said["size"]) == (layer.said["tar"], layer.said["tarSize"])
    else:
        assert said["toc"] == layer.said["toc"]
    wanted = {path: _pulled(facts) for path, facts in look(tree).items() if _made(facts)}
    assert {path: _pulled(facts) for path, facts in look(tmp_path).items()} == wanted


def test_skopeo_finds_the_tar_that_was_promised(layer: Layer, tmp_path: Path) -> None:
    layout(tmp_path / "image", layer.archive, tar=layer.said["tar"], annotations=layer.annotations)
    copied(tmp_path / "image", f"dir:{tmp_path}/out", "--dest-decompress")
    # Named by its digest.
    plain = tmp_path / "out" / layer.said["tar"].removeprefix("sha256:")
    assert plain.stat().st_size == layer.said["tarSize"]
