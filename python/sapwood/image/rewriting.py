"""Documents of an image whose layers were made anew: its configuration, its manifest, and the index that names it.

Invariant: what is not about the layers stays as it was, in its order; a document about which nothing changed is the
same bytes, so that its digest, and who signed it, hold. Not here: what documents say (`manifest`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sapwood.errors import CorruptError
from sapwood.image.manifest import Described

__all__ = ["CONFIG", "INDEX", "LAYER", "MANIFEST", "Replaced", "config_with", "index_with", "kind_of", "manifest_with"]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = {"gzip": "application/vnd.oci.image.layer.v1.tar+gzip", "zstd": "application/vnd.oci.image.layer.v1.tar+zstd"}
# What a layer is called here for others to find it, which one that was made anew is not.
_OF_THE_BYTES = (
    "containerd.io/",
    "io.containers.estargz",
    "io.containers.zstd-chunked",
    "io.github.containers.zstd-chunked",
)
_SAID = (("mediaType", "media_type"), ("digest", "digest"), ("size", "size"))
_DOCKER = {
    "application/vnd.docker.distribution.manifest.v2+json": MANIFEST,
    "application/vnd.docker.distribution.manifest.list.v2+json": INDEX,
    "application/vnd.docker.container.image.v1+json": CONFIG,
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER["gzip"],
}


@dataclass(frozen=True)
class Replaced:
    """What stands for a layer now; `diff_id` is the digest of its plain tar."""

    blob: Described
    diff_id: str


def kind_of(data: bytes, unsaid: str) -> str:
    """Return the media type of a document, by what it says itself."""
    said = json.loads(data).get("mediaType")
    return said if isinstance(said, str) and said else unsaid


def config_with(data: bytes, replaced: Sequence[Replaced | None], where: str) -> bytes:
    """Return a configuration whose layers are replaced, but for those that are None.

    Raises:
        CorruptError: `image-corrupt`: it does not say as many layers.
    """
    said: Any = None
    diffs: Any = None
    with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
        said = json.loads(data)
        diffs = said["rootfs"]["diff_ids"]
    if not isinstance(diffs, list) or len(diffs) != len(replaced):
        raise CorruptError(f"{where}: its configuration does not say what its layers are", kind="image-corrupt")
    now = [old if new is None else new.diff_id for old, new in zip(diffs, replaced, strict=True)]
    if now == diffs:
        return data
    said["rootfs"]["diff_ids"] = now
    return _encode(said)


def manifest_with(data: bytes, config: Described, replaced: Sequence[Replaced | None]) -> bytes:
    """Return a manifest, which `parse` took, with another configuration and layers, in OCI's words."""
    said = json.loads(data)
    if said["config"]["digest"] == config.digest and not any(replaced):
        return data
    said |= {"schemaVersion": 2, "mediaType": MANIFEST}
    said["config"] = _in_oci(said["config"]) | {"digest": config.digest, "size": config.size}
    layers = []
    for old, new in zip(said["layers"], replaced, strict=True):
        if new is None:
            layers.append(_in_oci(old))
            continue
        known = {name: value for name, value in _notes(old).items() if not name.startswith(_OF_THE_BYTES)}
        layers.append(
            {
                "mediaType": new.blob.media_type,
                "digest": new.blob.digest,
                "size": new.blob.size,
                "annotations": known | new.blob.annotations,
            }
        )
    said["layers"] = layers
    return _encode(said)


def index_with(data: bytes, entries: Mapping[int, Described]) -> bytes:
    """Return an index, which `parse` took, of those of its entries that are given, by what they are now."""
    said = json.loads(data)
    now = [
        old | {key: getattr(entries[number], name) for key, name in _SAID if entries[number].digest != old["digest"]}
        for number, old in enumerate(said["manifests"])
        if number in entries
    ]
    if [one["digest"] for one in now] == [old["digest"] for old in said["manifests"]]:
        return data
    said |= {"schemaVersion": 2, "mediaType": INDEX}
    said["manifests"] = now
    return _encode(said)


def _in_oci(entry: dict[str, Any]) -> dict[str, Any]:
    return entry | {"mediaType": _DOCKER.get(entry.get("mediaType", ""), entry.get("mediaType", ""))}


def _notes(entry: dict[str, Any]) -> dict[str, str]:
    notes = entry.get("annotations")
    return notes if isinstance(notes, dict) else {}


def _encode(said: dict[str, Any]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()
