"""`sapwood recover`: everything of a store but its packs, made again from its packs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.place import store_url
from sapwood.cli.progress import progress

# The exit code of a CorruptError.
_DAMAGED = 5


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE_URL", help="the store, of which packs are left")
    add_grace(parser)
    add_json(parser)


def add_grace(parser: argparse.ArgumentParser) -> None:
    """Let a command that may make `sapwood.json` anew be told the store's grace."""
    parser.add_argument(
        "--grace", metavar="DURATION", help="that of the store, if sapwood.json must be made anew (default: 24h)"
    )


def tell_grace(made: Sequence[str], store: str, grace_s: int | None) -> None:
    """Say which grace a store whose `sapwood.json` was made anew got without being asked for."""
    from sapwood.cli.duration import spelt
    from sapwood.store.identity import GRACE_S
    from sapwood.store.keys import IDENTITY

    if IDENTITY in made and grace_s is None:
        show.talk(f"{store}: has a grace of {spelt(GRACE_S)} now; if it had another, remove {IDENTITY} and run this")
        show.talk(f"again with --grace, before anybody runs sapwood gc {store}")


def _recover(arguments: argparse.Namespace) -> int:
    from sapwood.cli.duration import grace_of
    from sapwood.upkeep.recover import recover

    url = store_url(arguments.store, "recover")
    grace = grace_of(arguments.grace, f"sapwood recover {url}")
    with progress("reading", of="packs") as callback:
        recovered = recover(url, grace_s=grace, progress=callback)
    code = _DAMAGED if recovered.unreadable or recovered.lost else 0
    if arguments.json:
        show.document(
            {
                "packs": recovered.packs,
                "outlines": recovered.outlines,
                "made": list(recovered.made),
                "unreadable": list(recovered.unreadable),
                "lost": list(recovered.lost),
                **show.requests(recovered.requests),
                "seconds": round(recovered.seconds, 6),
            }
        )
        return code
    tell_grace(recovered.made, url, grace)
    for key in recovered.made:
        show.line(key)
    for line in recovered.unreadable:
        show.talk(f"cannot be read: {line}")
    for ref in recovered.lost:
        show.talk(f"lost: ref {ref}: nothing that it named is whole")
    show.talk(
        f"read {show.counted(recovered.packs, 'pack')} with {show.counted(recovered.outlines, 'outline')};"
        f" made {show.counted(len(recovered.made), 'object')} in {show.seconds(recovered.seconds)}"
    )
    return code


COMMANDS = {
    "recover": Command(
        _configure,
        _recover,
        """
        sapwood recover s3://bucket/trees        file maps, snapshots and refs that are lost, of what packs say
        sapwood recover /srv/trees --grace 7d    sapwood.json, too, of a store that was made with that grace
        """,
    ),
}
