"""`sapwood gc`: what no ref needs any more, out of a store."""

from __future__ import annotations

import argparse

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.place import store_url


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE_URL", nargs="?", help="the store (default: the default store)")
    parser.add_argument(
        "--grace",
        metavar="DURATION",
        help="delete what was condemned so long ago, 90s, 24h, 7d (default: the store's grace); shorter is safe only"
        " while nobody writes to the store; 0: condemn and delete at once",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    from sapwood.cli.duration import seconds_of, spelt
    from sapwood.store import open_store
    from sapwood.upkeep.gc import collect

    grace_s = None if arguments.grace is None else seconds_of(arguments.grace)
    store = open_store(store_url(arguments.store, "gc"))
    done = collect(store, grace_s=grace_s, dry_run=arguments.dry_run)
    if arguments.json:
        show.document(
            {
                "refs": done.refs,
                "snapshots": done.snapshots,
                "deleted": done.deleted,
                "bytesDeleted": done.bytes_deleted,
                "condemned": done.condemned,
                "bytesCondemned": done.bytes_condemned,
                "waiting": done.waiting,
                "packsMoved": done.moved,
                "bytesMoved": done.bytes_moved,
                "finished": done.finished,
                **show.requests(store.requests()),
                "seconds": round(done.seconds, 6),
            }
        )
        return 0
    would = "would be " if arguments.dry_run else ""
    show.talk(f"alive: {show.counted(done.refs, 'ref')}, {show.counted(done.snapshots, 'snapshot')}")
    show.talk(f"{would}deleted: {show.counted(done.deleted, 'object')}, {show.exact(done.bytes_deleted)}")
    if done.moved:
        show.talk(f"{would}moved: {show.exact(done.bytes_moved)} out of {show.counted(done.moved, 'pack')} mostly dead")
    if done.waiting:
        when = spelt(store.grace_s if grace_s is None else grace_s)
        show.talk(
            f"{would}condemned: {show.counted(done.condemned, 'object')}, {show.exact(done.bytes_condemned)};"
            f" {show.counted(done.waiting, 'object')} can be deleted by a run in {when}"
        )
    if not done.finished:
        show.talk("not finished: half of the grace has passed; the next run goes on")
    return 0


COMMANDS = {
    "gc": Command(
        _configure,
        _run,
        """
        sapwood gc s3://bucket/trees             run it daily: deletes what was condemned a grace (1d) ago
        sapwood gc --dry-run
        sapwood gc /srv/trees --grace 0          at once; only while nobody writes to the store
        """,
    ),
}
