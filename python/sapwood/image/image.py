"""An image as a place to read a tree from: its layers opened, merged, and read by range.

Promise: opening takes the manifest, and of each layer its TOC, or what is kept of both; then only what is asked for is
read. Not here: how a layer is opened (`layers`), what is seen of it (the core).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapwood import places
from sapwood.archive import FileMap
from sapwood.archive.layers import lead, merge
from sapwood.digests import MapDigest, PackName, TreeDigest
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError
from sapwood.image.kept import forget, keep_soon, kept_map
from sapwood.image.layers import Layer, open_layer, wants_index
from sapwood.image.manifest import Described, Manifest, choose, parse
from sapwood.image.name import ImageName
from sapwood.image.places import Place, open_place
from sapwood.progress import OnProgress, together
from sapwood.store.archive import Archive, ArchiveTree
from sapwood.store.beside import Ranges
from sapwood.store.tocs import KeptTexts
from sapwood.store.waiting import each

if TYPE_CHECKING:
    from sapwood.image.upload import WritePlace

__all__ = [
    "Found",
    "Image",
    "OnFound",
    "find_image",
    "find_manifest",
    "find_root",
    "index_layers",
    "open_image",
    "read_config",
    "read_config_bytes",
    "read_document",
    "require_platform",
]

# Of indexes that name indexes.
_MOST_HOPS = 4
# Bytes.
_MOST_OF_A_CONFIG = 4 << 20
# Layers that are opened at a time.
_AT_ONCE = 8


@dataclass(frozen=True)
class Found:
    """An image of which the manifest is known, and no layer yet."""

    name: ImageName
    """Pinned: whatever its tag is moved to, this is what was found."""
    described: Described
    """Its manifest: not an index in which that is found."""
    manifest: Manifest
    place: Place

    def artifacts(self) -> WritePlace | None:
        """Return where what refers to it is found, by the connections that it has; None of what has no such place."""
        from sapwood.image.upload import beside

        return beside(self.name, self.place.registry)


class Image(Archive):
    """An open image: its file map, and the bytes of its frames. Safe to use from several threads."""

    def __init__(self, found: Found, file_map: FileMap, layers: Sequence[_Source], sizes: Sequence[int] = ()) -> None:
        """`layers` are the packs of the file map but that of its pages, which `pages_in` says."""
        self.file_map = file_map
        self.found = found
        self.name = found.name
        self.layers = [(layer.digest, layer.pack) for layer in layers]
        """Digest of each layer, the lowest first, and what its frames are known by."""
        self.layer_bytes = list(sizes)
        """Of all files of each layer, also of those that are not seen; none of an image that `brings_pages`."""
        self._place = found.place
        self._forget: tuple[str, Callable[[], None]] | None = None
        self._are_led = any(layer.is_led for layer in layers)
        # Layers of one TOC have the same chunks at the same places, or their digests tell.
        self._layers = {layer.pack: layer for layer in layers}

    def pages_in(self, ranges: Ranges, forget: Callable[[], None]) -> None:
        """Let pages of the file map be read from `ranges`; `forget` is called when one is found damaged."""
        pack = self.file_map.pages()[0].pack
        self._forget = pack, forget
        self._layers[pack] = _Source("", pack, ranges.url, is_led=False, open_it=lambda: ranges)

    @property
    def url(self) -> str:
        return str(self.name)

    @property
    def pinned(self) -> str:
        return str(self.name)

    def requests(self) -> dict[str, int]:
        return self._place.requests.so_far()

    def where(self, pack: PackName) -> str:
        layer = self._layers.get(pack)
        return self.url if layer is None else layer.url

    def read_ranges(self, pack: PackName, ranges: list[tuple[int, int]]) -> list[bytes]:
        layer = self._layers[pack]
        found = layer.opened().read(ranges)
        if self._are_led and not layer.is_led:
            return [lead(is_zeros=not length) + data for (_, length), data in zip(ranges, found, strict=True)]
        return found

    def read_moved(self, pack: PackName, offset: int, length: int, *, again: bool = False) -> None:  # noqa: ARG002 - a store's
        """Return None, for nothing is ever moved; a file that was changed is an error.

        Raises:
            ConflictError: `archive-changed`.
        """
        if self._forget is not None and self._forget[0] == pack:
            self._forget[1]()
        self._layers[pack].opened().check()

    def reconnect(self) -> None:
        self._place.reconnect()


OnFound = Callable[[Found], None]
"""Told of an image before its layers are opened."""


class _Source:
    """What the frames of a layer are read from, opened when something is first wanted of it."""

    def __init__(self, digest: str, pack: str, url: str, *, is_led: bool, open_it: Callable[[], Ranges]) -> None:
        self.digest, self.pack, self.url, self.is_led = digest, pack, url, is_led
        self._open_it = open_it
        self._ranges: Ranges | None = None
        self._guard = threading.Lock()

    @classmethod
    def of(cls, layer: Layer) -> _Source:
        return cls(layer.digest, layer.pack, layer.ranges.url, is_led=layer.is_led, open_it=lambda: layer.ranges)

    def opened(self) -> Ranges:
        with self._guard:
            if self._ranges is None:
                self._ranges = self._open_it()
            return self._ranges


def open_image(
    name: ImageName,
    *,
    cache_dir: Path | None = None,
    brings_pages: bool = False,
    place: Place | None = None,
    on_found: OnFound | None = None,
    progress: OnProgress | None = None,
) -> tuple[Image, ArchiveTree]:
    """Open an image; what is asked for again by its digest is kept in the cache, by default the user's.

    Who `brings_pages` of a file map when they are needed gets one that may lack them all. `progress` is told of layers
    that are read whole, in the threads that read them, one at a time. `place` is where the name was found, if it was;
    `on_found` is called before the layers are opened.

    Raises:
        InvalidInputError: `not-supported`: no image, or of a kind that is not read; `bad-redirect`, `no-ranges`.
        NotFoundError: `image-missing`, `platform-missing`, `object-missing`; `not-kept`: offline, and it is not here.
        CorruptError: `image-corrupt`: something is not what its digest, or its manifest, says; as `open_layer`.
        ConflictError: `archive-changed`: a file was written to meanwhile.
        UnavailableError, DeniedError: the registry, or the disk.
    """
    cache = cache_dir or places.cache_dir()
    place = place or open_place(name)
    found = Found(*find_manifest(name, place, KeptTexts(cache)), place)
    pinned, manifest = found.name, found.manifest
    if on_found is not None:
        on_found(found)

    share = together(progress)

    def opened(layer: Described) -> Layer:
        return open_layer(layer, place.blob(layer), cache, share())

    kept = kept_map(manifest.layers, cache) if brings_pages else None
    if kept is not None:
        sources = [
            _Source(
                layer.digest,
                pack,
                f"{pinned} {layer.digest}",
                is_led=is_led,
                open_it=partial(_ranges, place, layer, opened if is_led else None),
            )
            for (pack, is_led), layer in zip(kept.layers, manifest.layers, strict=True)
        ]
        image = Image(found, kept.file_map, sources)
        image.pages_in(kept.pages, partial(forget, manifest.layers, cache))
    else:
        layers = each(opened, manifest.layers, at_once=_AT_ONCE)
        maps = [layer.file_map for layer in layers]
        try:
            file_map = merge(maps)
        except CorruptError as error:
            raise CorruptError(f"{name}: {error}", kind="image-corrupt", hint="push the image again") from error
        image = Image(found, file_map, [_Source.of(one) for one in layers], [one.bytes for one in maps])
        if brings_pages:
            keep_soon(image.file_map, manifest.layers, [(layer.pack, layer.is_led) for layer in layers], cache)
    page = image.file_map.pages()[0]
    return image, ArchiveTree(TreeDigest(image.file_map.tree), MapDigest(f"sha256:{page.pack}"), image.pinned)


def find_image(name: ImageName, place: Place, *, cache_dir: Path) -> ImageName:
    """Return the pinned name of the image that is meant; errors as `open_image`."""
    return find_manifest(name, place, KeptTexts(cache_dir))[0]


def index_layers(name: ImageName, *, cache_dir: Path | None = None, progress: OnProgress | None = None) -> None:
    """Let layers that have no TOC be read whole for their indexes, as far as these are not kept.

    Raises:
        SapwoodError: as `open_image`.
    """
    cache, place = cache_dir or places.cache_dir(), open_place(name)
    _, _, manifest = find_manifest(name, place, KeptTexts(cache))
    todo = [layer for layer in manifest.layers if wants_index(layer, cache)]
    share = together(progress)
    each(lambda layer: open_layer(layer, place.blob(layer), cache, share()), todo, at_once=_AT_ONCE)


def _ranges(place: Place, blob: Described, opened: Callable[[Described], Layer] | None) -> Ranges:
    """Return the bytes of a layer; of one that is led, by its index."""
    return place.blob(blob) if opened is None else opened(blob).ranges


def read_config(
    name: ImageName, *, cache_dir: Path | None = None, place: Place | None = None
) -> tuple[ImageName, dict[str, Any]]:
    """Return the pinned name of an image, and its configuration: what to run in it, and how. No layer is opened.

    Raises:
        SapwoodError: as `open_image`, but for layers.
    """
    kept, place = KeptTexts(cache_dir or places.cache_dir()), place or open_place(name)
    pinned, _, manifest = find_manifest(name, place, kept)
    data = read_config_bytes(manifest.config, name, place, kept)
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise CorruptError(f"{name}: its configuration is no JSON object", kind="image-corrupt")
    return pinned, said


def find_manifest(name: ImageName, place: Place, kept: KeptTexts) -> tuple[ImageName, Described, Manifest]:
    """Return the name that means it, and nothing else, ever; and the manifest that is meant.

    Raises:
        SapwoodError: as `open_image`.
    """
    digest, data = find_root(name, place, kept)
    pinned = name.pinned(digest)
    for hop in range(_MOST_HOPS):
        said = parse(data, str(name))
        if isinstance(said, Manifest):
            if hop == 0:
                require_platform(said, name, place, kept)
            return pinned, Described(digest, len(data), said.media_type), said
        chosen = choose(said, name)
        data, digest = read_document(chosen, place, kept), chosen.digest
    raise InvalidInputError(f"{name}: indexes of indexes of indexes", kind="not-supported")


def find_root(name: ImageName, place: Place, kept: KeptTexts) -> tuple[str, bytes]:
    """Return the digest of the manifest or index that a name means, whatever the platform, and its bytes.

    Raises:
        SapwoodError: as `open_image`.
    """
    if name.digest:
        return name.digest, read_document(Described(name.digest, 0), place, kept)
    data, digest = place.find(name)
    found = _digest(data)
    if digest not in (None, found):
        raise CorruptError(f"{name}: its manifest hashes to {found[:19]}, not {digest}", kind="image-corrupt")
    kept.keep(found, data)
    return found, data


def require_platform(manifest: Manifest, name: ImageName, place: Place, kept: KeptTexts) -> None:
    """Refuse an image that no index tells of, if one for a platform is asked for and it says that it is for another.

    Raises:
        NotFoundError: `platform-missing`.
        SapwoodError: as `read_config_bytes`.
    """
    if name.platform is None:
        return
    data = read_config_bytes(manifest.config, name, place, kept)
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return  # who needs it will say so
    words = [said.get(key) for key in ("os", "architecture", "variant")] if isinstance(said, dict) else []
    found = [word if isinstance(word, str) else "" for word in words]
    if any(one and other and one != other for one, other in zip(found, name.wanted_platform, strict=False)):
        shown = "/".join(word for word in found if word)
        raise NotFoundError(
            f"{name}: nothing for {name.platform}; it is no index, but one image, for {shown}",
            kind="platform-missing",
            hint=f"--platform {shown}" if all(found[:2]) else None,
            address=str(name),
        )


def read_config_bytes(blob: Described, name: ImageName, place: Place, kept: KeptTexts) -> bytes:
    """Return a configuration, proved by its digest.

    Raises:
        SapwoodError: as `open_image`.
    """
    if blob.size > _MOST_OF_A_CONFIG:
        raise CorruptError(f"{name}: its configuration has {blob.size} bytes", kind="image-corrupt")
    data = kept.read(blob.digest)
    if data is None or _digest(data) != blob.digest:
        [data] = place.blob(blob).read([(0, blob.size)])
        if _digest(data) != blob.digest:
            raise CorruptError(f"{name}: its configuration is another than its manifest names", kind="image-corrupt")
        kept.keep(blob.digest, data)
    return data


def read_document(blob: Described, place: Place, kept: KeptTexts) -> bytes:
    """Return a manifest or index, proved by its digest.

    Raises:
        SapwoodError: as `open_image`.
    """
    data = kept.read(blob.digest)
    if data is not None and _digest(data) == blob.digest:
        return data
    data = place.document(blob)
    if (found := _digest(data)) != blob.digest:
        raise CorruptError(
            f"{place.url}: the manifest {blob.digest[:19]} hashes to {found[:19]}", kind="image-corrupt", hint=None
        )
    kept.keep(blob.digest, data)
    return data


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
