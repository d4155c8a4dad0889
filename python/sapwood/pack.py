"""Pack and convert: a directory, what an address names, or a tar into an archive, wherever that goes.

Promise: the same input and choices give the same bytes; what fails leaves nothing (`sink`). Not here: how it is written
(`archive.write`), what stdout and URLs are (`sink`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sapwood import places
from sapwood.archive import write
from sapwood.archive.write import Choices, Written
from sapwood.errors import InvalidInputError, NotFoundError
from sapwood.progress import OnProgress
from sapwood.sink import open_sink
from sapwood.store.naming import may_name_archive, without_query
from sapwood.store.ref import is_ref_name
from sapwood.tree.options import Options

if TYPE_CHECKING:
    from sapwood.store.archive import Archive, ArchiveTree
    from sapwood.store.snapshot import Snapshot
    from sapwood.store.store import Store

__all__ = ["Choices", "Written", "address_of", "convert", "pack"]


def pack(
    what: str | os.PathLike[str],
    destination: str,
    choices: Choices | None = None,
    *,
    options: Options | None = None,
    seek_index: str | None = None,
    toc: str | None = None,
    progress: OnProgress | None = None,
) -> Written:
    """Write a directory, or what an address names, as an archive to `destination`: a path, a bucket's URL, `-`, stdout.

    Of an address the plain tar is kept in a nameless file meanwhile. `options` are how to look at a directory;
    `seek_index` and `toc` are as of `open_address`.

    Raises:
        DeniedError, NotFoundError, InvalidInputError, UnavailableError: as `write.pack_directory` and `open_sink`.
        CorruptError: something in the store is damaged; it is named.
        InvalidInputError: `bad-usage`: there are `options`, and this is no directory.
    """
    address = address_of(what) if seek_index is None and toc is None else os.fspath(what)
    if address is not None:
        if options is not None:
            options.require_directory(without_query(address))
        opened = _opened(address, destination, seek_index, toc)
        return _pack_opened(*opened, address, destination, choices or Choices(), progress)
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


def address_of(what: str | os.PathLike[str]) -> str | None:
    """Return what is no directory of this machine as an address; a path is one, if a missing one."""
    text = os.fspath(what)
    if os.path.isdir(text):
        return None
    if "#" in text or "://" in text or may_name_archive(text):
        return text
    if os.path.isfile(text):
        raise InvalidInputError(
            f"{text} is a file, no directory",
            kind="not-a-directory",
            hint=f"if it is a tar: sapwood convert {text} OUT",
        )
    return None if text.startswith(("/", ".")) else text


def _pack_opened(
    store: Store | Archive,
    tree: Snapshot | ArchiveTree,
    address: str,
    destination: str,
    choices: Choices,
    progress: OnProgress | None,
) -> Written:
    from sapwood.tarstream import write_stream

    with open_sink(destination) as sink, write.spool(sink.temporary) as tar:
        write_stream(store, tree, tar, progress=progress)
        tar.flush()
        name = without_query(address)
        return write.convert(tar, name, sink.fd, sink.name, choices, temporary=sink.temporary, progress=progress)


def _opened(
    address: str, destination: str, seek_index: str | None, toc: str | None
) -> tuple[Store | Archive, Snapshot | ArchiveTree]:
    """Open an address; where that fails, say what else the word could have meant."""
    from sapwood.address import open_address

    try:
        return open_address(address, seek_index=seek_index, toc=toc)
    except (NotFoundError, InvalidInputError) as error:
        if error.kind == "archive-without-toc" and os.path.isfile(address):
            hint = f"sapwood convert {address} {destination}"
            raise InvalidInputError(str(error), kind=error.kind, hint=hint) from error
        if error.kind not in ("ref-missing", "not-a-store") or not is_ref_name(address):
            raise
        raise NotFoundError(
            f"{address}: neither a directory here nor a ref of {places.default_store()}",
            kind="path-missing",
            hint="name a directory, or a tree in a store: STORE_URL#REF",
        ) from error


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
    if "#" in source and not os.path.exists(source):
        raise InvalidInputError(
            f"{source}: no such tar; a tree in a store is packed",
            kind="not-a-file",
            hint=f"sapwood pack {source} {destination}",
        )
    with open_sink(destination) as sink, write.open_tar(source, sink.temporary) as tar:
        name = "stdin" if source == "-" else source
        return write.convert(
            tar, name, sink.fd, sink.name, choices or Choices(), temporary=sink.temporary, progress=progress
        )
