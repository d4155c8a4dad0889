"""`sapwood push` and `sapwood pull`: whole trees, directory -> store and store -> directory."""

from __future__ import annotations

import argparse

from sapwood.cli import show
from sapwood.cli.command import Command, add_json, add_platform, add_seek_index, add_toc, for_platform
from sapwood.cli.hash import add_index, add_options, add_skip_unreadable, options_of
from sapwood.cli.progress import opening, progress
from sapwood.cli.signals import leave_by_finally


def _configure_push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dir",
        metavar="TREE",
        help="the directory; or a tar, plain or by gzip, zstd, xz or bzip2; - for stdin; or an image: oci://…, oci:DIR",
    )
    parser.add_argument("address", metavar="ADDRESS", help="STORE_URL#REF; a store is made where there is nothing yet")
    parser.add_argument(
        "--level",
        metavar="N",
        help="compress what is sent by zstd's level 1 to 19 (default: between 2 and 3, so that nobody waits for it);"
        " 19 for what is read often over slow links",
    )
    add_index(parser)
    add_skip_unreadable(parser)
    add_options(parser)
    add_platform(parser)
    add_json(parser)


def _push(arguments: argparse.Namespace) -> int:
    from sapwood.errors import InvalidInputError
    from sapwood.store import Address, open_store
    from sapwood.store.naming import names_image

    if names_image(arguments.dir) and names_image(arguments.address):
        raise InvalidInputError(
            f"{arguments.address}: an image, where a ref of a store is meant",
            kind="bad-usage",
            hint=f"from image to image: sapwood convert {arguments.dir} {arguments.address}",
        )
    address, level = Address.parse(arguments.address), _level(arguments.level)
    if address.pin:
        raise InvalidInputError(
            f"{address}: a push moves a ref, and this address is pinned to one snapshot",
            kind="bad-address",
            hint=f"sapwood push {arguments.dir} {address.store_url}#{address.ref}",
        )

    from sapwood.push import is_tar, push, push_archive, require_directory

    tree = for_platform(arguments.dir, arguments)
    if names_image(tree):
        from sapwood.image import ImageName
        from sapwood.oci.storing import find_image, push_image

        _require_no_options(arguments)
        name = ImageName.parse(tree)
        image = find_image(name)
        # Once it is known that there is an image.
        store = open_store(address.store_url, create=True, ref=address.ref)
        with progress("pushing") as callback:
            pushed = push_image(store, image, address.ref, level=level, progress=callback)
    elif is_tar(arguments.dir):
        from sapwood.tarsource import open_source

        _require_no_options(arguments)
        with open_source(arguments.dir) as tar, progress("pushing") as callback:
            # Once it is known that there is a tar.
            store = open_store(address.store_url, create=True, ref=address.ref)
            pushed = push_archive(store, tar, address.ref, level=level, progress=callback)
    else:
        # Before a store is made for it.
        require_directory(arguments.dir)
        store = open_store(address.store_url, create=True, ref=address.ref)
        with progress("pushing") as callback:
            pushed = push(
                store,
                arguments.dir,
                address.ref,
                index=arguments.index,
                options=options_of(arguments),
                level=level,
                progress=callback,
            )
    pinned = f"{store.url}#{address.ref}@{pushed.snapshot}"
    if arguments.json:
        show.document(
            {
                "address": pinned,
                "tree": pushed.tree,
                "snapshot": pushed.snapshot,
                "ref": address.ref,
                "unchanged": pushed.unchanged,
                "files": pushed.files,
                "bytes": pushed.bytes,
                "filesHashed": pushed.files_hashed,
                "bytesHashed": pushed.bytes_hashed,
                "bytesReused": pushed.bytes_reused,
                "chunksSent": pushed.chunks_sent,
                "chunkBytesSent": pushed.chunk_bytes_sent,
                "bytesStored": pushed.bytes_stored,
                "packsSent": pushed.packs_sent,
                **show.requests(store.requests()),
                "unreadable": [show.text(path) for path in pushed.unreadable],
                "seconds": round(pushed.seconds, 6),
            }
        )
        return 0
    show.unreadable(pushed.unreadable)
    show.talk(f"tree:   {show.counted(pushed.files, 'file')}, {show.exact(pushed.bytes)}, {pushed.tree}")
    # Of an image not only its files.
    hashed = "" if names_image(tree) else f"{show.counted(pushed.files_hashed, 'file')}, "
    show.talk(f"hashed: {hashed}{show.exact(pushed.bytes_hashed)}")
    show.talk(f"saved:  {show.exact(pushed.bytes_reused)}, in the store already or twice in the tree")
    show.talk(
        f"sent:   {show.counted(pushed.chunks_sent, 'chunk')}, {show.exact(pushed.chunk_bytes_sent)}"
        f" as {show.exact(pushed.bytes_stored)}, in {show.seconds(pushed.seconds)}"
    )
    show.line(pinned)
    return 0


def _level(given: str | None) -> int | None:
    from sapwood.errors import InvalidInputError
    from sapwood.push import check_level

    if given is not None and not (given.isascii() and given.isdecimal()):
        raise InvalidInputError(f"--level {given}: no number", kind="bad-argument")
    return check_level(None if given is None else int(given))


def _require_no_options(arguments: argparse.Namespace) -> None:
    """Refuse options that say how to look at a directory."""
    from sapwood.errors import InvalidInputError
    from sapwood.store.naming import names_image

    given = arguments.index, arguments.skip_unreadable, arguments.exclude, arguments.gitignore
    if any(given) or arguments.one_file_system or not arguments.trust_ctime:
        what = "an image" if names_image(arguments.dir) else "a tar"
        raise InvalidInputError(
            f"{arguments.dir} is {what}: these options say how to look at a directory", kind="bad-usage"
        )


def _configure_pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="which tree")
    parser.add_argument("dir", metavar="DIR", help="where to; what is right there is left alone")
    parser.add_argument("--delete", action="store_true", help="remove from DIR what the tree has not")
    add_index(parser)
    add_platform(parser)
    add_seek_index(parser)
    add_toc(parser)
    add_json(parser)


def _pull(arguments: argparse.Namespace) -> int:
    leave_by_finally()
    from sapwood.address import open_address

    address = for_platform(arguments.address, arguments)
    with opening() as callback:
        store, snapshot = open_address(address, seek_index=arguments.seek_index, toc=arguments.toc, progress=callback)

    from sapwood.pull import pull

    with progress("pulling") as callback:
        pulled = pull(store, snapshot, arguments.dir, delete=arguments.delete, index=arguments.index, progress=callback)
    if arguments.json:
        show.document(
            {
                "tree": pulled.tree,
                "files": pulled.files,
                "bytes": pulled.bytes,
                "leftAlone": pulled.left_alone,
                "written": pulled.written,
                "fixed": pulled.fixed,
                "removed": pulled.removed,
                "extra": pulled.extra,
                "bytesFetched": pulled.bytes_fetched,
                **show.requests(store.requests()),
                "notes": list(pulled.notes),
                "seconds": round(pulled.seconds, 6),
            }
        )
        return 0
    for note in pulled.notes:
        show.talk(f"note: {note}")
    others = [(pulled.fixed, "fixed"), (pulled.removed, "removed"), (pulled.extra, "not of the tree left there")]
    show.talk(
        f"entries: {pulled.written:,} written, {pulled.left_alone:,} left alone"
        + "".join(f", {count:,} {what}" for count, what in others if count)
    )
    show.talk(
        f"pulled: {show.counted(pulled.files, 'file')}, {show.exact(pulled.bytes)};"
        f" fetched {show.exact(pulled.bytes_fetched)} in {show.counted(pulled.requests, 'request')},"
        f" {show.seconds(pulled.seconds)}"
    )
    show.line(pulled.tree)
    return 0


COMMANDS = {
    "push": Command(
        _configure_push,
        _push,
        """
        sapwood push . main                          directory -> ref `main` of the default store
        sapwood push venv s3://bucket/trees#venv     sends only what the store lacks
        pinned=$(sapwood push venv /srv/trees#venv)  stdout is the pinned address
        sapwood push --level 19 venv s3://bucket/trees#venv  slower, once, and smaller, whenever it is read
        sapwood push layer.tar.gz s3://bucket/i#layer  a tar's tree, and how to give the same tar back
        sapwood push oci://docker.io/python:3.12 s3://bucket/i#py  an image's tree, and how to give the same image back
        curl https://… | sapwood push - trees#linux  a tar from stdin
        """,
    ),
    "pull": Command(
        _configure_pull,
        _pull,
        """
        sapwood pull s3://bucket/trees#venv venv     store -> directory, with modes, times, links, xattrs
        sapwood pull main copy                       again: only what differs is fetched and written
        sapwood pull https://host/bundle.tar.gz dir  archive -> directory
        sapwood pull oci://ghcr.io/some/image:1.2 root  image -> its root file system
        sapwood pull --delete main copy              and what the tree has not is removed
        """,
    ),
}
