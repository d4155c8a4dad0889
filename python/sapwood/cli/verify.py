"""`sapwood verify`: is everything there that the refs of a store need, or that an archive says it holds?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import Command, add_json, add_seek_index, add_toc
from sapwood.cli.place import store_url
from sapwood.cli.progress import opening, progress
from sapwood.errors import InvalidInputError

if TYPE_CHECKING:
    from sapwood.store.archive import Archive, ArchiveTree
    from sapwood.store.store import Store
    from sapwood.upkeep.survey import Damage
    from sapwood.upkeep.verify import Verified

# The exit code of a CorruptError.
_DAMAGED = 5


def percentage(text: str) -> float:
    """Read `25` or `25%`."""
    number = float(text.removesuffix("%"))
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text}: not from 0 to 100 percent")
    return number


def damage_record(damage: Damage) -> dict[str, object]:
    """Return a damage as it stands in JSON."""
    return {
        "key": damage.key,
        "found": damage.found,
        "refs": sorted(damage.refs),
        "paths": [show.text(path) for path in damage.paths],
        "morePaths": damage.more,
    }


def show_damage(damage: Damage) -> None:
    """Print a damage: what is wrong, then who needs it."""
    show.line(f"{damage.key}")
    show.line(f"  {damage.found}")
    if damage.refs:
        show.line(f"  needed by: {', '.join(sorted(damage.refs))}")
    for path in damage.paths:
        show.line("  ", path)
    if damage.more:
        show.line(f"  and {show.counted(damage.more, 'path')} more")


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store",
        metavar="STORE_URL|ARCHIVE",
        nargs="?",
        help="the store (default: the default store), or an archive, all of which is read",
    )
    parser.add_argument(
        "--read-data",
        type=percentage,
        metavar="N%",
        help="of a store: read so many of the packs whole, chosen at random",
    )
    add_seek_index(parser)
    add_toc(parser)
    add_json(parser)


def _verify(arguments: argparse.Namespace) -> int:
    from sapwood.address import open_address
    from sapwood.store.archive import Archive, ArchiveTree
    from sapwood.store.naming import may_name_archive

    said = {"seek_index": arguments.seek_index, "toc": arguments.toc}
    is_told = said != {"seek_index": None, "toc": None}
    if not is_told and not may_name_archive(arguments.store or ""):
        return _verify_store(arguments)
    try:
        with opening() as callback:
            archive, tree = open_address(arguments.store or "", **said, progress=callback)
    except InvalidInputError as error:
        # A URL may be a store's.
        if is_told or error.kind != "bad-address":
            raise
        return _verify_store(arguments)
    assert isinstance(archive, Archive)
    assert isinstance(tree, ArchiveTree)
    return _verify_archive(arguments, archive, tree)


def _verify_store(arguments: argparse.Namespace) -> int:
    from sapwood.store import open_store
    from sapwood.upkeep.verify import verify

    store = open_store(store_url(arguments.store, "verify"))
    with progress("looking", of="packs") as callback:
        verified = verify(store, read_data=arguments.read_data or 0.0, progress=callback)
    code = _told(arguments, store, verified)
    if not arguments.json:
        show.talk(
            f"looked at: {show.counted(verified.refs, 'ref')}, {show.counted(verified.snapshots, 'snapshot')},"
            f" {show.counted(verified.maps, 'file map')} of {show.counted(verified.pages, 'page')},"
            f" {show.counted(verified.packs, 'pack')}, {show.counted(verified.fragments, 'fragment')}"
        )
        show.talk(f"read whole: {show.counted(verified.packs_read, 'pack')}, {show.exact(verified.bytes_read)}")
        if verified.damages:
            show.talk(
                f"damaged: {show.counted(len(verified.damages), 'object')}; what can be healed is by: sapwood repair"
            )
    return code


def _verify_archive(arguments: argparse.Namespace, archive: Archive, tree: ArchiveTree) -> int:
    from sapwood.upkeep.proof import verify_archive

    if arguments.read_data is not None:
        raise InvalidInputError(
            f"{arguments.store}: an archive is always read whole", kind="bad-usage", hint="leave --read-data out"
        )
    with progress("reading") as callback:
        verified = verify_archive(archive, tree, progress=callback)
    code = _told(arguments, archive, verified)
    if not arguments.json:
        show.talk(f"read: {show.exact(verified.bytes_read)}; damaged: {show.counted(len(verified.damages), 'place')}")
    return code


def _told(arguments: argparse.Namespace, place: Store | Archive, verified: Verified) -> int:
    """Say what was found, all of it or the damages; return the exit code."""
    if arguments.json:
        show.document(
            {
                "refs": verified.refs,
                "snapshots": verified.snapshots,
                "maps": verified.maps,
                "pages": verified.pages,
                "packs": verified.packs,
                "packsRead": verified.packs_read,
                "bytesRead": verified.bytes_read,
                "fragments": verified.fragments,
                "damages": [damage_record(damage) for damage in verified.damages],
                **show.requests(place.requests()),
                "seconds": round(verified.seconds, 6),
            }
        )
    else:
        for damage in verified.damages:
            show_damage(damage)
    return _DAMAGED if verified.damages else 0


COMMANDS = {
    "verify": Command(
        _configure,
        _verify,
        """
        sapwood verify s3://bucket/trees          file maps in full, packs by what they say they hold
        sapwood verify --read-data 10%            and a tenth of the packs to the last byte
        sapwood verify --read-data 100 --json     everything
        sapwood verify bundle.tar.gz              an archive, every byte that its TOC tells of
        """,
    ),
}
