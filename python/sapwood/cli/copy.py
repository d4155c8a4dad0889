"""`sapwood cp`: trees from store to store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.progress import progress

if TYPE_CHECKING:
    from sapwood.store import Snapshot, Store
    from sapwood.upkeep.copy import Copied

_WILD = "*?["


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="an ADDRESS; STORE_URL: all refs; STORE_URL#PATTERN: those that match 'ci/*'"
    )
    parser.add_argument(
        "target", metavar="TARGET", help="STORE_URL, where refs keep their names, or STORE_URL#REF; made if it is empty"
    )
    add_json(parser)


def _copy(arguments: argparse.Namespace) -> int:
    from sapwood import places
    from sapwood.store import open_store
    from sapwood.store.ref import check_ref_name
    from sapwood.upkeep.copy import copy

    target_url, to, ref = arguments.target.rpartition("#") if "#" in arguments.target else ("", "", "")
    if to:
        _require_plain(arguments, check_ref_name(ref) if "@" not in ref else "")
    source, wanted = _wanted(arguments)
    target = open_store((target_url or places.default_store()) if to else arguments.target, create=True)

    def whole(done: list[dict[str, object]]) -> dict[str, object]:
        return {"copied": done, "requestsFrom": source.requests(), "requestsTo": target.requests()}

    with show.listing(arguments.json, whole) as done:
        for name, snapshot in wanted:
            with progress(f"copying {name}") as callback:
                copied = copy(source, snapshot, target, ref or name, progress=callback)
            address = f"{target.url}#{copied.ref}@{copied.snapshot}"
            done.append(_record(copied, address, f"{source.url}#{name}@{snapshot.digest}"))
            if not arguments.json:
                show.talk(
                    f"{name}: nothing to copy"
                    if copied.unchanged
                    else f"{name}: {show.counted(copied.chunks_sent, 'chunk')}, {show.exact(copied.chunk_bytes_sent)},"
                    f" as {show.exact(copied.bytes_stored)}, in {show.seconds(copied.seconds)}"
                )
                show.line(address)
    return 0


def _record(copied: Copied, address: str, origin: str) -> dict[str, object]:
    return {
        "address": address,
        "from": origin,
        "tree": copied.tree,
        "snapshot": copied.snapshot,
        "ref": copied.ref,
        "unchanged": copied.unchanged,
        "bytes": copied.bytes,
        "chunksSent": copied.chunks_sent,
        "chunkBytesSent": copied.chunk_bytes_sent,
        "packsSent": copied.packs_sent,
        "bytesFetched": copied.bytes_fetched,
        "bytesStored": copied.bytes_stored,
        "seconds": round(copied.seconds, 6),
    }


def _require_plain(arguments: argparse.Namespace, ref: str) -> None:
    """Raise unless one ref is copied to one ref."""
    from sapwood.errors import InvalidInputError

    if not ref:
        raise InvalidInputError(
            f"{arguments.target}: a copy moves a ref, and this address is pinned to one snapshot",
            kind="bad-address",
            hint=f"sapwood cp {arguments.source} {arguments.target.partition('@')[0]}",
        )
    if _is_many(arguments.source):
        raise InvalidInputError(
            f"cp: {arguments.source} may be many refs, and {arguments.target} is one",
            kind="bad-usage",
            hint=f"sapwood cp {arguments.source} {arguments.target.rpartition('#')[0]}",
        )


def _is_many(source: str) -> bool:
    """Say whether a source is a whole store, or a pattern of refs."""
    from sapwood.store.address import names_store

    return names_store(source) or any(sign in source.rpartition("#")[2] for sign in _WILD)


def _wanted(arguments: argparse.Namespace) -> tuple[Store, list[tuple[str, Snapshot]]]:
    """Return the store to copy from, and the snapshots to copy with the refs that name them."""
    from fnmatch import fnmatchcase

    from sapwood import places
    from sapwood.errors import NotFoundError
    from sapwood.store import Address, open_store

    text: str = arguments.source
    if not _is_many(text):
        address = Address.parse(text)
        source, _, snapshot = address.open()
        return source, [(address.ref, snapshot)]
    url, _, pattern = text.rpartition("#") if "#" in text else (text, "", "*")
    source = open_store(url or places.default_store())
    refs = [ref for ref in source.refs() if fnmatchcase(ref.name, pattern)]
    if not refs:
        raise NotFoundError(
            f"{source.url} has no ref that matches {pattern}", kind="ref-missing", hint=f"sapwood refs {source.url}"
        )
    return source, [(ref.name, source.read_snapshot(ref.snapshot)) for ref in refs]


COMMANDS = {
    "cp": Command(
        _configure,
        _copy,
        """
        sapwood cp main s3://bucket/trees                    a ref of the default store, under the same name
        sapwood cp s3://bucket/trees#main /srv/trees#mirror  only what /srv/trees lacks is fetched
        sapwood cp 's3://bucket/trees#release/*' /srv/trees  all refs that match
        sapwood cp https://host/trees#main@sha256:… /srv/trees
        """,
    ),
}
