"""Pack and convert: a directory or a tar into an archive, wherever that goes.

Promise: the same input and choices give the same bytes; what fails leaves nothing (`sink`). Not here: how it is written
(`archive.write`), what stdout and URLs are (`sink`).
"""

from __future__ import annotations

import os

from sapwood.archive import write
from sapwood.archive.write import Choices, Written
from sapwood.progress import OnProgress
from sapwood.sink import open_sink
from sapwood.tree.options import Options

__all__ = ["Choices", "Written", "convert", "pack"]


def pack(
    root: str | os.PathLike[str],
    destination: str,
    choices: Choices | None = None,
    *,
    options: Options | None = None,
    progress: OnProgress | None = None,
) -> Written:
    """Write the directory `root` as an archive to `destination`: a path, a bucket's URL, or `-`, stdout.

    Raises:
        DeniedError, NotFoundError, InvalidInputError, UnavailableError: as `write.pack_directory` and `open_sink`.
    """
    with open_sink(destination) as sink:
        return write.pack_directory(
            root,
            sink.fd,
            sink.name,
            choices or Choices(),
            options=options,
            temporary=sink.temporary,
            progress=progress,
        )


def convert(
    source: str,
    destination: str,
    choices: Choices | None = None,
    *,
    progress: OnProgress | None = None,
) -> Written:
    """Write the tar `source`, or `-`, stdin, as an archive to `destination`, as `pack`.

    Raises:
        CorruptError, NotFoundError, InvalidInputError, UnavailableError: as `write.convert`, `open_tar`, `open_sink`.
    """
    with open_sink(destination) as sink, write.open_tar(source, sink.temporary) as tar:
        name = "stdin" if source == "-" else source
        return write.convert(
            tar, name, sink.fd, sink.name, choices or Choices(), temporary=sink.temporary, progress=progress
        )
