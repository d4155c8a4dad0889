"""Images made for tests: any layers, in a layout, in an archive as `docker save` writes it, or in a registry.

Not here: registries (`fakeregistry`, `registries`).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sapwood.archive.write import Choices, convert

__all__ = ["DOCKER", "OCI", "Image", "Layer", "chunked", "gzipped", "plain", "stargz", "tar_of"]

OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "tar": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
DOCKER = OCI | {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}


@dataclass
class Layer:
    """A layer as it lies, and its plain tar."""

    data: bytes
    tar: bytes
    form: str
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest(self.data)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_of(entries: dict[str, bytes | str | tarfile.TarInfo | tuple[tarfile.TarInfo, bytes] | None]) -> bytes:
    """Return a tar: bytes are a file, None a directory, `-> X` a symlink, `= X` a hard link.

    Or what an info says, with bytes if it is a file's.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, told in entries.items():
            info, what = told if isinstance(told, tuple) else (tarfile.TarInfo(name), told)
            info = what if isinstance(what, tarfile.TarInfo) else info
            info.mtime = info.mtime or 1_700_000_000
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(what, str):
                kind, _, info.linkname = what.partition(" ")
                info.type, info.mode = (tarfile.SYMTYPE, 0o777) if kind == "->" else (tarfile.LNKTYPE, 0o644)
            elif isinstance(what, bytes):
                info.size = len(what)
            tar.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return out.getvalue()


def plain(entries: dict[str, Any] | bytes) -> Layer:
    """Return a layer that is a plain tar."""
    tar = entries if isinstance(entries, bytes) else tar_of(entries)
    return Layer(tar, tar, "tar")


def gzipped(entries: dict[str, Any] | bytes) -> Layer:
    """Return a layer as docker makes it."""
    tar = entries if isinstance(entries, bytes) else tar_of(entries)
    return Layer(gzip.compress(tar, 6, mtime=0), tar, "gzip")


def stargz(entries: dict[str, Any] | bytes) -> Layer:
    """Return an eStargz layer, whose manifest vouches for its TOC."""
    return _converted(entries, "gzip", Choices())


def chunked(entries: dict[str, Any] | bytes) -> Layer:
    """Return a zstd:chunked layer."""
    return _converted(entries, "zstd", Choices(zstd=True))


def _converted(entries: dict[str, Any] | bytes, form: str, choices: Choices) -> Layer:
    tar = entries if isinstance(entries, bytes) else tar_of(entries)
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "in.tar", Path(folder) / "out"
        source.write_bytes(tar)
        with source.open("rb") as file, made.open("wb") as out:
            written = convert(file, source, out.fileno(), made, choices, temporary=folder)
        unpack = ["zstd" if choices.zstd else "gzip", "-dc"]
        inside = subprocess.run(unpack, input=made.read_bytes(), capture_output=True, check=True).stdout
        return Layer(made.read_bytes(), inside, form, dict(written.annotations))


class Image:
    """An image of these layers, the lowest first; its configuration says what else is given."""

    def __init__(
        self,
        *layers: Layer,
        kinds: dict[str, str] = OCI,
        architecture: str = "amd64",
        history: Sequence[dict[str, Any]] = (),
        **config: Any,
    ) -> None:
        self.layers, self.kinds = layers, kinds
        said = {
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer.tar) for layer in layers]},
        } | ({"history": history} if history else {})
        self.config = json.dumps(said).encode()
        described = [
            {"mediaType": kinds[layer.form], "digest": layer.digest, "size": len(layer.data)}
            | ({"annotations": layer.annotations} if layer.annotations else {})
            for layer in layers
        ]
        self.said: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": kinds["manifest"],
            "config": {"mediaType": kinds["config"], "digest": digest(self.config), "size": len(self.config)},
            "layers": described,
        }

    @property
    def manifest(self) -> bytes:
        return json.dumps(self.said).encode()

    @property
    def digest(self) -> str:
        return digest(self.manifest)

    def blobs(self) -> dict[str, bytes]:
        """Return configuration and layers by their digests."""
        return {digest(self.config): self.config} | {layer.digest: layer.data for layer in self.layers}

    def described(self, **platform: str) -> dict[str, Any]:
        """Return what an index says of it."""
        said = {"mediaType": self.kinds["manifest"], "digest": self.digest, "size": len(self.manifest)}
        return said | ({"platform": platform} if platform else {})

    def layout(self, place: Path, tag: str = "latest") -> Path:
        """Write it as an OCI layout, beside those that are there."""
        (place / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        for name, data in (self.blobs() | {self.digest: self.manifest}).items():
            (place / "blobs" / name.replace(":", "/")).write_bytes(data)
        (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        index = place / "index.json"
        there = json.loads(index.read_bytes())["manifests"] if index.exists() else []
        there.append(self.described() | {"annotations": {"org.opencontainers.image.ref.name": tag}})
        index.write_text(json.dumps({"schemaVersion": 2, "manifests": there}))
        return place

    def archive(self, path: Path, *tags: str) -> Path:
        """Write it as docker did before version 25, and podman does."""
        config = hashlib.sha256(self.config).hexdigest() + ".json"
        names = [f"{number}/layer.tar" for number, _ in enumerate(self.layers)]
        said = [{"Config": config, "RepoTags": list(tags), "Layers": names}]
        members: dict[str, Any] = {config: self.config, "manifest.json": json.dumps(said).encode()}
        path.write_bytes(tar_of(members | {n: layer.tar for n, layer in zip(names, self.layers, strict=True)}))
        return path


def archived(layout: Path, path: Path) -> Path:
    """Write a layout as one tar."""
    with tarfile.open(path, "w") as tar:
        for name in sorted(os.listdir(layout)):
            tar.add(layout / name, name)
    return path
