"""The tar that an image is pushed as: its tree, and beside that what it takes to give its layers back.

Invariant: a content that the store is known to have is told, not said: it is neither read nor in the tar. Whatever is
said of a layer, it is made again of that to the byte. Not here: where layers lie meanwhile (`staging`), how they come
back (`stored`). Bytes: docs/oci.md, "Images in stores".
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from sapwood.errors import UnavailableError
from sapwood.image.image import Image
from sapwood.oci.parts import contents
from sapwood.oci.staging import StagedLayer
from sapwood.oci.stored import FOLDER, StoredImage
from sapwood.tarstream import Sink, Window, entries_of, told_header, write_entries

__all__ = ["write_image"]

_PIECE = 1 << 20
_BLOCK = 512
# A content that the tree has not is a file of its own from this size on, else it stays where it stands.
_OWN = 4096

_Content = tuple[str, int]
"""Digest and size."""


def write_image(
    image: Image,
    said: Mapping[str, object],
    documents: Mapping[str, bytes],
    layers: Sequence[StagedLayer],
    before: StoredImage | None,
    attribute: bytes,
    out: Sink,
) -> tuple[int, int]:
    """Write the tar. What `before`, the image that the ref names, has is told by entries that have `attribute`.

    Return how many files the image has, and how many bytes these.

    Raises:
        SapwoodError: as `write_entries`, and as `StoredImage`.
    """
    held = {} if before is None else before.contents()
    known = set(held.values())
    there = dict[_Content, bytes]()
    files = 0
    for entry, first, earlier in entries_of(Window(image, image.file_map)):
        files += first.kind == "reg"
        if entry.kind == "reg" and earlier is None and entry.digest is not None and entry.size:
            there.setdefault((entry.digest, entry.size), entry.path)
    tar = _Tar(out, attribute, known)
    write_entries(image, image.file_map, tar, None, holes=True, is_all=False, told=(attribute, known))
    for folder in ("", "/documents", "/files", "/layers"):
        tar.folder(FOLDER + folder)
    told = {**said, "files": files, "bytes": image.file_map.bytes}
    tar.file(f"{FOLDER}/image.json", json.dumps(told, separators=(",", ":")).encode() + b"\n")
    for digest, data in sorted(documents.items()):
        tar.file(f"{FOLDER}/documents/{digest.removeprefix('sha256:')}", data)
    for layer in layers:
        tar.folder(layer.told.folder)
        if layer.is_stored:
            assert before is not None
            _again(layer, before, held, there, tar)
        else:
            _anew(layer, there, tar)
    return files, image.file_map.bytes


def _again(
    layer: StagedLayer, before: StoredImage, held: Mapping[bytes, _Content], there: dict[_Content, bytes], tar: _Tar
) -> None:
    """Tell of a layer that the image before has; what files of its tree had may now be called otherwise."""
    folder = f"{layer.told.folder}/".encode()
    for path in sorted(held):
        if path.startswith(folder) and path != folder + b"parts":
            tar.content(path.decode(), held[path])
    if layer.told.form == "kept":
        return
    with tempfile.TemporaryFile() as parts:
        for raw, named in before.parts(layer.told):
            line: list[object] = [raw]
            if named is not None:
                content = held[named]
                if content not in there:
                    there[content] = f"{FOLDER}/files/{content[0].removeprefix('sha256:')}".encode()
                    tar.content(there[content].decode(), content)
                line.append(os.fsdecode(there[content]))
            parts.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        tar.stream(f"{layer.told.folder}/parts", parts)


def _anew(layer: StagedLayer, there: dict[_Content, bytes], tar: _Tar) -> None:
    folder = layer.told.folder
    if layer.told.form != "kept":
        with tempfile.TemporaryFile() as headers, tempfile.TemporaryFile() as parts:
            _split(layer, there, headers, parts, tar)
            tar.stream(f"{folder}/headers", headers)
            tar.stream(f"{folder}/parts", parts)
    if layer.rest is not None:
        with layer.rest.open("rb") as file:
            tar.stream(f"{folder}/{'blob' if layer.told.form == 'kept' else 'corrections'}", file)
    with layer.index.open("rb") as file:
        tar.stream(f"{folder}/index", file)


def _split(layer: StagedLayer, there: dict[_Content, bytes], headers: IO[bytes], parts: IO[bytes], tar: _Tar) -> None:
    """Write what of a layer's tar is no content, and of which parts it is; contents that nothing has yet to `tar`."""
    with layer.tar.open("rb") as file:
        raw = at = 0

        def take(end: int) -> None:
            nonlocal raw, at
            raw += end - at
            for piece in _pieces(file.fileno(), at, end - at):
                headers.write(piece)
            at = end

        for content in contents(file.fileno(), layer.told.tar_size):
            hashing = hashlib.sha256()
            for piece in _pieces(file.fileno(), content.offset, content.size):
                hashing.update(piece)
            key = f"sha256:{hashing.hexdigest()}", content.size
            if key not in there:
                if content.size < _OWN:
                    continue
                there[key] = f"{FOLDER}/files/{hashing.hexdigest()}".encode()
                tar.stream(there[key].decode(), file, content.offset, content.size, key)
            take(content.offset)
            parts.write(json.dumps([raw, os.fsdecode(there[key])], separators=(",", ":")).encode() + b"\n")
            raw, at = 0, content.offset + content.size
        take(layer.told.tar_size)
        parts.write(b"[%d]\n" % raw)


def _pieces(file: int, offset: int, size: int) -> Iterator[bytes]:
    end = offset + size
    while offset < end:
        piece = os.pread(file, min(_PIECE, end - offset), offset)
        if not piece:
            raise UnavailableError("a temporary file was cut off while it was read", kind="io")
        offset += len(piece)
        yield piece


class _Tar:
    """A tar, and entries of our own in it: root's, of no time."""

    def __init__(self, out: Sink, attribute: bytes, known: set[_Content]) -> None:
        self._out, self._attribute, self._known = out, attribute, known

    def folder(self, name: str) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        self.write(info.tobuf(tarfile.PAX_FORMAT))

    def file(self, name: str, data: bytes) -> None:
        self.write(_header(name, len(data)) + data + bytes(-len(data) % _BLOCK))

    def content(self, name: str, content: _Content) -> None:
        """Tell of a file whose content the store has."""
        self.write(told_header(_header(name, 0), self._attribute, *content))

    def stream(
        self, name: str, file: IO[bytes], offset: int = 0, size: int | None = None, known_as: _Content | None = None
    ) -> None:
        """Write a file: a part of another, or all; or tell of it if the store has what it is `known_as`."""
        if known_as in self._known:
            self.content(name, known_as)
            return
        if size is None:
            if file.writable():
                file.flush()
            size = os.fstat(file.fileno()).st_size
        self.write(_header(name, size))
        for piece in _pieces(file.fileno(), offset, size):
            self.write(piece)
        self.write(bytes(-size % _BLOCK))

    def write(self, data: bytes) -> int:
        left = data
        while left:  # a pipe may take less at a time
            left = left[self._out.write(left) :]
        return len(data)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)
