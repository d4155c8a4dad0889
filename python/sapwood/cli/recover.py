"""`sapwood recover`: everything of a store but its packs, made again from its packs."""

from __future__ import annotations

import argparse

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.place import store_url
from sapwood.cli.progress import progress

# The exit code of a CorruptError.
_DAMAGED = 5


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE_URL", help="the store, of which packs are left")
    add_json(parser)


def _recover(arguments: argparse.Namespace) -> int:
    from sapwood.upkeep.recover import recover

    with progress("reading", of="packs") as callback:
        recovered = recover(store_url(arguments.store, "recover"), progress=callback)
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
        sapwood recover s3://bucket/trees    file maps, snapshots and refs that are lost, of what packs say
        """,
    ),
}
