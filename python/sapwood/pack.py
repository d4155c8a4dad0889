"""Pack and convert: a directory, what an address names, or a tar into an archive, wherever that goes.

Promise: the same input and choices give the same bytes; what fails leaves nothing (`sink`). Not here: how it is written
(`archive.write`), what stdout and URLs are (`sink`).
"""

from __future__ import annotations

import os

from sapwood.archive import write
from sapwood.archive.write import Choices, Written
from sapwood.progress import OnProgress
from sapwood.sink import open_sink
from sapwood.store.archive import names_archive
from sapwood.tree.options import Options

__all__ = ["Choices", "Written", "convert", "pack"]


def pack(
    what: str | os.PathLike[str],
    destination: str,
    choices: Choices | None = None,
    *,
    options: Options | None = None,
    progress: OnProgress | None = None,
) -> Written:
    """Write a directory, or what an address names, as an archive to `destination`: a path, a bucket's URL, `-`, stdout.

    Of an address the plain tar is kept in a nameless file meanwhile. `options` are how to look at a directory.

    Raises:
        DeniedError, NotFoundError, InvalidInputError, UnavailableError: as `write.pack_directory` and `open_sink`.
        CorruptError: something in the store is damaged; it is named.
    """
    address = _address(what)
    if address is not None:
        return _pack_address(address, destination, choices or Choices(), progress)
    with open_sink(destination) as sink:
        return write.pack_directory(
            what,
            sink.fd,
            sink.name,
            choices or Choices(),
            replaced=sink.replaced,
            options=options,
            temporary=sink.temporary,
            progress=progress,
        )


def _address(what: str | os.PathLike[str]) -> str | None:
    """Return what is no directory of this machine as an address; a path is one, if a missing one."""
    text = os.fspath(what)
    if "#" not in text and (os.path.isdir(text) or text.startswith(("/", "."))) and not names_archive(text):
        return None
    return None if os.path.isdir(text) else text


def _pack_address(address: str, destination: str, choices: Choices, progress: OnProgress | None) -> Written:
    from sapwood.store.address import open_address
    from sapwood.tarstream import write_stream

    store, tree = open_address(address)
    with open_sink(destination) as sink, write.spool(sink.temporary) as tar:
        write_stream(store, tree, tar, progress=progress)
        tar.flush()
        return write.convert(tar, address, sink.fd, sink.name, choices, temporary=sink.temporary, progress=progress)


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
