"""`sapwood repair`: heal a store of what any other copy has."""

from __future__ import annotations

import argparse

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.place import store_url
from sapwood.cli.progress import progress
from sapwood.cli.recover import add_grace, tell_grace
from sapwood.cli.verify import damage_record, show_damage

# The exit code of a CorruptError.
_DAMAGED = 5


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", metavar="STORE_URL", nargs="?", help="the store (default: the default store)")
    parser.add_argument(
        "--from",
        dest="sources",
        action="append",
        default=[],
        metavar="DIR|TAR|STORE_URL",
        help="look there for what the store itself has not; may be given again",
    )
    add_grace(parser)
    add_json(parser)


def _repair(arguments: argparse.Namespace) -> int:
    from sapwood.cli.duration import grace_of
    from sapwood.upkeep.recover import open_damaged
    from sapwood.upkeep.repair import repair
    from sapwood.upkeep.sources import open_source

    sources = [open_source(source) for source in arguments.sources]
    where = store_url(arguments.store, "repair")
    grace = grace_of(arguments.grace, f"sapwood repair {where}")
    store, made = open_damaged(where, grace_s=grace)
    with progress("looking", of="packs") as callback:
        repaired = repair(store, sources, progress=callback)
    healed = [*((key, "made again") for key in made), *repaired.healed]
    code = _DAMAGED if repaired.left else 0
    if arguments.json:
        show.document(
            {
                "healed": [{"key": key, "done": done} for key, done in healed],
                "left": [damage_record(damage) for damage in repaired.left],
                **show.requests(store.requests()),
                "seconds": round(repaired.seconds, 6),
            }
        )
        return code
    tell_grace(made, where, grace)
    for key, done in healed:
        show.line(f"{key}: {done}")
    for damage in repaired.left:
        show.talk("cannot be healed:")
        show_damage(damage)
    show.talk(
        f"healed {show.counted(len(healed), 'object')}, {len(repaired.left)} left, in {show.seconds(repaired.seconds)}"
    )
    return code


COMMANDS = {
    "repair": Command(
        _configure,
        _repair,
        """
        sapwood repair s3://bucket/trees                     of other packs, of what packs say of themselves
        sapwood repair --from . --from /mnt/copy /srv/trees  and of files of a directory, of a second store
        sapwood repair --from layer.tar.gz /srv/trees        of the tar that was pushed, its headers too
        """,
    ),
}
