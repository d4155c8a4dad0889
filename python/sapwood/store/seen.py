"""What this machine saw of a ref last: with it a push asks the store for nothing but the ref.

Invariant: it is believed only while the ref's bytes are those seen, which never repeat; any damage makes it nothing.
Bytes: docs/format.md, "Local state".
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

from sapwood.errors import SapwoodError
from sapwood.store import kept
from sapwood.store.identity import Identity
from sapwood.store.record import Record, encode

__all__ = ["Seen", "ref_hash"]


def ref_hash(url: str, ref: str) -> str:
    """Return the name of the files that this machine keeps of a ref: 64 hex digits."""
    return hashlib.sha256(f"{url}#{ref}".encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Seen:
    """The store's identity, the ref's and its snapshot's bytes, and the hex SHA-256 of the snapshot's holdings."""

    identity: Identity
    ref: bytes
    snapshot: bytes
    holdings: str

    @classmethod
    def read(cls, cache_dir: Path, url: str, ref: str) -> Seen | None:
        """Return what is kept of a ref of the store at `url`, if anything is."""
        with contextlib.suppress(SapwoodError, FileNotFoundError):
            return cls._decode(kept.read(_place(cache_dir, url, ref)))
        return None

    def keep(self, cache_dir: Path, url: str, ref: str) -> None:
        """Keep this, so that `read` returns it; errors as `kept.write`."""
        kept.write(_place(cache_dir, url, ref), self._encode())

    def _encode(self) -> bytes:
        fields = {
            "id": self.identity.id,
            "grace": self.identity.grace_s,
            "refs": self.identity.refs,
            "ref": self.ref.decode(),
            "snapshot": self.snapshot.decode(),
            "holdings": self.holdings,
        }
        return encode({**fields, "sum": hashlib.sha256(encode(fields)).hexdigest()})

    @classmethod
    def _decode(cls, data: bytes) -> Seen:
        record = Record(data, "what was seen of a ref", kind="damaged")
        fields = {"id": record.text("id"), "grace": record.number("grace"), "refs": record.text("refs")}
        identity = Identity.decode(encode(fields, 2), url="what was seen of a ref")
        seen = cls(identity, record.text("ref").encode(), record.text("snapshot").encode(), record.text("holdings"))
        if seen._encode() != data:
            raise record.damaged("its sum is another")
        return seen


def _place(cache_dir: Path, url: str, ref: str) -> Path:
    return cache_dir / "refs" / f"{ref_hash(url, ref)}.json"
