"""`sapwood tag`, `sapwood rm` and `sapwood forget`: what a store is to remember."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.place import store_url

if TYPE_CHECKING:
    from sapwood.upkeep.retention import Rules


def _configure_tag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="a ref, or one snapshot of its history")
    parser.add_argument("name", metavar="NAME", help="the new ref, in the same store")
    add_json(parser)


def _tag(arguments: argparse.Namespace) -> int:
    from sapwood.store import Address
    from sapwood.upkeep.forget import tag

    address = Address.parse(arguments.address)
    store, _, snapshot = address.open()
    ref = tag(store, snapshot, arguments.name, of=address.ref)
    if arguments.json:
        show.document(
            {"ref": ref.name, "snapshot": ref.snapshot, "moves": ref.counter, **show.requests(store.requests())}
        )
    else:
        show.line(f"{store.url}#{ref.name}@{ref.snapshot}")
    return 0


def _configure_rm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="STORE_URL#REF", nargs="+", help="refs, or bare REFs of the default store")
    add_json(parser)


def _rm(arguments: argparse.Namespace) -> int:
    from sapwood.errors import InvalidInputError
    from sapwood.store import Address, open_store
    from sapwood.upkeep.forget import remove

    addresses = [Address.parse(text) for text in arguments.address]
    for address in addresses:
        if address.pin:
            raise InvalidInputError(
                f"{address}: pinned to one snapshot, and only a whole ref can be removed",
                kind="bad-address",
                hint=f"sapwood rm {address.store_url}#{address.ref}",
            )
    stores = {url: open_store(url) for url in {address.store_url for address in addresses}}
    with show.listing(arguments.json) as gone:
        for address in addresses:
            ref = remove(stores[address.store_url], address.ref)
            gone.append({"ref": ref.name, "snapshot": ref.snapshot})
            if not arguments.json:
                show.talk(f"removed: {address}, which named {ref.snapshot}")
    return 0


def _configure_forget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="STORE_URL[#REF]", nargs="?", help="one ref, or all of a store (default: the default store)"
    )
    parser.add_argument("--keep-last", type=int, metavar="N", help="keep the newest N snapshots of each ref")
    parser.add_argument("--keep-daily", type=int, metavar="N", help="the newest of each of the last N days with any")
    parser.add_argument("--keep-weekly", type=int, metavar="N", help="the newest of each of the last N weeks with any")
    parser.add_argument("--refs", metavar="PATTERN", help="only refs whose names match, as of a shell: 'ci/*'")
    parser.add_argument("--dry-run", action="store_true", help="say what would be forgotten, and change nothing")
    add_json(parser)


def _forget(arguments: argparse.Namespace) -> int:
    from sapwood.errors import InvalidInputError
    from sapwood.store import Address, open_store
    from sapwood.upkeep.forget import forget_each, forget_ref

    rules = _rules(arguments)
    target: str | None = arguments.target
    address = Address.parse(target) if target and "#" in target else None
    if address and (address.pin or arguments.refs is not None):
        why = "it is pinned" if address.pin else "--refs goes with a whole store"
        raise InvalidInputError(
            f"forget: {address}: {why}", kind="bad-usage", hint="sapwood forget STORE_URL#REF --keep-last N"
        )
    store = open_store(address.store_url if address else store_url(target, "forget"))
    if address:
        cuts = iter([forget_ref(store, address.ref, rules, dry_run=arguments.dry_run)])
    else:
        pattern = "*" if arguments.refs is None else arguments.refs
        cuts = forget_each(store, rules, pattern=pattern, dry_run=arguments.dry_run)
    would = "would be " if arguments.dry_run else ""
    with show.listing(arguments.json) as done:
        for each in cuts:
            done.append({"ref": each.ref, "kept": list(each.kept), "forgotten": list(each.forgotten)})
            if not arguments.json:
                show.talk(
                    f"{each.ref}: {show.counted(len(each.kept), 'snapshot')} kept,"
                    f" {show.counted(len(each.forgotten), 'snapshot')} {would}forgotten"
                )
                for digest in each.forgotten:
                    show.line(f"{digest}  {each.ref}")
    return 0


def _rules(arguments: argparse.Namespace) -> Rules:
    from sapwood.errors import InvalidInputError
    from sapwood.upkeep.retention import Rules

    given = {
        "last": arguments.keep_last,
        "daily": arguments.keep_daily,
        "weekly": arguments.keep_weekly,
    }
    for word, number in given.items():
        if number is not None and number < 0:
            raise InvalidInputError(f"forget: --keep-{word} {number}: less than nothing", kind="bad-usage")
    rules = Rules(**{word: number or 0 for word, number in given.items()})
    if rules == Rules():
        raise InvalidInputError(
            "forget: no rule says what to keep", kind="bad-usage", hint="sapwood forget STORE_URL --keep-last 1"
        )
    return rules


COMMANDS = {
    "tag": Command(
        _configure_tag,
        _tag,
        """
        sapwood tag main v1.0                                what main names now, whatever main does next
        sapwood tag s3://bucket/trees#main@sha256:… before   one snapshot of its history
        """,
    ),
    "rm": Command(
        _configure_rm,
        _rm,
        """
        sapwood rm feature-x                                 gc then takes what nothing else needs
        sapwood rm s3://bucket/trees#ci/17 s3://bucket/trees#ci/18
        """,
    ),
    "forget": Command(
        _configure_forget,
        _forget,
        """
        sapwood forget --keep-last 10                        of each ref of the default store
        sapwood forget /srv/trees#main --keep-daily 7 --keep-weekly 5
        sapwood forget s3://bucket/trees --refs 'ci/*' --keep-last 1 --dry-run
        """,
    ),
}
