"""Which trees are mounted where.

Invariant: the kernel's table decides what is mounted; the notes beside the logs only say what and by whom.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sapwood import places
from sapwood._core import mount as core
from sapwood.errors import InvalidInputError, UnavailableError
from sapwood.mount.locked import lock
from sapwood.mount.users import users
from sapwood.store import kept

__all__ = [
    "Mount",
    "alone_at",
    "blocked_s",
    "forget",
    "is_mounted",
    "log_path",
    "lost",
    "map_path",
    "mounts",
    "noted",
    "pin_path",
    "place_of",
    "record",
    "record_path",
    "require_unmounted",
    "restart",
    "unmount",
]

# A server that lives answers this from memory.
_PATIENCE_S = 2.0
_TICK_S = 0.01
# Who asks about a mount and holds nothing of it is through in less; so often it is tried again.
_ASKED_ABOUT_S = 2.0
_ASK_AGAIN_S = 0.05
# One that has taken over notes it within that.
_NOTED_S = 10.0
# Of those who use a mount.
_NAMED = 5
# As many links in a row as the kernel follows.
_MOST_LINKS = 40


@dataclass(frozen=True)
class Mount:
    """A mount of this machine. `address` and the process ids are empty and 0 when another user made it.

    A polite signal to `pid`, its holder, ends it; `server` serves it now. Without a holder both are the server; both
    are 0 too of a mount that needs none.
    """

    path: Path
    address: str
    pid: int
    server: int
    problem: str = ""
    """Why reads of what is not in the cache wait or fail now."""
    away: str = ""
    """Why the store was not asked what the address names, and what is mounted instead; empty when it was."""
    snapshot: str = ""
    """Digest of the snapshot that is mounted; empty of an archive."""
    asked: int | None = None
    """When the store was last asked what the address names, seconds since 1970; None when it was for this mount."""
    image: bool = False
    """Whether its snapshot was pushed as an image."""
    bytes: int | None = None
    """Of all files."""
    lacking: int | None = None
    """Of these, how many are not in the cache; None while that is not known."""
    whole: bool = True
    """Whether all of it is fetched by and by, as far as the server knows."""
    map: str = ""
    """Digest of the file map of what is mounted, and of one in a store the bytes of its text."""
    map_size: int | None = None
    changes: Path | None = None
    """Where what is changed in it is kept; None if it takes no changes."""

    @property
    def alive(self) -> bool:
        """Whether it is served, or will be again."""
        if not self.pid:
            return _answers(self.path)
        return self.is_held or _runs(self.server)

    @property
    def is_held(self) -> bool:
        """Whether another server takes over when this one dies."""
        return self.pid != self.server and _runs(self.pid)


def _answers(place: Path) -> bool:
    """Ask a mount of somebody else's; one whose server hangs never says anything."""
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError):
            os.statvfs(place)
            answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE_S)
    return answered.is_set()


def _runs(pid: int) -> bool:
    # One that nobody has waited for yet is dead all the same.
    return _state(pid)[0] not in ("", "Z")


def _parent(pid: int) -> int:
    return int(_state(pid)[1])


def _state(pid: int) -> list[str]:
    """Return state and parent of a process; no state, and 0, when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
    except OSError:
        return ["", "0"]


def place_of(place: str | os.PathLike[str]) -> Path:
    """Return a mount point as the kernel names it; the mount itself is asked nothing, for its server may be dead.

    All that is kept of a mount or its changes is kept by this name: below, a place is always named so.
    """
    path = os.fspath(place)
    for _ in range(_MOST_LINKS):
        path = path.rstrip("/") or "/"
        try:
            # To read what is no link is refused by the kernel alone.
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            break
    parent, name = os.path.split(path)
    return Path(os.path.realpath(path)) if name in ("", ".", "..") else Path(os.path.realpath(parent), name)


def is_mounted(place: Path) -> bool:
    """Say whether a mount of ours is at a place; asks nothing of the mount itself."""
    return os.fsencode(place) in core.mounts()


def require_unmounted(place: Path) -> None:
    """Raise `bad-mount-point` if a mount of ours is at a place."""
    if is_mounted(place):
        name = shlex.quote(os.fspath(place))
        raise InvalidInputError(f"{place}: is already a mount", kind="bad-mount-point", hint=f"sapwood umount {name}")


@contextlib.contextmanager
def alone_at(cache_dir: Path, place: Path) -> Iterator[None]:
    """Make a mount at a place at which none is, and while this is entered no other one of this cache can be begun.

    Raises:
        InvalidInputError: `bad-mount-point`: a mount is there, or is being made; nothing was touched.
        UnavailableError, DeniedError: the disk.
    """
    require_unmounted(place)
    path = _beside(cache_dir, place, "lock")
    if (locked := lock(path)) is None:
        raise InvalidInputError(
            f"{place}: another mount is being made there", kind="bad-mount-point", hint="sapwood mounts"
        )
    try:
        # Another one may have been made before we had it.
        require_unmounted(place)
        yield
    finally:
        with contextlib.suppress(OSError):  # one that stays is taken by whoever comes next
            path.unlink()
        os.close(locked)


def mounts(cache_dir: Path | None = None) -> list[Mount]:
    """Return all mounts, sorted by path."""
    found = []
    for raw in core.mounts():
        path = Path(os.fsdecode(raw))
        note = _read(_note(cache_dir or places.cache_dir(), path))
        found.append(_mount(path, note))
    return sorted(found, key=lambda mount: mount.path)


def _mount(path: Path, note: dict[str, object]) -> Mount:
    def text(name: str) -> str:
        return str(note.get(name) or "")

    def number(name: str) -> int | None:
        found = note.get(name)
        return found if isinstance(found, int) else None

    server = number("server") or 0
    return Mount(
        path,
        text("address"),
        number("holder") or server,
        server,
        problem=text("problem"),
        away=text("away"),
        snapshot=text("snapshot"),
        asked=number("asked"),
        image=note.get("image") is True,
        bytes=number("bytes"),
        lacking=number("lacking"),
        whole=note.get("whole") is not False,
        map=text("map"),
        map_size=number("map_size"),
        changes=Path(text("changes")) if text("changes") else None,
    )


def unmount(place: str | os.PathLike[str], *, lazy: bool = False, cache_dir: Path | None = None) -> None:
    """Unmount `place`, also when its server is gone; `lazy`, also when somebody uses it: they get errors from then on.

    Raises:
        InvalidInputError: `bad-mount-point`: it is no mount, or not one of ours.
        UnavailableError: `mount-busy`: it is in use, of users that cannot be seen for two seconds; `mount-failed`.
    """
    path = place_of(place)
    if lazy:
        core.unmount(path, True)
    else:
        _unmount_unused(path)
    forget(cache_dir or places.cache_dir(), path)


def _unmount_unused(path: Path) -> None:
    """Unmount what nobody uses: who only asks about it, as `df` and we do ourselves, is nowhere seen and soon away."""
    until = time.monotonic() + _ASKED_ABOUT_S
    while True:
        try:
            return core.unmount(path, False)
        except UnavailableError as error:
            if error.kind != "mount-busy":
                raise
            if found := users(path):
                raise _busy(path, found) from error
            if time.monotonic() >= until:
                raise
        time.sleep(_ASK_AGAIN_S)
        if not is_mounted(path):  # somebody else has taken it away
            return None


def _busy(path: Path, found: list[tuple[int, str]]) -> UnavailableError:
    named = ", ".join(f"{name} ({pid})" for pid, name in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return UnavailableError(
        f"{path}: is in use by {named}{more}",
        kind="mount-busy",
        hint=f"end them, or let them have errors: sapwood umount --lazy {shlex.quote(os.fspath(path))}",
    )


def restart(mount: Mount) -> None:
    """Let a server of the program as it is now installed take over; readers wait meanwhile. Return when it serves.

    Raises:
        UnavailableError: `mount-unheld`: nothing would take over; `mount-died`: none could.
    """
    if not mount.is_held:
        raise UnavailableError(
            f"{mount.path}: nobody holds it, so nobody would take over from its server",
            kind="mount-unheld",
            hint=f"sapwood umount {mount.path}, and mount it again",
        )
    # To be killed is a server's usual end, and works with one that hangs.
    with contextlib.suppress(ProcessLookupError):  # it has just died by itself
        server = os.pidfd_open(mount.server)
        try:
            if _parent(mount.server) == mount.pid:
                signal.pidfd_send_signal(server, signal.SIGKILL)
                select.select([server], [], [])
        finally:
            os.close(server)
    try:
        os.statvfs(mount.path)  # answered by the next one
    except OSError as error:
        raise UnavailableError(
            f"{mount.path}: no other server could take over: {error.strerror}", kind="mount-died"
        ) from error
    # The native tier answered that by itself. On a full disk nothing is noted.
    until = time.monotonic() + _NOTED_S
    note = _note(places.cache_dir(), mount.path)
    while _runs(mount.pid) and _read(note).get("server") == mount.server and time.monotonic() < until:
        time.sleep(_TICK_S)


def record(cache_dir: Path, place: Path, address: str, holder: int | None, more: dict[str, object]) -> None:
    """Note that this process serves `address` at `place`, for the process `holder` if there is one, and `more`."""
    note = _note(cache_dir, place)
    said = {"place": os.fsdecode(place), "address": address, "holder": holder, "server": os.getpid(), **more}
    # Whole or not at all: who reads it may do so while a server takes over.
    kept.write(note, json.dumps(said).encode())


def noted(cache_dir: Path, place: Path) -> tuple[int, int]:
    """Return holder and server of the mount at `place`, as noted; 0 of one that it has not, or is not known."""
    said = _mount(place, _read(_note(cache_dir, place)))
    return (0 if said.pid == said.server else said.pid), said.server


def blocked_s(cache_dir: Path, place: Path) -> float:
    """Return the seconds, rounded up, that readers of a mount have waited for what was not here, as noted."""
    said = _read(_note(cache_dir, place)).get("blocked_s")
    return float(said) if isinstance(said, int) else 0.0


def lost(cache_dir: Path, place: Path) -> str:
    """Return why a read of a mount has ended in EIO, as noted; empty if none has."""
    return str(_read(_note(cache_dir, place)).get("lost") or "")


def forget(cache_dir: Path, place: Path, server: int | None = None) -> None:
    """Remove what is noted of `place`, and its file map; with `server`, only if it is that server's."""
    if server is not None and _read(_note(cache_dir, place)).get("server") != server:
        return
    for name in (_note, map_path, record_path, pin_path):
        with contextlib.suppress(OSError):
            name(cache_dir, place).unlink()


def map_path(cache_dir: Path, place: Path) -> Path:
    """Return where the file map of what is mounted at `place` is kept, as it lies in its store."""
    return _beside(cache_dir, place, "map")


def record_path(cache_dir: Path, place: Path) -> Path:
    """Return where is written down what is open of the mount at `place`, for a successor of its server."""
    return _beside(cache_dir, place, "open")


def pin_path(cache_dir: Path, place: Path) -> Path:
    """Return where is written down what the cache must keep for a mount at `place` that nobody serves."""
    return _beside(cache_dir, place, "pin")


def log_path(cache_dir: Path, place: Path) -> Path:
    """Return where the server of a mount at `place` writes what it has to say."""
    return _beside(cache_dir, place, "log")


def _note(cache_dir: Path, place: Path) -> Path:
    return _beside(cache_dir, place, "json")


def _beside(cache_dir: Path, place: Path, what: str) -> Path:
    return cache_dir / "mounts" / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}.{what}"


def _read(note: Path) -> dict[str, object]:
    try:
        data = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
