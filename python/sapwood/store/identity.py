"""What makes a place a store: `sapwood.json`, its id, its grace, and how its refs move.

Invariant: it is written once, and everybody who opens the store reads the same. Bytes: docs/format.md, "Store".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sapwood.store.base import ReadObjects
from sapwood.store.keys import IDENTITY
from sapwood.store.record import Record, encode

__all__ = ["GRACE_S", "Identity", "read_identity"]

GRACE_S = 86_400
"""The grace of a store whose maker said nothing, in seconds."""

_ID = re.compile(r"[0-9a-f]{32}\Z")
_NEWEST = 2


@dataclass(frozen=True)
class Identity:
    """What a store is known by; `grace_s` in seconds; `refs` move by swaps of the place, or under a lock."""

    id: str
    grace_s: int = GRACE_S
    refs: Literal["swap", "lock"] = "swap"

    def encode(self) -> bytes:
        """Return the object's bytes."""
        return encode({"id": self.id, "grace": self.grace_s, "refs": self.refs}, _NEWEST)

    @classmethod
    def decode(cls, data: bytes, *, url: str) -> Identity:
        """Read the identity of the store at `url`.

        Raises:
            CorruptError: `store-corrupt`.
            FormatError: `format-newer`.
        """
        record = Record(data, f"{url}: {IDENTITY}", kind="store-corrupt", newest=_NEWEST, store=url)
        found = record.text("id")
        # It becomes part of a path on this machine.
        if not _ID.match(found):
            raise record.damaged('"id" is not 32 hex digits')
        if record.version == 1:
            identity, spelt = cls(found), encode({"id": found})
        else:
            refs: dict[str, Literal["swap", "lock"]] = {"swap": "swap", "lock": "lock"}
            if record.text("refs") not in refs:
                raise record.damaged('"refs" is neither "swap" nor "lock"')
            identity = cls(found, record.number("grace"), refs[record.text("refs")])
            spelt = identity.encode()
        if spelt != data:
            raise record.damaged("it is not spelt as sapwood spells it")
        return identity


def read_identity(objects: ReadObjects) -> Identity:
    """Return the identity of the store in a place.

    Raises:
        NotFoundError: `object-missing`: it is no store.
        CorruptError, FormatError: as `Identity.decode`.
    """
    return Identity.decode(objects.get(IDENTITY), url=objects.url)
