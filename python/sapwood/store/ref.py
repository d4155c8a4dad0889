"""Refs: the names that move.

Invariant: no two states of a ref have the same bytes (a counter that only rises, and a nonce), so that a server whose
ETag is a hash of the content still tells A from A, B, A. Bytes: docs/format.md, "Store". Not here: moving (`store.py`).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from sapwood.digests import SnapshotDigest, parse_digest
from sapwood.errors import InvalidInputError
from sapwood.store.base import Version
from sapwood.store.record import Record, encode

__all__ = ["Ref", "check_ref_name", "is_ref_name"]

_NONCE = re.compile(r"[0-9a-f]{16}\Z")
_PART = re.compile(r"[A-Za-z0-9._-]+\Z")
_LONGEST = 200


@dataclass(frozen=True)
class Ref:
    """One state of a ref. `version` is what the store knows this state by; it takes no part in equality."""

    name: str
    snapshot: SnapshotDigest
    counter: int
    nonce: str
    version: Version = field(default=Version(""), compare=False, repr=False)

    def encode(self) -> bytes:
        """Return the object's bytes."""
        return encode({"snapshot": self.snapshot, "counter": self.counter, "nonce": self.nonce})

    @classmethod
    def decode(cls, name: str, data: bytes, version: Version, *, url: str) -> Ref:
        """Read a ref of the store at `url`.

        Raises:
            CorruptError: `ref-corrupt`.
            FormatError: `format-newer`.
        """
        remedy = f"remove refs/{name}.ref from the store, and push to it again"
        record = Record(data, f"{url}: ref {name}", kind="ref-corrupt", remedy=remedy, store=url, ref=name)
        try:
            snapshot = parse_digest(SnapshotDigest, record.text("snapshot"))
        except InvalidInputError as error:
            raise record.damaged(str(error)) from None
        ref = cls(name, snapshot, record.number("counter"), record.text("nonce"), version)
        if not _NONCE.match(ref.nonce):
            raise record.damaged('"nonce" is not 16 hex digits')
        if ref.encode() != data:
            raise record.damaged("it is not spelt as sapwood spells it")
        return ref

    @classmethod
    def next(cls, name: str, snapshot: SnapshotDigest, before: Ref | None) -> Ref:
        """Return the state after `before` that names `snapshot`; not yet written."""
        return cls(name, snapshot, before.counter + 1 if before else 1, secrets.token_hex(8))


def is_ref_name(name: str) -> bool:
    """Say whether `name` can name a ref."""
    parts = name.split("/")
    # A part that ends in .ref would be a folder where the ref before it is a file: refs/a.ref and refs/a.ref/b.ref.
    return len(name) <= _LONGEST and all(
        _PART.match(part) and part not in (".", "..") and not part.endswith(".ref") for part in parts
    )


def check_ref_name(name: str) -> str:
    """Return `name` if it can name a ref.

    Raises:
        InvalidInputError: `bad-ref-name`.
    """
    if is_ref_name(name):
        return name
    raise InvalidInputError(
        f"{name[:_LONGEST]!r} cannot be a ref's name",
        kind="bad-ref-name",
        hint="1 to 200 of A-Z a-z 0-9 . _ - in parts separated by /; no part is . or .. or ends in .ref",
        ref=name,
    )
