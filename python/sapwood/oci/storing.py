"""An image into a store: its tree, and what it takes to give its layers and documents back as they were.

Promise: every layer was proved by its digest before anything of it is stored; contents of files are stored once,
whichever layers and images have them; a layer that the image before has is not read again. The snapshot is an ordinary
one, so what keeps, proves, copies and collects trees does it with images. Not here: how layers come back (`stored`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sapwood import places
from sapwood.errors import NotFoundError
from sapwood.image import ImageName
from sapwood.image.image import find_manifest, read_config_bytes, read_document
from sapwood.image.manifest import Described, Manifest
from sapwood.image.places import Place, open_place
from sapwood.oci.making import write_image
from sapwood.oci.staging import Staged, StagedLayer
from sapwood.oci.stored import FORMAT, StoredImage, StoredLayer, stored_before
from sapwood.progress import OnProgress
from sapwood.push import Pushed, check_level, push_archive
from sapwood.scratch import scratch
from sapwood.store.ref import Ref, check_ref_name
from sapwood.store.store import Store
from sapwood.store.tocs import KeptTexts
from sapwood.store.waiting import each
from sapwood.tarsource import made
from sapwood.tarstream import Sink

__all__ = ["SCRATCH", "FoundImage", "find_image", "push_image"]

SCRATCH = "sapwood-image-"
"""How directories are called in which images wait to be stored."""

# Layers that are taken apart at a time: each takes a processor, and some 100 MB.
_AT_ONCE = 2


@dataclass(frozen=True)
class FoundImage:
    """An image that is there: its manifest, and the documents it takes to read it, by digest."""

    name: ImageName
    place: Place
    described: Described
    manifest: Manifest
    index: str | None
    """Digest of the index that it was found by."""
    documents: dict[str, bytes]


def find_image(name: ImageName) -> FoundImage:
    """Return what a name means; nothing of its layers is read.

    Raises:
        SapwoodError: as `open_image`.
    """
    place, kept = open_place(name), KeptTexts(places.cache_dir())
    pinned, described, manifest = find_manifest(name, place, kept)
    documents = {described.digest: read_document(described, place, kept)}
    documents[manifest.config.digest] = read_config_bytes(manifest.config, name, place, kept)
    index = pinned.digest if pinned.digest != described.digest else None
    if index is not None:
        documents[index] = read_document(Described(index, 0), place, kept)
    return FoundImage(pinned, place, described, manifest, index, documents)


def push_image(
    store: Store, image: FoundImage, ref: str, *, level: int | None = None, progress: OnProgress | None = None
) -> Pushed:
    """Push an image, and let `ref` name it; files and bytes that are told of are those of the image alone.

    Layers are fetched into the directory for temporary files; those that the image has that `ref` names are not.

    Raises:
        CorruptError: `image-corrupt`: a layer is not what its manifest names; `archive-corrupt`: one is no tar.
        SapwoodError: as `open_image`, `push_archive`; `disk-full`, `io`.
    """
    started = time.monotonic()
    check_ref_name(ref)
    check_level(level)
    before = _before(store, ref)
    if before is not None and (before[1].digest, before[1].index) == (image.described.digest, image.index):
        return _unchanged(*before, ref, time.monotonic() - started)
    push = _push(store, image, ref, None if before is None else before[1], level, progress)
    if push is not None:
        return push
    # What the store was said to have it has no more.
    push = _push(store, image, ref, None, level, progress)
    assert push is not None
    return push


def _push(
    store: Store,
    image: FoundImage,
    ref: str,
    before: StoredImage | None,
    level: int | None,
    progress: OnProgress | None,
) -> Pushed | None:
    """Push, with what `before` has told; None if something of that is not to be had."""
    with scratch(SCRATCH) as folder:
        staged = Staged(folder)
        known = {} if before is None else {layer.digest: layer for layer in before.layers}

        def stage(layer: Described) -> StagedLayer:
            stored = None
            if before is not None and layer.digest in known:
                stored = staged.stored(before, known[layer.digest])
            return stored or staged.fetched(image.place, layer)

        layers = each(stage, _distinct(image.manifest.layers), at_once=_AT_ONCE)
        opened = staged.open(image.name, image.manifest, layers)
        said = {
            "format": FORMAT,
            "manifest": image.described.digest,
            "mediaType": image.described.media_type,
            "index": image.index,
            "layers": [_said(layer.told) for layer in layers],
        }
        # Drawn anew, so that no image has it.
        told = b"sapwood." + os.urandom(16).hex().encode()
        counts = list[tuple[int, int]]()

        def write(out: Sink) -> None:
            counts.append(write_image(opened, said, image.documents, layers, before, told, out))

        with made(str(image.name), write) as tar:
            try:
                pushed = push_archive(store, tar, ref, level=level, told=told, progress=progress)
                [(files, size)] = counts
                return replace(pushed, files=files, bytes=size)
            except NotFoundError as error:
                if before is None or error.kind != "missing":
                    raise
    return None


def _before(store: Store, ref: str) -> tuple[Ref, StoredImage] | None:
    found = store.ref_state(ref)
    if not isinstance(found, Ref):
        return None
    image = stored_before(store, store.read_snapshot(found.snapshot))
    return None if image is None else (found, image)


def _unchanged(ref: Ref, image: StoredImage, name: str, seconds: float) -> Pushed:
    snapshot = image.store.read_snapshot(ref.snapshot)
    return Pushed(
        tree=snapshot.tree,
        snapshot=ref.snapshot,
        ref=name,
        entries=snapshot.entries,
        files=image.files,
        bytes=snapshot.bytes if image.bytes is None else image.bytes,
        files_hashed=0,
        bytes_hashed=0,
        bytes_reused=snapshot.bytes,
        chunks_sent=0,
        chunk_bytes_sent=0,
        packs_sent=0,
        bytes_stored=0,
        unreadable=(),
        seconds=seconds,
        unchanged=True,
    )


def _distinct(layers: Sequence[Described]) -> list[Described]:
    return list({layer.digest: layer for layer in layers}.values())


def _said(layer: StoredLayer) -> dict[str, object]:
    return {
        "digest": layer.digest,
        "size": layer.size,
        "tar": layer.tar,
        "tarSize": layer.tar_size,
        "form": layer.form,
    }
