"""The merged map of an image of many entries, kept in pages: who mounts it again reads what is looked at, and no TOC.

Invariant: what is kept is known by the layers that it is of, and by a digest of what finds and proves its pages, so it
is the map that was made of them, or none. It is a cache: what is damaged is made again. Bytes: docs/format.md, "Cache".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sapwood.archive import FileMap
from sapwood.archive.layers import keep, open_kept
from sapwood.errors import CorruptError, SapwoodError
from sapwood.image.manifest import Described
from sapwood.image.slices import Slice
from sapwood.store.tocs import KeptTexts

__all__ = ["KeptMap", "forget", "keep_soon", "kept_map"]

# With fewer entries TOCs are read as quickly.
_MANY = 20_000
_SEAL = hashlib.sha256().digest_size
_LENGTH = 4


@dataclass(frozen=True)
class KeptMap:
    """A map whose pages are yet to be brought, and its file; of each layer its pack, and whether that is led."""

    file_map: FileMap
    pages: Slice
    layers: tuple[tuple[str, bool], ...]


def kept_map(layers: Sequence[Described], cache_dir: Path) -> KeptMap | None:
    """Return what is kept of an image of these layers."""
    path = _folder(cache_dir).folder / _name(layers)
    try:
        kept = Slice(os.fspath(path), is_kept=True)
        end = kept.size - _SEAL - _LENGTH
        [length, seal] = kept.read([(end, _LENGTH), (end + _LENGTH, _SEAL)])
        [said] = kept.read([(end - int.from_bytes(length, "little"), int.from_bytes(length, "little"))])
        if hashlib.sha256(said).digest() != seal:
            raise CorruptError("what is kept of it is damaged", kind="damaged")
        told = json.loads(said)
        [stored] = kept.read([tuple(told["fence"])])
        file_map = open_kept(stored, told["digest"], told["size"], is_led=told["isLed"])
    except (SapwoodError, ValueError, KeyError, TypeError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return KeptMap(file_map, kept, tuple((pack, is_led) for pack, is_led in told["layers"]))


def keep_soon(
    file_map: FileMap, layers: Sequence[Described], packs: Sequence[tuple[str, bool]], cache_dir: Path
) -> None:
    """Keep a map that is worth it, beside whatever is done with it meanwhile."""
    if file_map.entries >= _MANY:
        threading.Thread(
            target=_keep, args=(file_map, layers, packs, cache_dir), daemon=True, name="sapwood-keep"
        ).start()


def _keep(file_map: FileMap, layers: Sequence[Described], packs: Sequence[tuple[str, bool]], cache_dir: Path) -> None:
    folder, name = _folder(cache_dir), _name(layers)
    with contextlib.suppress(SapwoodError, OSError):
        folder.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder.folder, prefix=".", suffix=".tmp", delete=False) as out:
            try:
                at, length, digest, size = keep(file_map, out.fileno(), out.name)
                said = json.dumps(
                    {
                        "fence": [at, length],
                        "digest": digest,
                        "size": size,
                        "isLed": any(is_led for _, is_led in packs),
                        "layers": list(packs),
                    }
                ).encode()
                out.seek(0, os.SEEK_END)
                out.write(said + len(said).to_bytes(_LENGTH, "little") + hashlib.sha256(said).digest())
                out.close()
                os.replace(out.name, folder.folder / name)
            except BaseException:
                os.unlink(out.name)
                raise
        folder.make_room(name)


def forget(layers: Sequence[Described], cache_dir: Path) -> None:
    """Keep it no longer: a page of it was found damaged."""
    _folder(cache_dir).remove(_name(layers))


def _folder(cache_dir: Path) -> KeptTexts:
    return KeptTexts(cache_dir, "layers")


def _name(layers: Sequence[Described]) -> str:
    said = [[layer.digest, layer.size, sorted(layer.annotations.items())] for layer in layers]
    return hashlib.sha256(json.dumps(["1", said]).encode()).hexdigest() + ".map"
