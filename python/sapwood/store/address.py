"""Addresses: what people write to say which tree they mean.

`STORE_URL#REF`, pinned `STORE_URL#REF@sha256:...`, or a bare `REF` of the default store. What has a `/` or `.` at its
beginning, or a `://`, is a place and needs its `#`. A bare word that is the name of a store in the working directory,
too, is refused, not guessed. What names an archive (`naming`) is no ref: those who can read a tree from one call
`open_address`. Not here yet: OCI images, refused with a remedy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sapwood import places
from sapwood.digests import SnapshotDigest, parse_digest
from sapwood.errors import DeniedError, InvalidInputError, NotFoundError
from sapwood.store.archive import Archive, ArchiveTree, open_archive
from sapwood.store.keys import IDENTITY
from sapwood.store.naming import may_name_archive, names_archive, without_query
from sapwood.store.ref import Ref, check_ref_name
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store, open_store

__all__ = ["Address", "names_store", "open_address"]

# What of a URL says that a store may be there, whose address lacks its ref: a server may send a page, or a list.
_NO_ARCHIVE = ("object-missing", "no-archive", "no-ranges")


@dataclass(frozen=True)
class Address:
    """A ref in a store, and, when pinned, the one snapshot that is meant whatever the ref says."""

    store_url: str
    ref: str
    pin: SnapshotDigest | None = None

    def __str__(self) -> str:
        return f"{self.store_url}#{self.ref}" + (f"@{self.pin}" if self.pin else "")

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises:
            InvalidInputError: `bad-address`, `bad-ref-name`, `bad-digest`, `not-supported` (archives, OCI images).
        """
        if text.startswith("oci://"):
            raise InvalidInputError(
                f"{text}: OCI images are not yet supported here",
                kind="not-supported",
                hint="push the image's root file system: sapwood push DIR STORE_URL#REF",
                address=text,
            )
        store_url, hash_sign, name = text.rpartition("#")
        if not hash_sign and names_archive(text):
            shown = without_query(text)
            raise InvalidInputError(
                f"{shown}: an archive, where a ref of a store is meant",
                kind="not-supported",
                hint=f"store its tree under a ref: sapwood push {shown} STORE_URL#REF",
                address=shown,
            )
        if names_store(text):
            raise InvalidInputError(
                f"{text}: names a place but no ref in it", kind="bad-address", hint=f"{text}#main", address=text
            )
        if text and not hash_sign and os.path.exists(os.path.join(text, IDENTITY)):
            raise InvalidInputError(
                f"{text}: the ref of the default store, or the store in this directory?",
                kind="bad-address",
                hint=f"'#{text}' is the ref, ./{text} the store, ./{text}#REF a ref in it",
                address=text,
            )
        name, at_sign, pin = name.partition("@")
        if not name:
            raise InvalidInputError(
                f"{text!r}: names no ref", kind="bad-address", hint=f"{store_url}#main", address=text
            )
        return cls(
            store_url or places.default_store(),
            check_ref_name(name),
            parse_digest(SnapshotDigest, pin) if at_sign else None,
        )

    def open(self, *, cache_dir: Path | None = None) -> tuple[Store, Ref | None, Snapshot]:
        """Open the store and read the snapshot that is meant; of a pinned address the ref is not read, and None.

        Raises:
            NotFoundError: `ref-missing`, `snapshot-missing`.
            CorruptError, FormatError, InvalidInputError: as `open_store`, `Store.read_ref`, `Store.read_snapshot`.
        """
        store = open_store(self.store_url, cache_dir=cache_dir)
        if self.pin:
            return store, None, store.read_snapshot(self.pin)
        ref = store.read_ref(self.ref)
        return store, ref, store.read_snapshot(ref.snapshot)


def open_address(
    text: str, *, seek_index: str | None = None, toc: str | None = None, cache_dir: Path | None = None
) -> tuple[Store | Archive, Snapshot | ArchiveTree]:
    """Return where the tree that an address names is read from, and what is known of it: a snapshot, or an archive.

    An archive is read by `seek_index`, a path or URL, if that is given; `toc` is where it has its TOC, if elsewhere.

    Raises:
        SapwoodError: as `Address.parse`, `Address.open` and `open_archive`; `bad-usage`: a seek index or a TOC
            of no archive; `bad-address`: a URL that has no ref and is no archive's.
    """
    if may_name_archive(text):
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


def names_store(text: str) -> bool:
    """Say whether `text`, where it may be an address, names a whole store."""
    return "#" not in text and (text.startswith(("/", ".")) or "://" in text)
