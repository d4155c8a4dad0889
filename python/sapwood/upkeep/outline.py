"""Outlines: what a push left in its packs so that fence index, snapshot and ref can be made again.

Bytes: docs/format.md, "Archives and packs". Not here: writing them (`push`), making anything of them (`recover`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sapwood._core.filemap import Frame, read_chunk
from sapwood.digests import PackName, SnapshotDigest, TreeDigest, parse_digest
from sapwood.errors import InvalidInputError
from sapwood.store.record import Record
from sapwood.store.ref import check_ref_name
from sapwood.store.store import Store
from sapwood.upkeep.survey import Place

__all__ = ["Outline", "read_outline"]

_PUSH = re.compile(r"[0-9a-f]{16}\Z")


@dataclass(frozen=True)
class Outline:
    """One push's own word. It lies in `frame` (pack, offset, length); `pages` are digests in order.

    `tar` are digest and size of the stream that `splits`, pages of split metadata, tell, if there are any.
    """

    frame: tuple[str, int, int]
    push: str
    ref: str
    counter: int
    created: str
    user: str
    host: str
    source: str
    parent: SnapshotDigest | None
    program: str
    tree: TreeDigest
    tree_size: int
    entries: int
    bytes: int
    pages: tuple[str, ...]
    tar: tuple[str, int] | None
    splits: tuple[str, ...]


def read_outline(store: Store, pack: PackName, place: Place) -> Outline:
    """Return the outline at a place of a pack.

    Raises:
        NotFoundError: `pack-missing`.
        CorruptError: `chunk-corrupt`, `damaged`, `outline-corrupt`.
        FormatError: `format-newer`.
    """
    offset, inner, length, plain, digest, size = place
    [stored] = store.read_ranges(pack, [(offset, length)])
    data = read_chunk(Frame(pack, offset, length, plain), stored, inner, digest, size)
    record = Record(data, f"{store.url}: outline in pack {pack[:12]}", kind="outline-corrupt", store=store.url)
    with_tar = record.has("tar")
    try:
        outline = Outline(
            frame=(pack, offset, length),
            push=record.text("push"),
            ref=check_ref_name(record.text("ref")),
            counter=record.number("counter"),
            created=record.text("created"),
            user=record.text("user"),
            host=record.text("host"),
            source=record.text("source"),
            parent=parse_digest(SnapshotDigest, record.text("parent")) if record.has("parent") else None,
            program=record.text("program"),
            tree=parse_digest(TreeDigest, record.text("tree")),
            tree_size=record.number("treeSize"),
            entries=record.number("entries"),
            bytes=record.number("bytes"),
            pages=tuple(parse_digest(TreeDigest, page) for page in record.texts("pages")),
            tar=(parse_digest(TreeDigest, record.text("tar")), record.number("tarSize")) if with_tar else None,
            splits=tuple(parse_digest(TreeDigest, page) for page in record.texts("splits")) if with_tar else (),
        )
    except InvalidInputError as error:
        raise record.damaged(str(error)) from None
    if not _PUSH.match(outline.push):
        raise record.damaged('"push" is not 16 hex digits')
    return outline
