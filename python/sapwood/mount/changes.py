"""What was changed in writable mounts: kept by the place that it was changed at, until somebody throws it away.

Invariant: changes are only ever laid over the very tree that they were made in, by one mount at a time, and nothing but
`discard` removes what somebody changed. Nothing is removed under those who still use a mount that was ended: without
its upper layer they would see empty directories instead of errors. Who begins or ends changes has the claim to them,
which holder and server of a mount inherit. What was never changed leaves nothing. Layout: docs/writable.md. Not here:
the overlay (the core).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapwood import places
from sapwood.errors import ConflictError, CorruptError, InvalidInputError, UnavailableError
from sapwood.mount.locked import lock
from sapwood.mount.table import is_mounted, require_unmounted
from sapwood.mount.users import users
from sapwood.store import kept
from sapwood.store.address import Address
from sapwood.store.naming import without_query

__all__ = [
    "Changes",
    "all_changes",
    "are_kept",
    "begin",
    "changes_at",
    "claim",
    "directory_of",
    "discard",
    "end",
    "end_claimed",
    "note_root",
    "note_users",
    "release",
    "untold_changes",
]

_USERS = Path("/proc/self/uid_map")
_ALL_USERS = ["0", "0", "4294967295"]

# A server whose mount was taken away, and that nobody uses, ends in less; and if not, it ends what is kept by itself.
_PATIENCE_S = 2.0
_DISCARD_PATIENCE_S = 10.0
_TICK_S = 0.01
# In the directory of changes: the processes that used the mount when it was ended.
_USED = "used"


@dataclass(frozen=True)
class Changes:
    """Changes of the tree `address`, made at `place`, with the digest of its file map; kept in `directory`."""

    place: Path
    address: str
    map: str
    directory: Path
    _root: list[int | str] | None

    @property
    def upper(self) -> Path:
        """The upper layer of the overlay."""
        return self.directory / "upper"

    @property
    def is_empty(self) -> bool:
        """Whether nothing was changed."""
        try:
            return _is_bare(self.upper) and self._root in (None, _facts(self.upper))
        except FileNotFoundError:
            return True


def claim(place: Path, patience_s: float = 0.0) -> int:
    """Return a descriptor: while it or a copy is open, nobody else mounts changes of a place, or throws them away.

    Raises:
        InvalidInputError: `bad-mount-point`: a mount is there.
        UnavailableError: `changes-in-use`: somebody else has it, also after so many seconds.
        UnavailableError, DeniedError: the disk.
    """
    until = time.monotonic() + patience_s
    while True:
        if (claimed := lock(_lock(place))) is not None:
            return claimed
        require_unmounted(place)
        if time.monotonic() >= until:
            raise UnavailableError(
                f"{place}: its changes are in use, by a mount that is being made, or was taken away under its users,"
                " or is seen in another namespace",
                kind="changes-in-use",
                hint="try again when they have ended, or mount at another place, which has changes of its own",
            )
        time.sleep(_TICK_S)


def release(place: Path, claimed: int) -> None:
    """Give the claim to a place back, and leave nothing if nothing is kept of it."""
    if not are_kept(place):
        _lock(place).unlink(missing_ok=True)
    os.close(claimed)


def begin(place: Path, address: str, heritage: dict[str, Any]) -> Path:
    """Return the directory for the changes of a mount that is to be made of what `heritage` tells.

    Raises:
        ConflictError: `changes-of-another`: there are changes of another tree at this place.
        CorruptError: `changes-unreadable`: there are changes, and nothing tells of which tree.
        UnavailableError: `mount-failed`: we are root of a namespace of users only.
        UnavailableError, DeniedError: the disk.
    """
    # An overlay there notes what was renamed or replaced in other attributes, or not at all: nothing could store it.
    if os.geteuid() == 0 and _USERS.read_text().split() != _ALL_USERS:
        raise UnavailableError(
            f"{place}: only the machine's root can make a mount that takes changes, not that of a namespace of users",
            kind="mount-failed",
            hint="mount it without --writable, and overlay it there",
        )
    _sweep()
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
        # Of an earlier mount, which nobody uses: else somebody had the claim.
        (directory / _USED).unlink(missing_ok=True)
        return directory
    if found is None and not _is_bare(directory / "upper"):
        raise CorruptError(
            f"{place}: nothing tells of which tree the changes in {directory} are: its note.json cannot be read",
            kind="changes-unreadable",
            hint=f"keep what is in {shlex.quote(os.fspath(directory / 'upper'))};"
            f" then throw it away: sapwood umount --discard {shlex.quote(os.fspath(place))}",
        )
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
        _write_note(made, said)
        made.rename(directory)
        _sync(directory.parent)
    except OSError as error:
        raise kept.named(error, made) from error
    return directory


def note_root(place: Path) -> None:
    """Note what the root is while nothing was changed, so that a change of the root itself is seen."""
    directory = directory_of(place)
    if (found := changes_at(place)) and found._root is None and found.is_empty:
        said = json.loads((directory / "note.json").read_bytes())
        try:
            _write_note(directory, said | {"root": _facts(found.upper)})
        except OSError as error:
            raise kept.named(error, directory) from error


def changes_at(place: Path) -> Changes | None:
    """Return the changes that are kept of a place, if any were begun."""
    return _read(directory_of(place))


def note_users(place: Path) -> None:
    """Note who uses a mount that takes changes, and that is about to be taken away under them."""
    directory = directory_of(place)
    if directory.exists() and (found := users(place)):
        with contextlib.suppress(OSError):  # of a full disk: then they see empty directories
            (directory / _USED).write_text(" ".join(str(pid) for pid, _ in found))


def all_changes() -> list[Changes]:
    """Return all changes that are kept, sorted by place, but for those that change nothing."""
    try:
        names = os.listdir(places.changes_dir())
    except OSError:
        return []
    found = [_read(places.changes_dir() / name) for name in names if "." not in name]
    return sorted((one for one in found if one and not one.is_empty), key=lambda one: one.place)


def untold_changes() -> list[Path]:
    """Return the directories of changes of which nothing tells at which place they were made, nor in which tree."""
    try:
        names = os.listdir(places.changes_dir())
    except OSError:
        return []
    directories = [places.changes_dir() / name for name in sorted(names) if "." not in name]
    return [one for one in directories if _read(one) is None and not _is_bare(one / "upper")]


def are_kept(place: Path) -> bool:
    """Say whether changes of a place were begun, though they cannot be read."""
    return directory_of(place).exists()


def end(place: Path, *, discarding: bool = False, is_used: bool = False) -> None:
    """Remove what is kept of a place, unless it is mounted: if nothing was changed, or with `discarding` in any case.

    Of a mount that was just taken away the server is waited for. If it still `is_used`, the server does this at its
    end.

    Raises:
        UnavailableError: `changes-in-use`: they are to be thrown away, and still are used.
        UnavailableError, DeniedError: the disk.
    """
    if is_mounted(place) or not (are_kept(place) or _lock(place).exists()):
        return
    try:
        claimed = claim(place, _DISCARD_PATIENCE_S if discarding else 0.0 if is_used else _PATIENCE_S)
    except (UnavailableError, InvalidInputError) as error:
        if discarding or error.kind not in ("changes-in-use", "bad-mount-point"):
            raise
        return
    try:
        end_claimed(place, discarding=discarding)
    finally:
        release(place, claimed)


def end_claimed(place: Path, *, discarding: bool = False) -> None:
    """Do what `end` does, as one of those who have the claim, and end soon.

    Raises:
        UnavailableError, DeniedError: the disk.
    """
    if is_mounted(place):
        return
    found = changes_at(place)
    _sweep()
    if discarding or (found and found.is_empty):
        if _is_used(directory_of(place)):
            _set_aside(place)
        else:
            discard(place)
    if not are_kept(place):
        _lock(place).unlink(missing_ok=True)


def discard(place: Path) -> None:
    """Throw the changes of a place away; it must not be mounted, and who does this has the claim.

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


def _set_aside(place: Path) -> None:
    """Let the changes of a place be nobody's any more, but there until those have ended who use them."""
    directory = directory_of(place)
    try:
        directory.rename(directory.with_suffix(f".{time.time_ns():x}.gone"))
    except OSError as error:
        raise kept.named(error, directory) from error


def _is_used(directory: Path) -> bool:
    """Whether any of those lives who used a mount when it was ended."""
    try:
        return any(Path(f"/proc/{pid}").exists() for pid in (directory / _USED).read_text().split())
    except (OSError, ValueError):
        return False


def _sweep() -> None:
    """Remove what is nobody's changes any more, and used no more."""
    for gone in places.changes_dir().glob("*.gone"):
        if not _is_used(gone):
            _remove(gone)


def _remove(directory: Path) -> None:
    import shutil

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
        place, address, of_map = Path(said["place"]), str(said["address"]), str(said["map"])
        root = said.get("root")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Changes(place, address, of_map, directory, root)


def _write_note(directory: Path, said: dict[str, Any]) -> None:
    """Write it so that no power cut leaves changes without."""
    temporary = directory / ".note.tmp"
    with open(temporary, "wb") as file:
        file.write(json.dumps(said).encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / "note.json")
    _sync(directory)


def _sync(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _is_bare(upper: Path) -> bool:
    """Whether nothing lies in an upper layer: its root may be changed."""
    try:
        return not os.listdir(upper)
    except FileNotFoundError:
        return True


def _facts(upper: Path) -> list[int | str]:
    """What is told of the root of an upper layer, apart from what the overlay notes there for itself."""
    said, attributes = upper.lstat(), hashlib.sha256()
    for name in sorted(name for name in os.listxattr(upper) if not name.startswith("trusted.overlay.")):
        value = os.getxattr(upper, name)
        attributes.update(f"{len(os.fsencode(name))} {len(value)} ".encode() + os.fsencode(name) + value)
    return [said.st_mode, said.st_uid, said.st_gid, said.st_mtime_ns, attributes.hexdigest()]


def _lock(place: Path) -> Path:
    return directory_of(place).with_suffix(".lock")


def directory_of(place: Path) -> Path:
    """Return where changes of a place are kept, if there are any."""
    return places.changes_dir() / hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
