"""An image of very many entries in many layers, alike on every machine: an OCI layout of eStargz layers.

Made once into build/bench/. Each layer has 100 directories that all have, in them files of its own, files that replace
some of the layer below, and whiteouts of others of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.corpus import BUILD, say
from benchmarks.sapwood import SAPWOOD

__all__ = ["ENTRIES", "LAYERS", "layered"]

LAYERS = 50
ENTRIES = 20_000
"""Of each layer."""
_DIRECTORIES = 100
_OWN, _HIDDEN = 10_000, 100


def layered() -> Path:
    """Return the layout, making it if this is the first time."""
    place = BUILD / "layered"
    if not place.exists():
        say(f"making an image of {LAYERS} layers with {LAYERS * ENTRIES:,} entries in {place}")
        unfinished = BUILD / "unfinished-layered"
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "blobs" / "sha256").mkdir(parents=True)
        _write(unfinished)
        unfinished.rename(place)
    return place


def _write(place: Path) -> None:
    layers, diffs = [], []
    for number in range(LAYERS):
        tar, made = place / "in.tar", place / "out.tar.gz"
        with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as out:
            for info, data in _entries(number):
                out.addfile(info, io.BytesIO(data))
        said = json.loads(subprocess.check_output([SAPWOOD, "convert", "--json", tar, made]))
        plain = subprocess.check_output(["gzip", "-dc", made])
        diffs.append(f"sha256:{hashlib.sha256(plain).hexdigest()}")
        layer = _put(place, "application/vnd.oci.image.layer.v1.tar+gzip", made.read_bytes())
        layers.append(layer | {"annotations": {"containerd.io/snapshot/stargz/toc.digest": said["toc"]}})
        tar.unlink()
        made.unlink()
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}}
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": _put(place, "application/vnd.oci.image.config.v1+json", json.dumps(config).encode()),
        "layers": layers,
    }
    index = {"schemaVersion": 2, "manifests": [_put(place, kind, json.dumps(manifest).encode())]}
    (place / "index.json").write_text(json.dumps(index), encoding="utf-8")
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}', encoding="utf-8")


def _entries(number: int) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    names = [f"{number}-{at}" for at in range(_OWN)]
    if number:
        names += [f".wh.f{number - 1}-{at}" for at in range(_HIDDEN)]
    below = max(0, number - 1)
    left = range(ENTRIES - _DIRECTORIES - len(names))
    names += [f"{below}-{_HIDDEN + at}" if number else f"more-{at}" for at in left]
    for directory in range(_DIRECTORIES):
        info = tarfile.TarInfo(f"d{directory:03}")
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        yield info, b""
        for name in names[directory::_DIRECTORIES]:
            data = b"" if name.startswith(".wh.") else f"{number} {name}\n".encode()
            info = tarfile.TarInfo(f"d{directory:03}/{name if name.startswith('.wh.') else f'f{name}'}")
            info.size = len(data)
            yield info, data


def _put(place: Path, kind: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (place / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}
