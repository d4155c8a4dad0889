"""Refs: the names that move.

Invariant: no two states of a ref have the same bytes (a counter that only rises, and a nonce), so that a server whose
ETag is a hash of the content still tells A from A, B, A; hence a ref is never deleted, only `Removed`.
Bytes: docs/format.md, "Store". Not here: moving (`store.py`), what a history is (`history.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from sapwood.digests import SnapshotDigest, parse_digest
from sapwood.errors import InvalidInputError
from sapwood.store.base import Version
from sapwood.store.record import Record, encode

__all__ = ["Ref", "Removed", "check_ref_name", "is_ref_name"]

_NONCE = re.compile(r"[0-9a-f]{16}\Z")
_PART = re.compile(r"[A-Za-z0-9._-]+\Z")
_LONGEST = 200


@dataclass(frozen=True)
class Removed:
    """The state of a ref that was removed: it names nothing, and is where the next move begins."""

    name: str
    counter: int
    nonce: str
    version: Version = field(default=Version(""), compare=False, repr=False)

    snapshot: ClassVar[None] = None
    base: ClassVar[None] = None
    kept: ClassVar[tuple[SnapshotDigest, ...]] = ()

    def encode(self) -> bytes:
        """Return the object's bytes."""
        return _spell(self.snapshot, self.counter, self.nonce, self.base, self.kept)

    @classmethod
    def next(cls, before: Ref) -> Removed:
        """Return the state after `before` that names nothing; not yet written."""
        return cls(before.name, before.counter + 1, _draw())


@dataclass(frozen=True)
class Ref:
    """One state of a ref. `version` is what the store knows this state by; it takes no part in equality.

    Its history ends with `base`, if that is given, and what is in `kept`: docs/store.md, "What is alive".
    """

    name: str
    snapshot: SnapshotDigest
    counter: int
    nonce: str
    version: Version = field(default=Version(""), compare=False, repr=False)
    base: SnapshotDigest | None = None
    kept: tuple[SnapshotDigest, ...] = ()

    def encode(self) -> bytes:
        """Return the object's bytes."""
        return _spell(self.snapshot, self.counter, self.nonce, self.base, self.kept)

    @classmethod
    def next(cls, name: str, snapshot: SnapshotDigest, before: Ref | Removed | None) -> Ref:
        """Return the state after `before` that names `snapshot` and keeps what that kept; not yet written."""
        if before is None:
            return cls(name, snapshot, 1, _draw())
        return cls(name, snapshot, before.counter + 1, _draw(), base=before.base, kept=before.kept)

    def cut(self, kept: Sequence[SnapshotDigest]) -> Ref:
        """Return the state after this one whose history is its snapshot and `kept`; not yet written."""
        return Ref(self.name, self.snapshot, self.counter + 1, _draw(), base=self.snapshot, kept=tuple(kept))

    @staticmethod
    def decode(name: str, data: bytes, version: Version, *, url: str) -> Ref | Removed:
        """Read the state of a ref of the store at `url`.

        Raises:
            CorruptError: `ref-corrupt`.
            FormatError: `format-newer`.
        """
        remedy = f"remove refs/{name}.ref from the store, and push to it again"
        what = f"{url}: ref {name}"
        record = Record(data, what, kind="ref-corrupt", newest=2, remedy=remedy, store=url, ref=name)

        def digest(text: str) -> SnapshotDigest:
            try:
                return parse_digest(SnapshotDigest, text)
            except InvalidInputError as error:
                raise record.damaged(str(error)) from None

        counter, nonce = record.number("counter"), record.text("nonce")
        if not _NONCE.match(nonce):
            raise record.damaged('"nonce" is not 16 hex digits')
        base, kept = None, tuple[SnapshotDigest, ...]()
        if record.version > 1:
            base = digest(record.text("base")) if record.has("base") else None
            kept = tuple(map(digest, record.texts("kept")))
        ref: Ref | Removed
        if record.version > 1 and not record.has("snapshot"):
            ref = Removed(name, counter, nonce, version)
        else:
            ref = Ref(name, digest(record.text("snapshot")), counter, nonce, version, base, kept)
        # Also what a removed ref would keep, and what a shorter format says as well.
        if ref.encode() != data:
            raise record.damaged("it is not spelt as sapwood spells it")
        return ref


def _spell(
    snapshot: SnapshotDigest | None,
    counter: int,
    nonce: str,
    base: SnapshotDigest | None,
    kept: tuple[SnapshotDigest, ...],
) -> bytes:
    fields: dict[str, object] = {"snapshot": snapshot, "counter": counter, "nonce": nonce}
    if snapshot is not None and base is None and not kept:
        return encode(fields)
    return encode({**fields, "base": base, "kept": list(kept)}, version=2)


def _draw() -> str:
    return os.urandom(8).hex()


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
