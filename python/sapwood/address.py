"""From what people write to what they mean: a snapshot in a store, an archive, or an image, opened to be read.

Promise: whoever can read a tree from one can read it from all. Not here: how each is opened (`store`, `image`).
"""

from __future__ import annotations

from pathlib import Path

from sapwood.errors import DeniedError, InvalidInputError, NotFoundError
from sapwood.progress import OnProgress
from sapwood.store.address import Address
from sapwood.store.archive import Archive, ArchiveTree, open_archive
from sapwood.store.naming import may_name_archive, names_archive, names_image, without_query
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store

__all__ = ["open_address"]

# What of a URL says that a store may be there, whose address lacks its ref: a server may send a page, or a list.
_NO_ARCHIVE = ("object-missing", "no-archive", "no-ranges")


def open_address(
    text: str,
    *,
    seek_index: str | None = None,
    toc: str | None = None,
    cache_dir: Path | None = None,
    brings_pages: bool = False,
    progress: OnProgress | None = None,
) -> tuple[Store | Archive, Snapshot | ArchiveTree]:
    """Return where the tree that an address names is read from, and what is known of it: a snapshot, or an archive's.

    An archive is read by `seek_index`, a path or URL, if that is given; `toc` is where it has its TOC, if elsewhere.
    Who `brings_pages` gets file maps of images, too, that may lack them. `progress` is told of layers of images that
    must be read whole, in other threads, one at a time.

    Raises:
        SapwoodError: as `Address.parse`, `Address.open`, `open_archive` and `open_image`; `bad-usage`: a seek index or
            a TOC of no archive; `bad-address`: a URL that has no ref and is no archive's.
    """
    if names_image(text) and seek_index is None and toc is None:
        from sapwood.image import ImageName, open_image

        return open_image(ImageName.parse(text), cache_dir=cache_dir, brings_pages=brings_pages, progress=progress)
    if may_name_archive(text) and not names_image(text):
        try:
            return open_archive(text, index=seek_index, toc=toc, cache_dir=cache_dir)
        except (NotFoundError, InvalidInputError, DeniedError) as error:
            if names_archive(text) or not (isinstance(error, DeniedError) or error.kind in _NO_ARCHIVE):
                raise
            shown = without_query(text)
            raise InvalidInputError(
                f"{shown}: names no ref of a store, and no archive was found there: {error}",
                kind="bad-address",
                hint=f"of a store, name a ref in it: {shown}#main",
                address=shown,
            ) from error
    if seek_index is not None:
        raise InvalidInputError(
            f"{text} is no archive, and {seek_index} is the seek index of one",
            kind="bad-usage",
            hint="leave --seek-index out",
        )
    if toc is not None:
        raise InvalidInputError(
            f"{text} is no archive, and {without_query(toc)} is the TOC of one",
            kind="bad-usage",
            hint="leave --toc out",
        )
    store, _, snapshot = Address.parse(text).open(cache_dir=cache_dir)
    return store, snapshot
