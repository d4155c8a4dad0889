"""`sapwood optimize`: what was read of a tree is laid out again, to come by few requests and alone."""

from __future__ import annotations

import argparse

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.progress import progress


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="which tree; its ref moves to the same tree, laid out anew")
    parser.add_argument(
        "--profile", metavar="FILE", help="what was read, from `trace --out` (default: what the store has)"
    )
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    from sapwood.errors import InvalidInputError
    from sapwood.profile import read_profile
    from sapwood.store import Address, open_store
    from sapwood.upkeep.optimize import optimize

    address = Address.parse(arguments.address)
    if address.pin:
        raise InvalidInputError(
            f"{address}: this moves a ref, and the address is pinned to one snapshot",
            kind="bad-address",
            hint=f"sapwood optimize {address.store_url}#{address.ref}",
        )
    profile = None if arguments.profile is None else read_profile(arguments.profile)
    store = open_store(address.store_url)
    store.require_writable()
    with progress("laying out") as callback:
        done = optimize(store, store.read_ref(address.ref), profile, progress=callback)
    pinned = f"{store.url}#{done.ref}@{done.snapshot}"
    if arguments.json:
        show.document(
            {
                "address": pinned,
                "tree": done.tree,
                "snapshot": done.snapshot,
                "ref": done.ref,
                "unchanged": done.unchanged,
                "chunks": done.chunks,
                "chunkBytes": done.chunk_bytes,
                "bytesStored": done.bytes_stored,
                "bytesBefore": done.before.bytes,
                "bytesAfter": done.after.bytes,
                "rangesBefore": done.before.ranges,
                "rangesAfter": done.after.ranges,
                **show.requests(store.requests()),
                "seconds": round(done.seconds, 6),
            }
        )
        return 0
    show.talk(f"before:  {show.exact(done.before.bytes)} in {show.counted(done.before.ranges, 'range')} of packs")
    if done.unchanged:
        show.talk("after:   the same: there is nothing to gain")
    else:
        show.talk(f"after:   {show.exact(done.after.bytes)} in {show.counted(done.after.ranges, 'range')}")
        show.talk(f"stored:  {show.exact(done.bytes_stored)}, in {show.seconds(done.seconds)}")
    show.line(pinned)
    return 0


COMMANDS = {
    "optimize": Command(
        _configure,
        _run,
        """
        sapwood optimize s3://bucket/trees#venv    what `trace` saw being read of it now lies together
        """,
    ),
}
