"""An image of a store, back to a registry or a layout, as it was.

Promise: manifest, configuration and layers have the digests that they had when it was pushed, so who signed them holds;
a layer that is there already, or in another repository named beside, is neither made nor sent. Not here: how layers are
made again (`stored`), how things are written (`image.upload`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO

from sapwood.errors import UnavailableError
from sapwood.image import ImageName
from sapwood.image.manifest import Described, Manifest, parse
from sapwood.image.upload import UPLOADS, WritePlace, open_write_place, require_unpinned
from sapwood.oci.stored import StoredImage
from sapwood.progress import OnProgress, Progress
from sapwood.store.waiting import each

__all__ = ["Given", "give_image"]

_AT_ONCE = 2
_PIECE = 8 << 20


@dataclass(frozen=True)
class Given:
    """What was written. Sizes in bytes."""

    name: ImageName
    digest: str
    """Of the manifest; of the index, where it names no other images."""
    index_left: str | None
    """Digest of the index that it was pushed by, if that names other images, too, and is not written."""
    layers: int
    layers_sent: int
    bytes_sent: int
    requests: dict[str, int]
    seconds: float


def give_image(image: StoredImage, name: ImageName, *, progress: OnProgress | None = None) -> Given:
    """Write the image to a registry or a layout, by the digests that it had.

    Raises:
        InvalidInputError: `bad-address`: the name is pinned, or for a platform.
        SapwoodError: as `StoredImage.write_layer`, `open_write_place`, `Upload`.
    """
    require_unpinned(name)
    started = time.monotonic()
    place = open_write_place(name)
    todo = list({layer.digest: layer for layer in image.manifest.layers}.values())
    # Who may not write shall hear of it before anything is made.
    with place.upload():
        pass
    done = list[int]()

    def give(blob: Described) -> int:
        size = 0 if place.has(blob) else _give(image, blob, place)
        done.append(blob.size)
        if progress is not None:
            progress(Progress(len(done), len(todo), sum(done), sum(layer.size for layer in todo)))
        return size

    sent = each(give, todo, at_once=_AT_ONCE)
    place.put(image.document(image.manifest.config.digest))
    data = image.document(image.digest)
    index = _whole_index(image)
    described, _ = place.put_document(data, image.media_type, tag=None if index else name.tag, is_root=not index)
    if index is not None:
        described, _ = place.put_document(*index, tag=name.tag, is_root=True)
    return Given(
        name=name.pinned(described.digest),
        digest=described.digest,
        index_left=image.index if index is None else None,
        layers=len(todo),
        layers_sent=sum(1 for size in sent if size),
        bytes_sent=sum(sent),
        requests=place.requests.so_far(),
        seconds=time.monotonic() - started,
    )


def _whole_index(image: StoredImage) -> tuple[bytes, str] | None:
    """Return the index that it was pushed by, and its type, if that names nothing else."""
    if image.index is None:
        return None
    data = image.document(image.index)
    entries = parse(data, image.where)
    if isinstance(entries, Manifest) or [entry.get("digest") for entry in entries] != [image.digest]:
        return None
    return data, _media_type(data)


def _media_type(data: bytes) -> str:
    import json

    return str(json.loads(data).get("mediaType", "application/vnd.oci.image.index.v1+json"))


def _give(image: StoredImage, blob: Described, place: WritePlace) -> int:
    """Make a layer again, prove it, and send it."""
    with tempfile.TemporaryFile() as file:
        image.write_layer(image.layer(blob.digest), file)
        file.flush()
        for again in range(UPLOADS):
            try:
                with place.upload() as upload:
                    for piece in _pieces(file):
                        upload.write(piece)
                    upload.finish(blob.digest)
                    return blob.size
            except UnavailableError as error:
                if error.kind != "upload-lost" or again == UPLOADS - 1:
                    raise
    raise AssertionError


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    return iter(partial(file.read, _PIECE), b"")
