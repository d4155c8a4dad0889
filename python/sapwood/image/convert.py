"""Images made lazy: each layer an archive that is entered anywhere, written to another place.

Promise: the same image and choices give the same image, byte for byte. Layers that are such archives already stay as
they are, and what the other place has, or a repository beside it, is not sent. Layers go first, then what names them,
the tag last: what was killed is no image, and who runs it again sends what is missing. Not here: one layer on its way
(`sending`), documents (`rewriting`).
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sapwood import places
from sapwood.archive import write
from sapwood.archive.write import Choices, Written
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, SapwoodError, StoppedError
from sapwood.image.image import find_root, read_config_bytes, read_document, require_platform
from sapwood.image.layers import CHUNKED_TOC, STARGZ_TOC, vouched_map
from sapwood.image.manifest import Described, Manifest, choose, described, parse
from sapwood.image.name import ImageName
from sapwood.image.places import open_place
from sapwood.image.profiles import carry_profile
from sapwood.image.remade import Remade, RemadeLayers
from sapwood.image.rewriting import INDEX, LAYER, MANIFEST, Replaced, config_with, index_with, kind_of, manifest_with
from sapwood.image.sending import copy_layer, fetch_layer, send_archive
from sapwood.image.upload import WritePlace, beside, open_write_place, require_unpinned
from sapwood.progress import OnProgress, Progress
from sapwood.store.tocs import KeptTexts
from sapwood.store.waiting import each, meanwhile

__all__ = ["Converted", "ConvertedImage", "ConvertedLayer", "convert_image"]

# Layers on their way; of them so many are being made, each by all processors: one alone waits for its tar's digest.
_AT_ONCE = 4
_MADE_AT_ONCE = 2
_PAUSE_S = 0.1
# And indexes, of all indexes together.
_MOST_IMAGES = 1000
# Of indexes that name indexes.
_MOST_HOPS = 4
_UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"


@dataclass(frozen=True)
class ConvertedLayer:
    """What became of a layer. Sizes in bytes."""

    source: str
    source_size: int
    blob: Described
    replaced: Replaced | None
    """None: it stayed as it was."""
    came: str
    """`sent`; `taken` over from another repository; or it was `there`."""
    first: tuple[bytes, ...] = ()
    """Of the files to be first those that it has."""


@dataclass(frozen=True)
class ConvertedImage:
    """What became of one image, for a platform, "" if nothing says which."""

    platform: str
    source: str
    digest: str
    layers: tuple[ConvertedLayer, ...]


@dataclass(frozen=True)
class Converted:
    """An image, or several in an index, that were converted. Sizes in bytes."""

    name: ImageName
    """Pinned."""
    images: tuple[ConvertedImage, ...]
    bytes_read: int
    bytes_sent: int
    """Both of layers."""
    absent: tuple[bytes, ...]
    """Of the files to be first those that no layer has."""
    left_out: int
    """Entries of the index that are no images: attestations of what the images were."""
    without_profiles: str
    """Why profiles that may lie beside the source do not lie beside this; else empty."""
    requests: dict[str, int]
    """To where it was written."""
    seconds: float


def convert_image(
    source: ImageName,
    destination: ImageName,
    choices: Choices | None = None,
    *,
    cache_dir: Path | None = None,
    progress: OnProgress | None = None,
) -> Converted:
    """Write the image `source` to `destination`, its layers as eStargz, or as zstd:chunked.

    Of an index all images are, unless `source` says a platform; then that image alone. Files to be first, of
    `choices`, are in the layers that have them.

    Raises:
        InvalidInputError: `bad-address`: the destination is pinned, or for a platform; `not-supported`;
            `image-refused`.
        NotFoundError: `image-missing`, `platform-missing`, `object-missing`.
        CorruptError: `image-corrupt`, `archive-corrupt`: a layer is not what its digest says, or no tar.
        UnavailableError, DeniedError: a registry, or the disk; `upload-lost`.
    """
    started = time.monotonic()
    require_unpinned(destination)
    choices = copy(choices) if choices else Choices()
    choices.prioritize = sorted(_clean(choices.prioritize))
    work = _Conversion(source, destination, choices, cache_dir or places.cache_dir(), progress)
    digest = work.run()
    return Converted(
        name=destination.pinned(digest),
        images=tuple(work.images),
        bytes_read=work.read,
        bytes_sent=sum(layer.blob.size for layer in work.layers.values() if layer.came == "sent"),
        absent=work.absent(),
        left_out=work.left_out,
        without_profiles=work.without_profiles,
        requests=work.place.requests.so_far(),
        seconds=time.monotonic() - started,
    )


@dataclass
class _Document:
    """A manifest or index of the source, and what it names that is converted."""

    digest: str
    data: bytes
    manifest: Manifest | None
    platform: str = ""
    entries: dict[int, _Document] = field(default_factory=dict)


class _Conversion:
    def __init__(
        self, source: ImageName, destination: ImageName, choices: Choices, cache_dir: Path, progress: OnProgress | None
    ) -> None:
        self._source_name, self._destination, self._cache_dir = source, destination, cache_dir
        self._choices, self._wanted = choices, frozenset(choices.prioritize)
        self._progress = progress
        self._kept = KeptTexts(cache_dir)
        self._remade = RemadeLayers(cache_dir, choices)
        self._source = open_place(source)
        self._making = threading.BoundedSemaphore(_MADE_AT_ONCE)
        self._guard = threading.Lock()
        self._is_stopped = threading.Event()
        self.place: WritePlace
        self.images: list[ConvertedImage] = []
        self.layers: dict[str, ConvertedLayer] = {}
        self.left_out = 0
        self.read = 0
        self.without_profiles = ""
        self._made: dict[str, Described] = {}
        self._images = 0

    def run(self) -> str:
        """Convert, and return the digest of what there is then."""
        root = self._find()
        blobs = {blob.digest: blob for blob in _layers(root)}
        known = {digest: remade for digest in blobs if (remade := self._remade.read(digest)) is not None}
        self.place = open_write_place(self._destination, beside=self._beside(known.values()))
        # The largest first, so that it does not come alone at the end.
        todo = sorted(blobs.values(), key=lambda blob: -blob.size)
        # Who may not write shall hear of it before anything is fetched.
        if not all(remade is not None and self.place.has(remade.now.blob) for remade in map(known.get, blobs)):
            with self.place.upload():
                pass
        done = self._watched(lambda: each(lambda blob: self._layer(blob, known), todo, at_once=_AT_ONCE), todo)
        self.layers = {layer.source: layer for layer in done}
        digest, _ = self._write(root, is_root=True)
        self._carry_profiles()
        return digest

    def _carry_profiles(self) -> None:
        """Let what was recorded of each image lie beside what it is now: it is read as before."""
        if (source := beside(self._source_name, self._source.registry)) is None:
            return
        try:
            for image in self.images:
                carry_profile(source, image.source, self.place, self._made[image.digest])
        except SapwoodError as error:
            self.without_profiles = str(error)

    # What there is.

    def _find(self) -> _Document:
        digest, data = find_root(self._source_name, self._source, self._kept)
        for hop in range(_MOST_HOPS):
            said = parse(data, str(self._source_name))
            if isinstance(said, Manifest) and hop == 0:
                require_platform(said, self._source_name, self._source, self._kept)
            if isinstance(said, Manifest) or self._source_name.platform is None:
                break
            chosen = choose(said, self._source_name)
            digest, data = chosen.digest, read_document(chosen, self._source, self._kept)
        platform = self._source_name.platform or ""
        # By its digest it is one image, whatever its index said of it.
        self._source_name = replace(self._source_name.pinned(digest), platform=None)
        return self._document(digest, data, platform, _MOST_HOPS)

    def _document(self, digest: str, data: bytes, platform: str, hops: int) -> _Document:
        said = parse(data, str(self._source_name))
        if isinstance(said, Manifest):
            return _Document(digest, data, said, platform)
        if not hops:
            raise InvalidInputError(f"{self._source_name}: indexes of indexes of indexes", kind="not-supported")
        found = _Document(digest, data, None)
        for number, entry in enumerate(said):
            if _is_no_image(entry):
                self.left_out += 1
                continue
            self._images += 1
            if self._images > _MOST_IMAGES:
                raise CorruptError(f"{self._source_name}: more than {_MOST_IMAGES} images", kind="image-corrupt")
            blob = described(entry, str(self._source_name))
            below = read_document(blob, self._source, self._kept)
            said_of = entry.get("platform")
            platform = _platform(said_of) if isinstance(said_of, dict) else ""
            found.entries[number] = self._document(blob.digest, below, platform, hops - 1)
        if not found.entries:
            raise NotFoundError(f"{self._source_name}: an index of no image", kind="image-missing")
        return found

    def _beside(self, known: Iterable[Remade]) -> list[str]:
        """Return the repositories of the registry that is written to of which layers may be taken over."""
        there = self._destination
        if not there.is_remote:
            return []
        from_source = [self._source_name.repository] if self._is_same_registry else []
        places = [place for remade in known for place in remade.places]
        return [*from_source, *(r for host, _, r in (place.partition("/") for place in places) if host == there.place)]

    @property
    def _is_same_registry(self) -> bool:
        source, there = self._source_name, self._destination
        return source.is_remote and there.is_remote and source.place == there.place

    # Layers.

    def _layer(self, blob: Described, known: dict[str, Remade]) -> ConvertedLayer:
        if (first := self._stays(blob)) is not None:
            return ConvertedLayer(blob.digest, blob.size, blob, None, self._bring(blob), first)
        remade = known.get(blob.digest)
        came = None if remade is None else self._take(remade)
        if remade is None or came is None:
            remade, came = self._make(blob), "sent"
        self._remade.note_place(blob.digest, remade, self._here)
        first = tuple(os.fsencode(name) for name in remade.first)
        return ConvertedLayer(blob.digest, blob.size, remade.now.blob, remade.now, came, first)

    def _stays(self, blob: Described) -> tuple[bytes, ...] | None:
        """Return None if the layer is to be made anew, else what it has of the files to be first."""
        choices = self._choices
        if (choices.level, choices.chunk_size, choices.min_chunk_size, choices.compatible_times) != (
            None,
            None,
            0,
            False,
        ):
            return None
        annotation, ending = (CHUNKED_TOC, "zstd") if choices.zstd else (STARGZ_TOC, "gzip")
        if annotation not in blob.annotations or not blob.media_type.endswith(ending):
            return None
        try:
            file_map = vouched_map(blob, self._source.blob(blob), self._cache_dir)
        except CorruptError:
            return None  # a TOC that lies: its tar says what there is
        if file_map is None or any(file_map.lookup(name) is not None for name in self._wanted):
            return None
        return ()

    def _bring(self, blob: Described) -> str:
        """Let a layer be there as it is, and say how it came."""
        if self.place.has(blob):
            return "there"
        if self._is_same_registry and self.place.take(blob, self._source_name.repository):
            return "taken"
        copy_layer(self._source.blob(blob), blob, self.place, self._step)
        return "sent"

    def _take(self, remade: Remade) -> str | None:
        blob = remade.now.blob
        if self.place.has(blob):
            return "there"
        for place in remade.places:
            host, _, repository = place.partition("/")
            if host == self._destination.place and self.place.take(blob, repository):
                return "taken"
        return None

    def _make(self, blob: Described) -> Remade:
        temporary = tempfile.gettempdir()
        ranges = self._source.blob(blob)
        with write.spool(temporary) as tar:
            fetch_layer(ranges, blob, tar, self._step)

            def make(output: int) -> Written:
                tar.seek(0)
                with self._making:
                    return write.convert(
                        tar,
                        ranges.url,
                        output,
                        self.place.url,
                        self._choices,
                        temporary=temporary,
                        is_layer=True,
                        progress=self._hear,
                    )

            def keep(sent: Described, written: Written) -> None:
                # Before it is there: who is killed behind that need not make it again to find that it is.
                self._remade.keep(blob.digest, self._became(sent, written))

            return self._became(*send_archive(self.place, make, keep))

    def _became(self, sent: Described, written: Written) -> Remade:
        annotations = dict(written.annotations)
        if not self._choices.zstd:
            annotations[_UNCOMPRESSED_SIZE] = str(written.tar_size)
        kind = LAYER["zstd" if self._choices.zstd else "gzip"]
        now = Replaced(Described(sent.digest, sent.size, kind, annotations), written.tar)
        first = tuple(os.fsdecode(name) for name in sorted(self._wanted - set(written.absent)))
        return Remade(now, first, (self._here,) if self._here else ())

    @property
    def _here(self) -> str:
        there = self._destination
        return f"{there.place}/{there.repository}" if there.is_remote else ""

    # Documents.

    def _write(self, document: _Document, *, is_root: bool = False) -> tuple[str, Described]:
        layers: list[ConvertedLayer] = []
        if document.manifest is None:
            entries = {number: self._write(below)[1] for number, below in document.entries.items()}
            data = index_with(document.data, entries)
        else:
            layers = [self.layers[blob.digest] for blob in document.manifest.layers]
            config = document.manifest.config
            old = read_config_bytes(config, self._source_name, self._source, self._kept)
            new = config_with(old, [layer.replaced for layer in layers], str(self._source_name))
            put = self.place.put(new)
            data = manifest_with(document.data, put, [layer.replaced for layer in layers])
            document.platform = document.platform or _platform(json.loads(new))
        kind = kind_of(data, INDEX if document.manifest is None else MANIFEST)
        tag = self._destination.tag if is_root else None
        made, _ = self.place.put_document(data, kind, tag=tag, is_root=is_root)
        if document.manifest is not None:
            self._made[made.digest] = made
            self.images.append(ConvertedImage(document.platform, document.digest, made.digest, tuple(layers)))
        return made.digest, made

    def absent(self) -> tuple[bytes, ...]:
        """Return what was to be first and is in no layer."""
        there = {name for layer in self.layers.values() for name in layer.first}
        return tuple(sorted(self._wanted - there))

    # How far it is.

    def _watched(self, work: Callable[[], list[ConvertedLayer]], todo: Sequence[Described]) -> list[ConvertedLayer]:
        """Work beside this thread, which hears of Ctrl-C and tells how far it is."""
        total, finished = sum(blob.size for blob in todo), threading.Event()

        def working() -> list[ConvertedLayer]:
            try:
                return work()
            finally:
                finished.set()

        result = meanwhile(working)
        try:
            while not finished.wait(_PAUSE_S):
                if self._progress is not None:
                    self._progress(Progress(0, len(todo), min(self.read, total), total))
            return result()
        finally:
            self._is_stopped.set()

    def _step(self, count: int) -> None:
        with self._guard:
            self.read += count
        self._hear()

    def _hear(self, _: Any = None) -> None:
        if self._is_stopped.is_set():
            raise StoppedError("it was stopped", kind="stopped")


def _layers(document: _Document) -> Iterable[Described]:
    """Return each layer, with what its manifest says of it; what vouches for a TOC comes last, and counts."""
    found = [*document.manifest.layers] if document.manifest is not None else []
    for below in document.entries.values():
        found += _layers(below)
    return sorted(found, key=lambda blob: STARGZ_TOC in blob.annotations or CHUNKED_TOC in blob.annotations)


def _is_no_image(entry: dict[str, Any]) -> bool:
    platform = entry.get("platform")
    return isinstance(platform, dict) and platform.get("os") == "unknown"


def _platform(said: dict[str, Any]) -> str:
    """Return what a configuration, or what an index says of a platform, means."""
    return "/".join(str(said[name]) for name in ("os", "architecture", "variant") if said.get(name))


def _clean(names: Iterable[bytes]) -> set[bytes]:
    return {os.path.normpath(b"/" + name).lstrip(b"/") for name in names} - {b""}
