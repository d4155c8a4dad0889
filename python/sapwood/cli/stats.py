"""`sapwood stats`: how much a store holds, or what one tree takes of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.place import store_url

if TYPE_CHECKING:
    from sapwood.upkeep.stats import Stats


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="STORE_URL|ADDRESS", nargs="?", help="a whole store (default: the default store), or one tree"
    )
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    from sapwood.store import Address, open_store
    from sapwood.store.address import names_store
    from sapwood.upkeep.stats import stats, stats_of

    target: str | None = arguments.target
    if target is None or names_store(target):
        store = open_store(store_url(target, "stats"))
        found = stats(store)
    else:
        store, _, snapshot = Address.parse(target).open()
        found = stats_of(store, snapshot)
    if arguments.json:
        show.document(
            {
                "refs": found.refs,
                "snapshots": found.snapshots,
                "entries": found.entries,
                "treeBytes": found.tree_bytes,
                "chunks": found.chunks,
                "chunkBytes": found.chunk_bytes,
                "chunkBytesStored": found.chunk_bytes_stored,
                "pages": found.pages,
                "pageBytesStored": found.page_bytes_stored,
                "packs": found.packs,
                "packsThere": found.packs_there,
                "packBytes": found.pack_bytes,
                "deadBytes": found.dead_bytes,
                "bytesStored": found.bytes_stored,
                "deduplication": found.deduplication and round(found.deduplication, 3),
                "compression": found.compression and round(found.compression, 3),
                **show.requests(store.requests()),
                "seconds": round(found.seconds, 6),
            }
        )
        return 0
    for line in _lines(found):
        show.line(line)
    return 0


def _lines(found: Stats) -> list[str]:
    snapshots = show.counted(found.snapshots, "snapshot")
    refs = "" if found.refs is None else f" of {show.counted(found.refs, 'ref')}"
    once = f", a byte used {found.deduplication:.2f} times" if found.deduplication else ""
    ratio = f", compressed {found.compression:.2f} times" if found.compression else ""
    lines = [
        f"trees:    {snapshots}{refs}: {show.counted(found.entries, 'entry')}, {show.exact(found.tree_bytes)}",
        f"chunks:   {found.chunks:,}, {show.exact(found.chunk_bytes)}{once}",
        f"stored:   {show.exact(found.chunk_bytes_stored)}{ratio}",
        f"maps:     {show.counted(found.pages, 'page')}, {show.exact(found.page_bytes_stored)}",
    ]
    if found.packs_there is None or found.pack_bytes is None or found.dead_bytes is None or found.bytes_stored is None:
        return [*lines, f"packs:    {found.packs:,}"]
    return [
        *lines,
        f"packs:    {found.packs:,} needed of {found.packs_there:,}, {show.exact(found.pack_bytes)}",
        f"not used: {show.exact(found.dead_bytes)} of them",
        f"in all:   {show.exact(found.bytes_stored)}",
    ]


COMMANDS = {
    "stats": Command(
        _configure,
        _run,
        """
        sapwood stats                          of the default store: trees, chunks, packs, what is not used
        sapwood stats s3://bucket/trees#main   what one tree takes
        sapwood stats --json /srv/trees
        """,
    ),
}
