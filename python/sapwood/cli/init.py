"""`sapwood init`: an empty place becomes a store."""

from __future__ import annotations

import argparse

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.place import store_url


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE_URL", help="an empty or a new place")
    parser.add_argument(
        "--grace", metavar="DURATION", help="how long what nothing needs is kept: 90s, 30m, 24h (the default), 7d"
    )
    add_json(parser)


def _init(arguments: argparse.Namespace) -> int:
    from sapwood.cli.duration import grace_of, spelt
    from sapwood.errors import InvalidInputError
    from sapwood.store import Store

    url = store_url(arguments.store, "init")
    grace = grace_of(arguments.grace, f"sapwood init {url}")
    store = Store.open(url, create=True, grace_s=grace)
    if grace not in (None, store.grace_s):
        raise InvalidInputError(
            f"{store.url}: is a store already, with a grace of {spelt(store.grace_s)}",
            kind="grace-fixed",
            hint="a store keeps its grace: make a new one, and sapwood cp",
            store=store.url,
        )
    if arguments.json:
        show.document({"store": store.url, "id": store.id, "grace": store.grace_s, "refs": store.refs_move_by})
        return 0
    how = "by conditional writes" if store.refs_move_by == "swap" else "under a lock: the server cannot replace safely"
    show.talk(f"store:  {store.id}, grace {spelt(store.grace_s)}")
    show.talk(f"refs:   move {how}")
    show.line(store.url)
    return 0


COMMANDS = {
    "init": Command(
        _configure,
        _init,
        """
        sapwood init s3://bucket/trees              empty place -> store; says what the server lacks
        sapwood init /srv/trees --grace 7d          for pushes that take days; collection waits as long
        """,
    ),
}
