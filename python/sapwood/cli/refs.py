"""`sapwood refs` and `sapwood log`: what a store names, and what it named before."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.failure import report
from sapwood.cli.place import store_url

if TYPE_CHECKING:
    from sapwood.store import Snapshot


def _configure_refs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE_URL", nargs="?", help="the store (default: the default store)")
    add_json(parser)


def _refs(arguments: argparse.Namespace) -> int:
    from sapwood.store import open_store

    refs, unreadable = open_store(store_url(arguments.store, "refs")).sound_refs()
    if arguments.json:
        show.document([{"name": ref.name, "snapshot": ref.snapshot, "moves": ref.counter} for ref in refs])
    else:
        for ref in refs:
            show.line(f"{ref.snapshot}  {ref.name}")
    sys.stdout.flush()
    return max((report(error) for error in unreadable), default=0)


def _configure_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="a ref, or a snapshot to begin with")
    parser.add_argument("-n", "--number", type=int, metavar="N", help="the newest N only")
    add_json(parser)


def _log(arguments: argparse.Namespace) -> int:
    from itertools import islice

    from sapwood.errors import InvalidInputError
    from sapwood.store import Address

    if arguments.number is not None and arguments.number < 0:
        raise InvalidInputError(f"log: -n {arguments.number}: less than nothing", kind="bad-usage")
    store, ref, newest = Address.parse(arguments.address).open()
    snapshots = islice(store.history(ref or newest), arguments.number)
    if arguments.json:
        show.document([_record(found) for found in snapshots])
        return 0
    for found in snapshots:
        show.line(found.digest)
        show.line(f"  {found.created}  {found.user}@{found.host}:", found.source.encode("utf-8", "surrogateescape"))
        show.line(f"  {show.counted(found.entries, 'entry')}, {show.exact(found.bytes)}, {found.tree}")
    return 0


def _record(snapshot: Snapshot) -> dict[str, object]:
    return {
        "snapshot": snapshot.digest,
        "tree": snapshot.tree,
        "entries": snapshot.entries,
        "bytes": snapshot.bytes,
        "created": snapshot.created,
        "user": snapshot.user,
        "host": snapshot.host,
        "source": snapshot.source,
        "parent": snapshot.parent,
        "program": snapshot.program,
    }


COMMANDS = {
    "refs": Command(
        _configure_refs,
        _refs,
        """
        sapwood refs                       of the default store
        sapwood refs s3://bucket/trees
        """,
    ),
    "log": Command(
        _configure_log,
        _log,
        """
        sapwood log main                   newest first: snapshot, when, who, from what, which tree
        sapwood log -n 1 --json s3://bucket/trees#venv
        """,
    ),
}
