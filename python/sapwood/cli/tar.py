"""`sapwood tar`: the tar that a tree was pushed as, given back."""

from __future__ import annotations

import os

from sapwood.cli import show
from sapwood.cli.binary import require_one_stdout
from sapwood.cli.command import Command, add_json, add_seek_index, add_toc
from sapwood.cli.progress import progress

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse


def _configure_tar(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="which tree, or an archive")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="-",
        help="where to: a path, s3://…, gs://… or az://… (default: stdout)",
    )
    add_seek_index(parser)
    add_toc(parser)
    add_json(parser)


def _tar(arguments: argparse.Namespace) -> int:
    from sapwood.destination import writing
    from sapwood.sink import open_sink
    from sapwood.store.address import open_address
    from sapwood.tarstream import write_tar

    require_one_stdout(arguments, arguments.output, "tar")
    store, snapshot = open_address(arguments.address, seek_index=arguments.seek_index, toc=arguments.toc)
    with (
        progress("writing") as callback,
        open_sink(arguments.output) as sink,
        writing(sink.name),
        # Without a buffer, which would be written after Ctrl-C, into a pipe that nobody may be reading.
        os.fdopen(os.dup(sink.fd), "wb", buffering=0) as out,
    ):
        told = write_tar(store, snapshot, out, progress=callback)
    if arguments.json:
        show.document({"tar": told.digest, "tarSize": told.size, "exact": told.exact})
        return 0
    what = "as it was pushed" if told.exact else "in the form of pack: the tree was pushed as none"
    show.talk(f"tar: {show.exact(told.size)}, {what}")
    if arguments.output != "-":
        show.line(told.digest)
    return 0


COMMANDS = {
    "tar": Command(
        _configure_tar,
        _tar,
        """
        sapwood tar s3://bucket/i#layer -o layer.tar   the tar that was pushed, byte for byte; stdout is its digest
        sapwood tar main | tar x                       of what was pushed as a directory, a tar all the same
        """,
    ),
}
