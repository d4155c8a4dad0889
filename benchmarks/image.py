"""Trees as containers' images, as docker would have built them, by gzip: V above a base, and any as the only layer.

Made once for each tree, and kept in build/bench as an OCI layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.corpus import BUILD, say
from tests.support.busybox import make_root

PLACE = "/opt/v"
_KIND = "application/vnd.oci.image"


def made(tree: Path) -> Path:
    """Return the layout of the image, making it if this is the first time."""
    layout = BUILD / f"image-{tree.name}"
    if not layout.exists():
        say("making an image of it")
        unfinished, root = BUILD / "unfinished-image", BUILD / "unfinished-root"
        for place in (unfinished, root):
            shutil.rmtree(place, ignore_errors=True)
        (unfinished / "blobs" / "sha256").mkdir(parents=True)
        _make_base(root, tree)
        layers = [_layer(unfinished, root, "."), _layer(unfinished, tree, PLACE[1:])]
        command = environment.workload(PLACE)
        variables = [word for word in command if "=" in word]
        _describe(unfinished, layers, {"Env": ["PATH=/bin", *variables], "Cmd": command[1 + len(variables) :]})
        shutil.rmtree(root)
        unfinished.rename(layout)
    return layout


def alone(tree: Path) -> tuple[Path, Path]:
    """Return the layout of an image whose one layer is the tree, and the layer, making them if need be."""
    layout = BUILD / f"layer-{tree.name}"
    if not layout.exists():
        say("making a layer of it")
        unfinished = BUILD / "unfinished-layer"
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "blobs" / "sha256").mkdir(parents=True)
        _describe(unfinished, [_layer(unfinished, tree, tree.name)], {})
        unfinished.rename(layout)
    return layout, max((layout / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)


def _make_base(root: Path, tree: Path) -> None:
    """Make a root file system in which the programs of the tree find the libraries that they are linked with here."""
    make_root(root)
    for name in ("proc", "dev", "sys", "tmp", "etc"):
        (root / name).mkdir()
    linked = [path for path in tree.rglob("*") if re.search(r"\.so(\.|$)|/bin/python", str(path)) and path.is_file()]
    told = subprocess.run(["ldd", *linked], env=environment.environment(tree), capture_output=True, text=True).stdout
    for path in sorted(set(re.findall(r"(/\S+) \(0x", told))):
        if not path.startswith(f"{tree}/") and not (root / path[1:]).exists():
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, root / path[1:])


def _layer(layout: Path, folder: Path, place: str) -> tuple[dict[str, Any], str]:
    """Put the layer of a folder there; return what describes it, and the digest of its tar."""
    out, tar = layout / "layer", layout / "tar"
    transform = ["--transform", f"flags=r;s,^\\.,{place},"] if place != "." else []
    pack = ["tar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", *transform]
    subprocess.run([*pack, "-C", folder, "-cf", tar, "."], check=True)
    with out.open("wb") as file:
        subprocess.run(["gzip", "-6", "-n", "-c", tar], stdout=file, check=True)
    plain = _digest(tar)
    tar.unlink()
    digest = _digest(out)
    size = out.stat().st_size
    out.rename(_blob(layout, digest))
    return {"mediaType": f"{_KIND}.layer.v1.tar+gzip", "digest": digest, "size": size}, plain


def _describe(layout: Path, layers: list[tuple[dict[str, Any], str]], runs: dict[str, list[str]]) -> None:
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": runs,
        "rootfs": {"type": "layers", "diff_ids": [plain for _, plain in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_KIND}.manifest.v1+json",
        "config": _put(layout, f"{_KIND}.config.v1+json", config),
        "layers": [described for described, _ in layers],
    }
    named = _put(layout, f"{_KIND}.manifest.v1+json", manifest)
    named["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def _put(layout: Path, kind: str, document: Any) -> dict[str, Any]:
    data = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _blob(layout, digest).write_bytes(data)
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")
