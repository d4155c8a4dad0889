"""Images of one layer in directories (OCI image layout), for skopeo, podman and buildah.

Not here: registries.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def layout(place: Path, layer: Path, *, tar: str | None = None, annotations: dict[str, str] | None = None) -> None:
    """Make an image `latest` of `layer`, whose plain tar has the digest `tar`; None says that it is that tar."""
    (place / "blobs" / "sha256").mkdir(parents=True)
    form = {".gz": "+gzip", ".zst": "+zstd"}.get(layer.suffix, "")
    described = _put(place, LAYER + form, layer.read_bytes())
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [tar or described["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _put(place, CONFIG, json.dumps(config).encode()),
        "layers": [described | {"annotations": annotations or {}}],
    }
    named = _put(place, MANIFEST, json.dumps(manifest).encode())
    named["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def layer_of(place: Path) -> Path:
    """Return where the layer of an image lies."""
    [manifest] = json.loads((place / "index.json").read_bytes())["manifests"]
    [layer] = json.loads(_blob(place, manifest["digest"]).read_bytes())["layers"]
    return _blob(place, layer["digest"])


def copied(image: Path, to: str, *options: str) -> None:
    """Let skopeo copy an image; it proves all digests on its way."""
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", *options, f"oci:{image}:latest", to]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _put(place: Path, kind: str, data: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _blob(place, digest).write_bytes(data)
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _blob(place: Path, digest: str) -> Path:
    return place / "blobs" / digest.replace(":", "/")
