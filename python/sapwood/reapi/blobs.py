"""Digests in bulk: how announcements name blobs, a bit for each of many, and the files of a tree in one order.

Invariant: both sides of a stream walk a tree alike, so that a bit says of the same file here and there. Bytes:
docs/announced.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from google.protobuf.message import DecodeError

from sapwood.errors import InvalidInputError
from sapwood.reapi.protocol import deliveries_pb2 as deliveries
from sapwood.reapi.protocol import remote_execution_pb2 as reapi

__all__ = ["Listed", "Name", "bits_of", "chosen", "directory_of", "names_in", "packed", "walk"]

Name = tuple[str, int]
"""The 64 hex digits of a digest, and the size."""

_HASH = 32
# Of a clock's width; what is more can be no blob.
_LARGEST = 1 << 50


def packed(names: Iterable[Name]) -> deliveries.Blobs:
    """Return names as a message."""
    listed = list(names)
    return deliveries.Blobs(
        hashes=bytes.fromhex("".join([name for name, _ in listed])), sizes=[size for _, size in listed]
    )


def names_in(blobs: deliveries.Blobs) -> list[Name]:
    """Return the names in a message.

    Raises:
        InvalidInputError: `bad-digest`.
    """
    text, sizes = blobs.hashes.hex(), blobs.sizes
    if len(blobs.hashes) != _HASH * len(sizes) or (sizes and not 0 <= min(sizes) <= max(sizes) < _LARGEST):
        raise InvalidInputError(
            f"{len(blobs.hashes)} bytes of hashes and {len(sizes)} sizes: no blobs", kind="bad-digest"
        )
    return [(text[at : at + 2 * _HASH], size) for at, size in zip(range(0, len(text), 2 * _HASH), sizes, strict=True)]


def bits_of(names: Sequence[Name], chosen: Iterable[Name]) -> bytes:
    """Return a bit for each of `names`: is it one of `chosen`?"""
    told, found = bytearray(-(-len(names) // 8)), set(chosen)
    if found:
        for at, name in enumerate(names):
            if name in found:
                told[at >> 3] |= 1 << (at & 7)
    return bytes(told)


def chosen(names: Sequence[Name], bits: bytes) -> list[Name]:
    """Return those of `names` whose bit is set; bits that are not there are not."""
    return [name for at, name in enumerate(names[: 8 * len(bits)]) if bits[at >> 3] >> (at & 7) & 1]


class Listed(NamedTuple):
    """What a Directory names: its files, what each is called there, and its directories."""

    files: list[Name]
    called: list[str]
    directories: list[Name]


def directory_of(raw: bytes, name: Name) -> Listed:
    """Return what a Directory names.

    Raises:
        InvalidInputError: `bad-message`.
    """
    try:
        message = reapi.Directory.FromString(raw)
        return Listed(_names(message.files), [node.name for node in message.files], _names(message.directories))
    except (DecodeError, ValueError) as error:
        raise InvalidInputError(f"blob {name[0][:12]}/{name[1]} is no Directory", kind="bad-message") from error


def _names(nodes: Iterable[reapi.FileNode] | Iterable[reapi.DirectoryNode]) -> list[Name]:
    found = []
    for node in nodes:
        digest = node.digest
        name, size = digest.hash, digest.size_bytes
        if len(name) != 2 * _HASH or not 0 <= size < _LARGEST:
            raise ValueError(name)
        found.append((name, size))
    return found


def walk(root: Name, read: Callable[[Name], bytes], seen: set[Name] | None = None) -> Iterator[tuple[Name, Listed]]:
    """Yield each different directory of a tree from `root` on, and what is in it; what `read` raises, is raised.

    A directory comes before those in it, and these as they stand. What is in `seen` is left out, and what is given is
    added to it.

    Raises:
        InvalidInputError: `bad-message`.
    """
    seen = set() if seen is None else seen
    todo = [] if root in seen else [root]
    seen.add(root)
    while todo:
        directory = todo.pop()
        listed = directory_of(read(directory), directory)
        yield directory, listed
        fresh = []
        for one in listed.directories:
            if one not in seen:
                seen.add(one)
                fresh.append(one)
        todo += reversed(fresh)
