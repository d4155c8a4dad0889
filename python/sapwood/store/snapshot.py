"""Snapshots: a tree as it was, with where everything lies, and who, when, from what.

Invariant: a snapshot's digest is that of its bytes, and `decode` returns nothing whose bytes hash otherwise.
Bytes: docs/format.md, "Store". Not here: reading what it names (`store.py`).
"""

from __future__ import annotations

import builtins
import os
import pwd
import re
from dataclasses import dataclass
from typing import Any

from sapwood.digests import (
    ContentDigest,
    MapDigest,
    PackName,
    SnapshotDigest,
    TreeDigest,
    digest_of,
    parse_digest,
    parse_pack_name,
)
from sapwood.errors import CorruptError, InvalidInputError
from sapwood.store.record import Record, encode

__all__ = ["Snapshot", "user"]

_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z\Z")


@dataclass(frozen=True)
class Snapshot:
    """What one push made. Sizes in bytes; `packs` are all that the tree and the pages of its file map lie in.

    `content` is unknown of snapshots from before there was one.
    """

    tree: TreeDigest
    tree_size: int
    map: MapDigest
    map_size: int
    content: ContentDigest | None
    entries: int
    bytes: int
    packs: tuple[PackName, ...]
    created: str
    user: str
    host: str
    source: str
    parent: SnapshotDigest | None
    program: str

    @property
    def digest(self) -> SnapshotDigest:
        """The digest that names it."""
        return digest_of(SnapshotDigest, self.encode())

    def encode(self) -> builtins.bytes:
        """Return the object's bytes."""
        content = {} if self.content is None else {"content": self.content}
        return encode(
            {
                "tree": self.tree,
                "treeSize": self.tree_size,
                "map": self.map,
                "mapSize": self.map_size,
                **content,
                "entries": self.entries,
                "bytes": self.bytes,
                "packs": list(self.packs),
                "created": self.created,
                "user": self.user,
                "host": self.host,
                "source": self.source,
                "parent": self.parent,
                "program": self.program,
            },
            version=2 if content else 1,
        )

    @classmethod
    def decode(cls, data: builtins.bytes, digest: SnapshotDigest, *, url: str) -> Snapshot:
        """Read the snapshot `digest` of the store at `url`.

        Raises:
            CorruptError: `snapshot-corrupt`: the bytes hash to something else, or are no snapshot.
            FormatError: `format-newer`.
        """
        what, kind = f"{url}: snapshot {digest[:19]}", "snapshot-corrupt"
        context: dict[str, Any] = {"store": url, "digest": digest}
        got = digest_of(SnapshotDigest, data)
        if got != digest:
            raise CorruptError(f"{what} is damaged: its bytes hash to {got[:19]}", kind=kind, **context)
        record = Record(data, what, kind=kind, newest=2, **context)
        try:
            snapshot = cls(
                tree=parse_digest(TreeDigest, record.text("tree")),
                tree_size=record.number("treeSize"),
                map=parse_digest(MapDigest, record.text("map")),
                map_size=record.number("mapSize"),
                content=parse_digest(ContentDigest, record.text("content")) if record.version > 1 else None,
                entries=record.number("entries"),
                bytes=record.number("bytes"),
                packs=tuple(map(parse_pack_name, record.texts("packs"))),
                created=record.text("created"),
                user=record.text("user"),
                host=record.text("host"),
                source=record.text("source"),
                parent=parse_digest(SnapshotDigest, record.text("parent")) if record.has("parent") else None,
                program=record.text("program"),
            )
        except InvalidInputError as error:
            raise record.damaged(str(error)) from None
        if not _CREATED.match(snapshot.created):
            raise record.damaged('"created" is not a time')
        if snapshot.encode() != data:
            raise record.damaged("it is not spelt as sapwood spells it")
        return snapshot


def user() -> str:
    """Return who runs this, by name if they have one."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
