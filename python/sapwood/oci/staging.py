"""Layers that are about to be pushed, in a directory for that: fetched, proved, taken apart.

Invariant: what is taken apart was proved by its digest first. Of a layer that a store has, only what says where its
files lie is here; in place of its tar is what is no tar. Not here: what is written of them (`making`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from sapwood.archive.regzip import apart, inflate
from sapwood.destination import writing
from sapwood.errors import CorruptError, InvalidInputError, SapwoodError, UnavailableError
from sapwood.image import ImageName, open_image
from sapwood.image.image import Image
from sapwood.image.manifest import Described, Manifest
from sapwood.image.places import Place
from sapwood.image.sending import fetch_layer
from sapwood.oci.piping import piped
from sapwood.oci.stored import StoredImage, StoredLayer
from sapwood.store.naming import begins_as

__all__ = ["Staged", "StagedLayer"]

_BLOCK = 512
MOST_PLAIN = 1 << 30
MOST_RATIO = 200
"""A layer has no more bytes than the first when it is decompressed, or so many times its own size if that is more."""

_RESERVE = 1 << 30
# Between two looks at the disk.
_LOOK = 64 << 20
# Corrections that would have a larger part than this of a layer are not worth the time it takes to apply them.
_MOST_CORRECTIONS = 0.25
_TAR = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
# At the beginning of what stands for a tar that is not here.
_NO_TAR = b"\xff" * _BLOCK


@dataclass(frozen=True)
class StagedLayer:
    """A layer, and files of it; of one that the store has these are not here."""

    told: StoredLayer
    tar: Path
    rest: Path | None
    """Its corrections, or the layer itself."""
    index: Path
    """Where its files lie in its tar, once the image was opened."""
    is_stored: bool = False


class Staged:
    """The directory: an OCI layout of plain tars, and what there is besides."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._layout = folder / "layout"
        self._blobs = self._layout / "blobs" / "sha256"
        self._cache = folder / "cache"
        for made in (self._blobs, self._cache / "layers"):
            made.mkdir(parents=True)

    def _index(self, digest: str) -> Path:
        return self._cache / "layers" / f"{digest.removeprefix('sha256:')}.index"

    def _tar(self, digest: str) -> Path:
        return self._blobs / digest.removeprefix("sha256:")

    def fetched(self, place: Place, layer: Described) -> StagedLayer:
        """Fetch a layer and take it apart.

        Raises:
            CorruptError: `image-corrupt`: it is not what its manifest names; `archive-corrupt`.
            CorruptError: `layer-too-large`: decompressed it has more bytes than layers have.
            UnavailableError: `disk-full`.
            SapwoodError: as `fetch_layer`.
        """
        name = layer.digest.removeprefix("sha256:")
        whole, tar, rest = (self._folder / f"{name}{ending}" for ending in ("", ".tar", ".rest"))
        ranges = place.blob(layer)
        _require_room(self._folder, layer.size)
        with whole.open("xb") as file:
            fetch_layer(ranges, layer, file, lambda _: None)
        # The core reads where the descriptor stands, not where a buffer does.
        with whole.open("rb", buffering=0) as file:
            form = _taken_apart(ranges.url, file, tar, rest)
        if form == "tar":
            whole.rename(tar)
        elif form == "kept":
            whole.rename(rest)
        else:
            whole.unlink()
        with tar.open("rb") as file:
            digest, size = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", file.tell()
        told = StoredLayer(layer.digest, layer.size, digest, size, form)
        tar.rename(self._tar(digest))
        return StagedLayer(told, self._tar(digest), None if form == "tar" else rest, self._index(digest))

    def stored(self, image: StoredImage, layer: StoredLayer) -> StagedLayer | None:
        """Return a layer that an image of the store has; None if it does not say where its files lie."""
        index, tar = self._index(layer.tar), self._tar(layer.tar)
        try:
            with index.open("wb") as file:
                image.write_file(f"{layer.folder}/index", file)
        except CorruptError:
            index.unlink()
            return None
        if not tar.exists():
            with tar.open("wb") as file:
                file.write(_NO_TAR[: layer.tar_size])
                file.truncate(layer.tar_size)
        return StagedLayer(layer, tar, None, index, is_stored=True)

    def open(self, pinned: ImageName, manifest: Manifest, layers: Sequence[StagedLayer]) -> Image:
        """Return the image, read from its plain tars.

        Raises:
            SapwoodError: as `open_image`.
        """
        known = {layer.told.digest: layer.told for layer in layers}
        described = [
            {"mediaType": _TAR, "digest": known[layer.digest].tar, "size": known[layer.digest].tar_size}
            for layer in manifest.layers
        ]
        config = {"mediaType": _CONFIG, "digest": manifest.config.digest, "size": 0}
        data = json.dumps({"schemaVersion": 2, "config": config, "layers": described}).encode()
        digest = hashlib.sha256(data).hexdigest()
        (self._blobs / digest).write_bytes(data)
        index = {"schemaVersion": 2, "manifests": [{"digest": f"sha256:{digest}", "size": len(data)}]}
        (self._layout / "index.json").write_text(json.dumps(index))
        try:
            return open_image(ImageName("oci:", str(self._layout)), cache_dir=self._cache)[0]
        except (CorruptError, InvalidInputError) as error:
            raise self._named(error, str(pinned), layers) from error

    def _named(self, error: SapwoodError, name: str, layers: Sequence[StagedLayer]) -> SapwoodError:
        """Say of which layer an error is, not in which file of ours."""
        text = str(error)
        for layer in layers:
            text = text.replace(str(layer.tar), f"{name} {layer.told.digest}")
        return type(error)(text.replace(str(self._layout), name), kind=error.kind, address=name)


def _taken_apart(url: str, file: FileIO, tar: Path, rest: Path) -> str:
    """Write the plain tar of a layer, and its corrections if it can be made again of them; return its form."""
    what = begins_as(file.read(_BLOCK))
    file.seek(0)
    if what not in ("gzip", "zstd"):
        return "tar"
    with tar.open("xb", buffering=0) as plain:
        bounded = _Bounded(url, plain, tar.parent, max(MOST_PLAIN, MOST_RATIO * os.fstat(file.fileno()).st_size))
        if what == "gzip":
            with rest.open("xb") as corrections:
                is_apart = piped(lambda into: apart(file.fileno(), url, into, corrections.fileno()), bounded)
            if is_apart and rest.stat().st_size <= _MOST_CORRECTIONS * os.fstat(file.fileno()).st_size:
                return "gzip"
            file.seek(0)
            plain.seek(0)
            plain.truncate()
            bounded.begin_anew()
        try:
            piped(lambda into: inflate(file.fileno(), url, into), bounded)
        except CorruptError as error:
            if error.kind != "damaged":
                raise
            raise CorruptError(str(error), kind="archive-corrupt", address=url) from error
    return "kept"


class _Bounded:
    """A file that grows as a layer is decompressed, and no further than layers do."""

    def __init__(self, url: str, file: FileIO, folder: Path, most: int) -> None:
        self._url, self._file, self._folder, self._most = url, file, folder, most
        self.begin_anew()

    def begin_anew(self) -> None:
        self._size = self._looked = 0

    def write(self, data: bytes) -> int:
        self._size += len(data)
        if self._size > self._most:
            raise CorruptError(
                f"{self._url}: it has more than {self._most:,} bytes when decompressed, as no layer has",
                kind="layer-too-large",
                address=self._url,
            )
        if self._size - self._looked > _LOOK:
            self._looked = self._size
            _require_room(self._folder, _LOOK)
        left = data
        with writing(self._folder):
            while left:
                left = left[self._file.write(left) :]
        return len(data)


def _require_room(folder: Path, size: int) -> None:
    """Refuse to fill the disk: of it a twentieth, or 1 GiB if that is less, is others'."""
    room = os.statvfs(folder)
    free, reserve = room.f_bavail * room.f_frsize, min(room.f_blocks * room.f_frsize // 20, _RESERVE)
    if free < size + reserve:
        raise UnavailableError(
            f"{folder.parent}: {free:,} bytes are free, and of the image at least {size:,} more are to come,"
            f" beside {reserve:,} that stay free",
            kind="disk-full",
            hint="TMPDIR=/a/larger/place sapwood push …",
        )
