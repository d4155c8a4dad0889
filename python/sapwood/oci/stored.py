"""An image in a store: its documents and layers, given back as they were.

Promise: what is given back is proved to be what was pushed before anybody is told that it is whole. Not here: how it
came there (`storing`), where it goes (`giving`). Bytes: docs/oci.md, "Images in stores".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sapwood.archive import FileMap
from sapwood.archive.regzip import inflate, together
from sapwood.errors import CorruptError, FormatError, NotFoundError, SapwoodError
from sapwood.fetch import load_map
from sapwood.image.manifest import Manifest, parse
from sapwood.oci.piping import piped
from sapwood.store.address import Address
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store
from sapwood.store.tocs import KeptTexts
from sapwood.tarstream import Entry, Sink, Window, entries_of, write_files

__all__ = ["FOLDER", "FORMAT", "StoredImage", "StoredLayer", "stored_before", "stored_config"]

FOLDER = ".wh..wh.image"
"""Where in the tree of an image the rest of it lies; no image shows such a name."""
FORMAT = 1
_SEAL = hashlib.sha256().digest_size
_MOST_OF_A_DOCUMENT = 16 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FORMS = ("tar", "gzip", "kept")
_PIECE = 1 << 20


@dataclass(frozen=True)
class StoredLayer:
    """A layer, and its plain tar. Sizes in bytes.

    `form` is `tar`, or `gzip`, of which what its tar does not say is stored, or `kept`, as it lies.
    """

    digest: str
    size: int
    tar: str
    tar_size: int
    form: str

    @property
    def folder(self) -> str:
        return f"{FOLDER}/layers/{self.digest.removeprefix('sha256:')}"


class StoredImage:
    """What a snapshot holds of an image besides its tree."""

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        """Read what the snapshot says of it.

        Raises:
            NotFoundError: `image-missing`: it was not pushed as an image.
            CorruptError: `image-corrupt`; as `load_map`.
            FormatError: `format-newer`.
        """
        self.store = store
        self.map: FileMap = load_map(store, snapshot, pages=False)
        self.where = f"{store.url} snapshot {snapshot.digest[:19]}"
        # Which holds some pages at a time; layers are read several at a time.
        self._window, self._guard = Window(store, self.map), threading.Lock()
        if self._window.lookup(f"{FOLDER}/image.json".encode()) is None:
            raise NotFoundError(
                f"{self.where}: it was pushed as a tree, not as an image",
                kind="image-missing",
                hint="sapwood push oci://HOST/REPOSITORY:TAG STORE#REF",
            )
        said = self._object(self.read(f"{FOLDER}/image.json"))
        if isinstance(said.get("format"), int) and said["format"] > FORMAT:
            raise FormatError(f"{self.where}: its image.json has format {said['format']}", kind="format-newer")
        try:
            self.digest = _digest(said["manifest"])
            self.media_type = str(said["mediaType"])
            self.index: str | None = None if said.get("index") is None else _digest(said["index"])
            self.files = int(said["files"])
            # Unknown of what was pushed before it was told.
            self.bytes: int | None = None if said.get("bytes") is None else int(said["bytes"])
            self.layers = [_layer(layer) for layer in said["layers"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._corrupt("its image.json says no image") from error
        self.manifest = self._manifest()

    def _manifest(self) -> Manifest:
        said = parse(self.document(self.digest), self.where)
        known = {layer.digest: layer.size for layer in self.layers}
        if not isinstance(said, Manifest) or any(known.get(layer.digest) != layer.size for layer in said.layers):
            raise self._corrupt("its manifest names other layers than it has")
        return said

    def layer(self, digest: str) -> StoredLayer:
        """Return a layer by its digest; KeyError if there is none."""
        return {layer.digest: layer for layer in self.layers}[digest]

    def document(self, digest: str) -> bytes:
        """Return a manifest, index or configuration, proved.

        Raises:
            CorruptError: `image-corrupt`: it is missing, or another.
        """
        data = self.read(f"{FOLDER}/documents/{digest.removeprefix('sha256:')}")
        if (found := f"sha256:{hashlib.sha256(data).hexdigest()}") != digest:
            raise self._corrupt(f"its document {digest[:19]} hashes to {found[:19]}")
        return data

    def config(self) -> tuple[dict[str, Any], bytes]:
        """Return the configuration, and its bytes; errors as `document`."""
        data = self.document(self.manifest.config.digest)
        return self._object(data), data

    def read(self, path: str) -> bytes:
        """Return a file of at most 16 MiB.

        Raises:
            CorruptError: `image-corrupt`: it is missing.
        """
        entry = self._file(path)
        if entry.size > _MOST_OF_A_DOCUMENT:
            raise self._corrupt(f"{path} has {entry.size} bytes")
        with tempfile.SpooledTemporaryFile(_MOST_OF_A_DOCUMENT) as out:
            write_files(self.store, self.map, [entry], out)
            out.seek(0)
            return out.read()

    def write_tar(self, layer: StoredLayer, out: Sink) -> None:
        """Write the plain tar of a layer.

        Raises:
            CorruptError: `image-corrupt`: what was written is another; `chunk-corrupt`, `damaged`.
            SapwoodError: as `write_files`; `disk-full`, `io`.
        """
        proved = _Proved(out)
        if layer.form == "kept":
            with tempfile.TemporaryFile() as blob:
                self.write_file(f"{layer.folder}/blob", blob)
                blob.flush()
                piped(lambda into: inflate(blob.fileno(), self.where, into), proved)
        else:
            self._write_parts(layer, proved)
        proved.require(self, layer.tar, layer.tar_size)

    def write_layer(self, layer: StoredLayer, out: Sink) -> None:
        """Write a layer as it lay; errors as `write_tar`."""
        proved = _Proved(out)
        if layer.form == "tar":
            self._write_parts(layer, proved)
        elif layer.form == "kept":
            self.write_file(f"{layer.folder}/blob", proved)
        else:
            with tempfile.TemporaryFile() as corrections, tempfile.TemporaryFile() as tar:
                self.write_file(f"{layer.folder}/corrections", corrections)
                self._write_parts(layer, tar)
                for file in (corrections, tar):
                    file.flush()
                    os.lseek(file.fileno(), 0, os.SEEK_SET)
                piped(lambda into: together(tar.fileno(), corrections.fileno(), self.where, into), proved)
        proved.require(self, layer.digest, layer.size)

    def write_file(self, path: str, out: Sink) -> None:
        """Write a file; errors as `write_tar`."""
        write_files(self.store, self.map, [self._file(path)], out)

    def contents(self) -> dict[bytes, tuple[str, int]]:
        """Return digest and size of each file's content that is not empty, by path."""
        found = dict[bytes, tuple[str, int]]()
        for entry, first, _ in entries_of(self._window):
            if first.kind == "reg" and first.digest is not None and first.size:
                found[entry.path] = first.digest, first.size
        return found

    def parts(self, layer: StoredLayer) -> Iterator[tuple[int, bytes | None]]:
        """Yield of what a layer's tar is made: so many bytes of its headers, and the file whose content comes next.

        Raises:
            CorruptError: `image-corrupt`.
        """
        with tempfile.TemporaryFile() as parts:
            self.write_file(f"{layer.folder}/parts", parts)
            parts.seek(0)
            for line in parts:
                try:
                    raw, *named = json.loads(line)
                    if not isinstance(raw, int) or raw < 0 or [type(name) for name in named] not in ([], [str]):
                        raise ValueError
                    path = os.fsencode(named[0]) if named else None
                except (ValueError, TypeError, RecursionError):
                    raise self._corrupt("what a layer is made of is spelt wrongly") from None
                yield raw, path

    def _write_parts(self, layer: StoredLayer, out: Sink) -> None:
        with tempfile.TemporaryFile() as headers:
            self.write_file(f"{layer.folder}/headers", headers)
            headers.seek(0)
            write_files(self.store, self.map, self._pieces(headers, layer), out)

    def _pieces(self, headers: IO[bytes], layer: StoredLayer) -> Iterator[bytes | Entry]:
        for raw, path in self.parts(layer):
            left = raw
            while left:
                piece = headers.read(min(left, _PIECE))
                if not piece:
                    raise self._corrupt("it lacks headers of a layer")
                left -= len(piece)
                yield piece
            if path is not None:
                yield self._file(path)

    def _file(self, path: str | bytes) -> Entry:
        with self._guard:
            entry = self._window.lookup(os.fsencode(path))
            if entry is not None and entry.kind == "hardlink" and entry.target is not None:
                entry = self._window.lookup(entry.target)
        if entry is None or entry.kind != "reg":
            raise self._corrupt(f"{os.fsdecode(path)} is missing in it")
        return entry

    def _object(self, data: bytes) -> dict[str, Any]:
        try:
            said = json.loads(data)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise self._corrupt("its image.json is no JSON object")
        return said

    def _corrupt(self, found: str) -> CorruptError:
        return CorruptError(f"{self.where}: {found}", kind="image-corrupt", hint="push the image again")


class _Proved:
    """Passes on what is written, and knows its digest."""

    def __init__(self, out: Sink) -> None:
        self._out, self._hash, self._size = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._size += len(data)
        left = data
        while left:  # a pipe may take less at a time
            left = left[self._out.write(left) :]
        return len(data)

    def require(self, image: StoredImage, digest: str, size: int) -> None:
        found = f"sha256:{self._hash.hexdigest()}"
        if (found, self._size) != (digest, size):
            raise CorruptError(
                f"{image.where}: the layer {digest[:19]} was made again, and hashes to {found[:19]}",
                kind="image-corrupt",
                hint="push the image again",
                digest=digest,
            )


def _layer(said: Any) -> StoredLayer:
    layer = StoredLayer(
        _digest(said["digest"]), int(said["size"]), _digest(said["tar"]), int(said["tarSize"]), said["form"]
    )
    if layer.form not in _FORMS:
        raise ValueError(layer.form)
    return layer


def _digest(said: Any) -> str:
    if not isinstance(said, str) or not _DIGEST.fullmatch(said):
        raise ValueError(said)
    return said


def stored_before(store: Store, snapshot: Snapshot) -> StoredImage | None:
    """Return the image that a snapshot is, if it is one that can be read."""
    try:
        return StoredImage(store, snapshot)
    except SapwoodError:
        return None


def stored_config(address: Address, *, cache_dir: Path, offline: bool = False) -> dict[str, Any]:
    """Return the configuration of the image that a pinned address names: what to run in it, and how.

    Raises:
        NotFoundError: `image-missing`; `not-kept`: it was not read before, and no store is asked `offline`.
        CorruptError: `image-corrupt`.
        SapwoodError: as `Address.open`, `load_map`.
    """
    assert address.pin is not None
    kept, name = KeptTexts(cache_dir, "trees"), f"{address.pin.removeprefix('sha256:')}.config"
    data = kept.look(name) or b""
    # The snapshot does not say its digest.
    if hashlib.sha256(data[_SEAL:]).digest() == data[:_SEAL]:
        said: dict[str, Any] = json.loads(data[_SEAL:])
        return said
    if offline:
        raise NotFoundError(
            f"{address}: what is to be run in it is not kept here, and no store is asked offline",
            kind="not-kept",
            hint="run it once without --offline",
        )
    store, _, snapshot = address.open(cache_dir=cache_dir)
    image = StoredImage(store, snapshot)
    config, data = image.config()
    kept.write(name, hashlib.sha256(data).digest() + data)
    return config
