"""`sapwood tar`: the tar that a tree was pushed as, or that of a layer of an image, given back."""

from __future__ import annotations

import os

from sapwood.cli import show
from sapwood.cli.binary import require_one_stdout
from sapwood.cli.command import Command, add_json, add_platform, add_seek_index, add_toc, for_platform
from sapwood.cli.progress import opening, progress

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import IO

    from sapwood.store import Store
    from sapwood.store.archive import Archive, ArchiveTree
    from sapwood.store.snapshot import Snapshot
    from sapwood.tarstream import Told


def _configure_tar(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="which tree, or an archive")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="-",
        help="where to: a path, s3://…, gs://… or az://… (default: stdout)",
    )
    parser.add_argument(
        "--layer", metavar="N", help="of an image that was pushed: the tar of its layer N, 1 the lowest"
    )
    add_platform(parser)
    add_seek_index(parser)
    add_toc(parser)
    add_json(parser)


def _tar(arguments: argparse.Namespace) -> int:
    from sapwood.address import open_address
    from sapwood.destination import writing
    from sapwood.sink import open_sink
    from sapwood.tarstream import write_tar

    require_one_stdout(arguments, arguments.output, "tar")
    address = for_platform(arguments.address, arguments)
    with opening() as callback:
        store, snapshot = open_address(address, seek_index=arguments.seek_index, toc=arguments.toc, progress=callback)
    layer = None if arguments.layer is None else _layer(arguments, store, snapshot)
    with (
        progress("writing") as callback,
        open_sink(arguments.output) as sink,
        writing(sink.name),
        # Without a buffer, which would be written after Ctrl-C, into a pipe that nobody may be reading.
        os.fdopen(os.dup(sink.fd), "wb", buffering=0) as out,
    ):
        told = write_tar(store, snapshot, out, progress=callback) if layer is None else layer(out)
    if arguments.json:
        show.document({"tar": told.digest, "tarSize": told.size, "exact": told.exact})
        return 0
    what = "as it was pushed" if told.exact else "in the form of pack: the tree was pushed as none"
    show.talk(f"tar: {show.exact(told.size)}, {what}")
    if arguments.output != "-":
        show.line(told.digest)
    return 0


def _layer(
    arguments: argparse.Namespace, store: Store | Archive, tree: Snapshot | ArchiveTree
) -> Callable[[IO[bytes]], Told]:
    """Return what writes the tar of a layer.

    Raises:
        InvalidInputError: `bad-usage`: there is none of that number, or there are no layers.
    """
    from sapwood.errors import InvalidInputError
    from sapwood.oci.stored import StoredImage
    from sapwood.store import Store
    from sapwood.store.snapshot import Snapshot
    from sapwood.tarstream import Told

    if not isinstance(store, Store) or not isinstance(tree, Snapshot):
        raise InvalidInputError(
            f"{arguments.address} is in no store: --layer is of images that were pushed", kind="bad-usage"
        )
    image = StoredImage(store, tree)
    digests = [layer.digest for layer in image.manifest.layers]
    number = int(arguments.layer) if arguments.layer.isascii() and arguments.layer.isdecimal() else 0
    if not 1 <= number <= len(digests):
        raise InvalidInputError(
            f"--layer {arguments.layer}: {arguments.address} has the layers 1 to {len(digests)}", kind="bad-usage"
        )
    layer = image.layer(digests[number - 1])

    def write(out: IO[bytes]) -> Told:
        image.write_tar(layer, out)
        return Told(layer.tar, layer.tar_size, exact=True)

    return write


COMMANDS = {
    "tar": Command(
        _configure_tar,
        _tar,
        """
        sapwood tar s3://bucket/i#layer -o layer.tar   the tar that was pushed, byte for byte; stdout is its digest
        sapwood tar --layer 2 trees#image | tar t      of an image that was pushed, one of its layers
        sapwood tar main | tar x                       of what was pushed as a directory, a tar all the same
        """,
    ),
}
