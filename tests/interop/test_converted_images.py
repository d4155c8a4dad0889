"""Images that we converted, as others pull them: what they unpack is what the image was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.cli import Sapwood
from tests.support.images import Image, gzipped, plain, tar_of
from tests.support.trees import differences

ENTRIES = {
    "etc": None, "etc/a": b"one", "etc/gone": b"gone", "d": None, "d/hidden": b"x", "large": os.urandom(5 << 20),
    "link": "-> etc/a", "hard": "= large",
}  # fmt: skip


def ran(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of three layers, of two platforms."""
    set_uid = tarfile.TarInfo("bin/tool")
    set_uid.mode, set_uid.uid, set_uid.gid, set_uid.size = 0o4755, 0, 0, 4
    layers = [
        gzipped(ENTRIES),
        plain({"etc": None, "etc/.wh.gone": b"", "d": None, "d/.wh..wh..opq": b"", "d/seen": b"2"}),
        gzipped(tar_of({"bin": None, "bin/tool": (set_uid, b"tool"), "again": "= etc/a"})),
    ]
    place = tmp_path_factory.mktemp("made")
    ours, theirs = Image(*layers, Env=["A=1"]), Image(*layers[:2], architecture="arm64")
    for image in (ours, theirs):
        image.layout(place, image.digest[7:20])
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                ours.described(os="linux", architecture="amd64"),
                theirs.described(os="linux", architecture="arm64"),
            ],
        }
    ).encode()
    name = hashlib.sha256(index).hexdigest()
    (place / "blobs" / "sha256" / name).write_bytes(index)
    listed = json.loads((place / "index.json").read_bytes())
    listed["manifests"].append(
        {
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": f"sha256:{name}",
            "size": len(index),
            "annotations": {"org.opencontainers.image.ref.name": "all"},
        }
    )
    (place / "index.json").write_text(json.dumps(listed))
    return place


@pytest.fixture(scope="module", params=["stargz", "chunked"])
def converted(
    request: pytest.FixtureRequest, registry_host: str, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Sapwood]:
    """The image converted by the command, in a registry."""
    run = Sapwood(tmp_path_factory.mktemp("home"))
    name = f"{registry_host}/others/{request.param}:1"
    run.good("convert", *(["--zstd"] if request.param == "chunked" else []), f"oci:{made}:all", f"oci://{name}")
    return name, run


def test_what_we_wrote_is_well(converted: tuple[str, Sapwood]) -> None:
    name, run = converted
    for platform in ("linux/amd64", "linux/arm64"):
        run.good("verify", f"oci://{name}?platform={platform}")


def test_skopeo_copies_it_to_the_byte(converted: tuple[str, Sapwood], tmp_path: Path) -> None:
    name, _ = converted
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--preserve-digests"]
    ran(*copy, "--all", f"docker://{name}", f"oci:{tmp_path}/copy:1")
    found = json.loads(ran("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}"))
    [listed] = json.loads((tmp_path / "copy" / "index.json").read_bytes())["manifests"]
    copied = json.loads((tmp_path / "copy" / "blobs" / listed["digest"].replace(":", "/")).read_bytes())
    assert copied == found


def test_buildah_unpacks_what_the_image_was_and_proves_its_layers(
    converted: tuple[str, Sapwood], made: Path, tmp_path: Path
) -> None:
    name, run = converted
    storage = ["--root", tmp_path / "root", "--runroot", tmp_path / "run", "--storage-driver", "vfs"]
    container = ran("buildah", *storage, "from", "--quiet", "--tls-verify=false", "--arch", "amd64", f"docker://{name}")
    root = Path(ran("buildah", *storage, "mount", container))
    run.good("pull", "--platform", "linux/amd64", f"oci:{made}:all", tmp_path / "wanted")
    # What is unpacked whole has the TOC. The root, which no layer names, has buildah's own mode; a directory is as old
    # as what was last unpacked into it.
    (root / "stargz.index.json").unlink(missing_ok=True)
    found = differences(tmp_path / "wanted", root, but=frozenset({"mtime_ns"}))
    assert [line for line in found if not line.startswith("b'.':")] == []
    assert ran("buildah", *storage, "inspect", "--format", "{{.OCIv1.Config.Env}}", container) == "[A=1]"
