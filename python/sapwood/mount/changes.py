"""What was changed in writable mounts: kept by the place that it was changed at, until somebody throws it away.

Invariant: changes are only ever laid over the very tree that they were made in, and nothing but `discard` removes what
somebody changed. What was never changed leaves nothing. Layout: docs/writable.md. Not here: the overlay (the core).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapwood import places
from sapwood.errors import ConflictError
from sapwood.mount.table import is_mounted
from sapwood.store import kept
from sapwood.store.address import Address
from sapwood.store.naming import without_query

__all__ = ["Changes", "all_changes", "begin", "changes_at", "directory_of", "discard", "end", "note_root"]


@dataclass(frozen=True)
class Changes:
    """Changes of the tree `address`, made at `place`, with the digest of its file map; kept in `directory`."""

    place: Path
    address: str
    map: str
    directory: Path
    _root: tuple[int, ...] | None

    @property
    def upper(self) -> Path:
        """The upper layer of the overlay."""
        return self.directory / "upper"

    @property
    def is_empty(self) -> bool:
        """Whether nothing was changed."""
        try:
            return not os.listdir(self.upper) and self._root in (None, _facts(self.upper))
        except FileNotFoundError:
            return True


def begin(place: Path, address: str, heritage: dict[str, Any]) -> Path:
    """Return the directory for the changes of a mount that is to be made of what `heritage` tells.

    Raises:
        ConflictError: `changes-of-another`: there are changes of another tree at this place.
        UnavailableError, DeniedError: the disk.
    """
    found, directory = changes_at(place), directory_of(place)
    # Of a mount that is there nothing is touched: another one cannot be made.
    if is_mounted(place):
        return directory
    if found and found.map != heritage["map"] and not found.is_empty:
        name = shlex.quote(os.fspath(place))
        raise ConflictError(
            f"{place}: {found.directory} has changes that were made there in another tree, {found.address}",
            kind="changes-of-another",
            hint=f"go on with them: sapwood mount --writable {shlex.quote(found.address)} {name};"
            f" or throw them away: sapwood umount --discard {name}",
        )
    if found and found.map == heritage["map"]:
        return directory
    discard(place)
    pinned = without_query(address)
    if "snapshot" in heritage:
        pinned = str(Address.parse(f"{address.rpartition('@sha256:')[0] or address}@{heritage['snapshot']}"))
    made = directory.with_suffix(".new")
    _remove(made)
    try:
        (made / "upper").mkdir(parents=True)
        (made / "work").mkdir()
        said = {"place": os.fsdecode(place), "address": pinned, "map": heritage["map"]}
        kept.write(made / "note.json", json.dumps(said).encode())
        made.rename(directory)
    except OSError as error:
        raise kept.named(error, made) from error
    return directory


def note_root(place: Path) -> None:
    """Note what the root is while nothing was changed, so that a change of the root itself is seen."""
    note = directory_of(place) / "note.json"
    if (found := changes_at(place)) and found._root is None and found.is_empty:
        said = json.loads(note.read_bytes())
        kept.write(note, json.dumps(said | {"root": _facts(found.upper)}).encode())


def changes_at(place: Path) -> Changes | None:
    """Return the changes that are kept of a place, if any were begun."""
    return _read(directory_of(place))


def all_changes() -> list[Changes]:
    """Return all changes that are kept, sorted by place, but for those that change nothing."""
    try:
        names = os.listdir(places.changes_dir())
    except OSError:
        return []
    found = [_read(places.changes_dir() / name) for name in names if "." not in name]
    return sorted((one for one in found if one and not one.is_empty), key=lambda one: one.place)


def end(place: Path, *, discarding: bool = False) -> None:
    """Remove what is kept of a place, unless it is mounted: if nothing was changed, or with `discarding` in any case.

    Raises:
        UnavailableError, DeniedError: the disk.
    """
    if not is_mounted(place) and (found := changes_at(place)) and (discarding or found.is_empty):
        discard(place)


def discard(place: Path) -> None:
    """Throw the changes of a place away; it must not be mounted.

    Raises:
        UnavailableError, DeniedError: the disk.
    """
    directory = directory_of(place)
    # What is half removed is nobody's changes any more.
    gone = directory.with_suffix(".gone")
    _remove(gone)
    with contextlib.suppress(FileNotFoundError):
        directory.rename(gone)
    _remove(gone)


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        # Or somebody else is removing it as well.
        pass
    except OSError as error:
        raise kept.named(error, directory) from error


def _read(directory: Path) -> Changes | None:
    try:
        said = json.loads((directory / "note.json").read_bytes())
        root = said.get("root")
        place, address, of_map = Path(said["place"]), str(said["address"]), str(said["map"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Changes(place, address, of_map, directory, None if root is None else tuple(root))


def _facts(upper: Path) -> tuple[int, ...]:
    said = upper.lstat()
    return said.st_mode, said.st_uid, said.st_gid, said.st_mtime_ns


def directory_of(place: Path) -> Path:
    """Return where changes of a place are kept, if there are any."""
    return places.changes_dir() / hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
