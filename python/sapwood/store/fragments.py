"""What a store already has, as far as this machine knows: fragments, those of unfinished pushes, and holdings.

Invariant: a fragment is handed out only when its bytes hash to its name; a pending one only when its pack exists, too.
All of it is a cache: losing it costs time, never correctness. Place and names: docs/format.md, "Local state".
Not here: what is in a fragment (the core).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from sapwood.digests import PackName, parse_pack_name
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError
from sapwood.store import kept
from sapwood.store.base import ReadObjects
from sapwood.store.keys import fragment_key, pack_key
from sapwood.store.waiting import each

__all__ = ["LocalState"]

_SHA256 = 32


class LocalState:
    """The local state of one store, in `folder`. Several processes may use it at once."""

    def __init__(self, objects: ReadObjects, folder: Path) -> None:
        self._objects = objects
        self._copies = folder / "index"
        self._pending = folder / "pending"
        self._owed = folder / "owed"
        self._holdings = folder / "holdings"

    def fragments(self, found: Sequence[tuple[str, int]], budget: int | None) -> list[bytes]:
        """Return fragments that the store has: `found` says name and size of all, those wanted most first.

        Of those that have no good copy here as many are fetched as `budget` bytes allow, or all.

        Raises:
            CorruptError: `fragment-corrupt`: the store's own is damaged.
        """
        wanted, left = [], budget
        for name, size in found:
            if left is not None and not (self._copies / f"{name}.frag").is_file():
                if size > left:
                    continue
                left -= size
            wanted.append(name)
        fragments = each(self._fragment, wanted)
        # What the store has no more, collection has taken away.
        self._forget(self._copies, keep={name for name, _ in found})
        return [fragment for fragment in fragments if fragment is not None]

    def pending(self, there: Container[PackName] = ()) -> dict[PackName, bytes]:
        """Return the pending fragments by pack; those that are damaged, or whose pack is gone, are forgotten.

        Packs in `there` are known to be there, others are asked for.
        """
        found = {}
        for path in self._files(self._pending):
            with contextlib.suppress(FileNotFoundError):  # another push has cleared it
                fragment = kept.read(path)
                pack = _pack_of(path)
                good = pack is not None and path.name == _note(pack, fragment)
                if pack and good and (pack in there or self._objects.exists(pack_key(pack))):
                    found[pack] = fragment
                else:
                    path.unlink()
        return found

    def has_pending(self) -> bool:
        """Say whether an unfinished push has left anything."""
        return any(True for _ in self._files(self._pending))

    def owed(self) -> dict[str, bytes]:
        """Return, by name, the fragments that pushes from here have not put, for they say little."""
        found = {}
        for path in self._files(self._owed):
            with contextlib.suppress(FileNotFoundError):
                fragment = kept.read(path)
                if hashlib.sha256(fragment).hexdigest() == path.stem:
                    found[path.stem] = fragment
                else:
                    path.unlink()
        return found

    def owe(self, fragment: bytes) -> None:
        """Keep a fragment that is not worth a request yet."""
        kept.write(self._owed / f"{hashlib.sha256(fragment).hexdigest()}.frag", fragment)

    def settle(self, names: Iterable[str]) -> None:
        """Forget what was owed: the store has a fragment that says it all."""
        for name in names:
            (self._owed / f"{name}.frag").unlink(missing_ok=True)

    def holdings(self, name: str, sha256: str) -> tuple[bytes, bytes] | None:
        """Return the holdings kept as `name` if they are whole and those of this hash, and the memory of their pages.

        Whether that is whole the core finds out; it may be empty.
        """
        with contextlib.suppress(FileNotFoundError):
            data = kept.read(self._holdings / f"{name}.frag")
            if hashlib.sha256(data).hexdigest() == sha256:
                with contextlib.suppress(FileNotFoundError):
                    memory = kept.read(self._holdings / f"{name}.pages")
                    if memory.startswith(bytes.fromhex(sha256)):
                        return data, memory[_SHA256:]
                return data, b""
        return None

    def keep_holdings(self, name: str, data: bytes, memory: bytes | None) -> str:
        """Keep holdings as `name`, in place of what was kept so, and of their pages what is new; return their hash."""
        sha256 = hashlib.sha256(data)
        kept.write(self._holdings / f"{name}.frag", data)
        if memory is not None:
            kept.write(self._holdings / f"{name}.pages", sha256.digest() + memory)
        return sha256.hexdigest()

    def keep(self, name: str, data: bytes) -> None:
        """Keep a copy of a fragment that this machine has just put."""
        kept.write(self._copies / f"{name}.frag", data)

    def keep_pending(self, pack: PackName, fragment: bytes) -> None:
        """Remember what is in a pack that was sent, until a fragment of the store says it."""
        kept.write(self._pending / _note(pack, fragment), fragment)

    def clear_pending(self, packs: Iterable[PackName]) -> None:
        """Forget the pending fragments of `packs`: the store has one that says it all."""
        cleared = set(packs)
        for path in self._files(self._pending):
            if _pack_of(path) in cleared:
                path.unlink(missing_ok=True)

    def _fragment(self, name: str) -> bytes | None:
        """Return a fragment, or None if it was collected meanwhile."""
        copy = self._copies / f"{name}.frag"
        with contextlib.suppress(FileNotFoundError):
            data = kept.read(copy)
            if hashlib.sha256(data).hexdigest() == name:
                return data
        key = fragment_key(name)
        try:
            data = self._objects.get(key)
        except NotFoundError:
            return None
        if hashlib.sha256(data).hexdigest() != name:
            raise CorruptError(
                f"{self._objects.url}: {key} is damaged: its bytes hash to something else",
                kind="fragment-corrupt",
                hint=f"remove {key} from the store; pushes then send what it listed again",
                store=self._objects.url,
                key=key,
            )
        kept.write(copy, data)
        return data

    def _forget(self, folder: Path, *, keep: set[str]) -> None:
        for path in self._files(folder):
            if path.stem not in keep:
                path.unlink(missing_ok=True)

    def _files(self, folder: Path) -> Iterable[Path]:
        try:
            return sorted(folder.glob("*.frag"))
        except OSError as error:
            raise kept.named(error, folder) from error


def _note(pack: PackName, fragment: bytes) -> str:
    """The file name of a pending fragment: whose it is, and what its bytes must hash to."""
    return f"{pack}-{hashlib.sha256(fragment).hexdigest()}.frag"


def _pack_of(note: Path) -> PackName | None:
    try:
        return parse_pack_name(note.name.partition("-")[0])
    except InvalidInputError:
        return None
