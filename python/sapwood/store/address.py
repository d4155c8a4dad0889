"""Addresses: what people write to say which tree they mean.

`STORE_URL#REF`, pinned `STORE_URL#REF@sha256:...`, or a bare `REF` of the default store. What has a `/` or `.` at its
beginning, or a `://`, is a place and needs its `#`. A bare word that is the name of a store in the working directory,
too, is refused, not guessed. What names an archive or an image (`naming`) is no ref: those who can read a tree from one
call `sapwood.address.open_address`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sapwood import places
from sapwood.digests import SnapshotDigest, parse_digest
from sapwood.errors import InvalidInputError
from sapwood.store.keys import IDENTITY
from sapwood.store.naming import names_archive, names_image, without_query
from sapwood.store.ref import Ref, check_ref_name
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store, open_store

__all__ = ["Address", "names_store"]


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
        store_url, hash_sign, name = text.rpartition("#")
        if names_image(text) or (not hash_sign and names_archive(text)):
            shown, is_image = without_query(text), names_image(text)
            raise InvalidInputError(
                f"{shown}: an {'image' if is_image else 'archive'}, where a ref of a store is meant",
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
        if self.pin:
            store = open_store(self.store_url, cache_dir=cache_dir)
            return store, None, store.read_snapshot(self.pin)
        store, ref = Store.open_at(self.store_url, self.ref, cache_dir=cache_dir)
        return store, ref, store.read_snapshot(ref.snapshot)


def names_store(text: str) -> bool:
    """Say whether `text`, where it may be an address, names a whole store."""
    return "#" not in text and (text.startswith(("/", ".")) or "://" in text)
