"""What a store already has, as far as this machine knows: copies of index fragments, and those of unfinished pushes.

Invariant: a fragment is handed out only when its bytes hash to its name; a pending one only when its pack exists, too.
All of it is a cache: losing it costs time, never correctness. Place and names: docs/format.md, "Local state".
Not here: what is in a fragment (the core).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from sapwood.digests import PackName, parse_pack_name
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, SapwoodError
from sapwood.store import faults
from sapwood.store.base import ReadObjects
from sapwood.store.keys import FRAGMENTS, fragment_key, fragment_name, pack_key
from sapwood.store.waiting import each

__all__ = ["LocalState"]


class LocalState:
    """The local state of one store, in `folder`. Several processes may use it at once."""

    def __init__(self, objects: ReadObjects, folder: Path) -> None:
        self._objects = objects
        self._copies = folder / "index"
        self._pending = folder / "pending"

    def fragments(self) -> list[bytes]:
        """Return all fragments of the store, fetching those that have no good copy here.

        Raises:
            CorruptError: `fragment-corrupt`: the store's own is damaged.
        """
        names = [name for key in self._objects.list(FRAGMENTS) if (name := fragment_name(key))]
        found = each(self._fragment, names)
        # What the store has no more, collection has taken away.
        self._forget(self._copies, keep=set(names))
        return [fragment for fragment in found if fragment is not None]

    def pending(self) -> dict[PackName, bytes]:
        """Return the pending fragments by pack; those that are damaged, or whose pack is gone, are forgotten."""
        found = {}
        for path in self._files(self._pending):
            with contextlib.suppress(FileNotFoundError):  # another push has cleared it
                fragment = self._read(path)
                pack = _pack_of(path)
                if pack and path.name == _note(pack, fragment) and self._objects.exists(pack_key(pack)):
                    found[pack] = fragment
                else:
                    path.unlink()
        return found

    def keep(self, name: str, data: bytes) -> None:
        """Keep a copy of a fragment that this machine has just put."""
        self._write(self._copies / f"{name}.frag", data)

    def keep_pending(self, pack: PackName, fragment: bytes) -> None:
        """Remember what is in a pack that was sent, until a fragment of the store says it."""
        self._write(self._pending / _note(pack, fragment), fragment)

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
            data = self._read(copy)
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
        self._write(copy, data)
        return data

    def _forget(self, folder: Path, *, keep: set[str]) -> None:
        for path in self._files(folder):
            if path.stem not in keep:
                path.unlink(missing_ok=True)

    def _files(self, folder: Path) -> Iterable[Path]:
        try:
            return sorted(folder.glob("*.frag"))
        except OSError as error:
            raise self._named(error, folder) from error

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._named(error, path) from error

    def _write(self, path: Path, data: bytes) -> None:
        # Not synced: a torn one has not the name that its bytes ask for.
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except BaseException as error:  # Ctrl-C as well: nothing half-made stays
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise self._named(error, path) from error
            raise

    @staticmethod
    def _named(error: OSError, path: Path) -> SapwoodError:
        return faults.from_os_error(error, str(path.parent), path.name)


def _note(pack: PackName, fragment: bytes) -> str:
    """The file name of a pending fragment: whose it is, and what its bytes must hash to."""
    return f"{pack}-{hashlib.sha256(fragment).hexdigest()}.frag"


def _pack_of(note: Path) -> PackName | None:
    try:
        return parse_pack_name(note.name.partition("-")[0])
    except InvalidInputError:
        return None
