"""A store in a directory of a local or shared file system.

Invariant: a file under its final name is complete and durable: written without a name, synced, named in `tmp/`,
renamed, its directory synced (tests/faults/test_local_store.py traces the calls). What is swapped changes only under an
exclusive lock on `refs.lock`. Of a writer that is killed while it writes nothing is left: the kernel takes away what
has no name. Killed between naming and renaming, or on a file system where every file has a name, it leaves at most a
file in `tmp/`, which a later writer sweeps away after a day.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sapwood.errors import DeniedError, NotFoundError, UnavailableError
from sapwood.nameless import give_name, open_nameless
from sapwood.store import faults
from sapwood.store.base import LARGEST_OBJECT, Listed, Version
from sapwood.store.requests import Requests

__all__ = ["LocalObjects", "version_of"]

_TEMPORARY = "tmp"
_LOCK = "refs.lock"
_OURS = re.compile(r"\d+-[0-9a-f]{16}\Z")
_LOCK_PATIENCE_S = 30.0
_STALE_S = 24 * 3600.0


class LocalObjects:
    """Objects as files below `root`; see `base.CollectObjects` for each method's promise."""

    def __init__(self, root: Path) -> None:
        self.requests = Requests()
        self._root = Path(os.path.abspath(root))
        # Folders whose own names this process knows to be durable: synced once, not with every object.
        self._rooted: set[Path] = set()
        self._swept = False
        self._guard = threading.Lock()

    @property
    def url(self) -> str:
        return str(self._root)

    def get(self, key: str) -> bytes:
        with self._opened(key) as file:
            size = os.fstat(file).st_size
            if size > LARGEST_OBJECT:
                raise faults.too_large(self.url, key, size)
            return self._read(file, key, 0, size)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self.get_ranges(key, [(offset, length)])[0]

    def get_ranges(self, key: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        for offset, length in ranges:
            faults.check_range(self.url, key, offset, length)
        if not any(length for _, length in ranges):
            return [b""] * len(ranges)
        with self._opened(key) as file:
            # The size is asked for first: a damaged map may ask for more than memory holds.
            size = os.fstat(file).st_size
            for offset, length in ranges:
                if length and offset + length > size:
                    raise faults.too_short(self.url, key, size, offset, length)
            return [self._read(file, key, offset, length) for offset, length in ranges]

    def reconnect(self) -> None:
        """Do nothing: there are no connections."""

    def list(self, prefix: str) -> list[str]:
        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise faults.from_os_error(error, self.url, prefix)

        self.requests.count("list")
        keys = []
        for folder, _, names in os.walk(self._root / prefix, onerror=refuse):
            below = Path(folder).relative_to(self._root).as_posix()
            keys += [f"{below}/{name}" for name in names]
        return sorted(keys)

    def listed(self, prefix: str) -> builtins.list[Listed]:
        found = []
        for key in self.list(prefix):
            with contextlib.suppress(NotFoundError), self._naming(key):  # deleted since it was listed
                seen = os.stat(self._root / key)
                found.append(Listed(key, seen.st_size, seen.st_mtime_ns))
        return found

    def delete(self, key: str) -> None:
        self.requests.count("delete")
        # Not synced: what returns with the power is deleted again by the next collection.
        with contextlib.suppress(NotFoundError), self._naming(key):
            os.unlink(self._root / key)

    def exists(self, key: str) -> bool:
        self.requests.count("head")
        try:
            return (self._root / key).is_file()
        except OSError as error:
            raise faults.from_os_error(error, self.url, key) from error

    def read_versioned(self, key: str) -> tuple[bytes, Version]:
        data = self.get(key)
        return data, version_of(data)

    def put(self, key: str, data: bytes | memoryview) -> None:
        self.requests.count("put")
        with self._naming(key):
            final = self._root / key
            self._root_folder(final.parent)
            # A file of the right size is whole, for only whole ones get a name; any other size is damage, healed here.
            # That it was put now must show: collection goes by it. Of somebody else's file it cannot; that is replaced.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                if final.stat().st_size == len(data):
                    os.utime(final)
                    _sync_folder(final.parent)
                    return
            self._place(final, data)

    def swap(self, key: str, data: bytes, expect: Version | None) -> Version:
        self.requests.count("put")
        with self._naming(key):
            final = self._root / key
            self._root_folder(self._root)
            with self._locked(key):
                try:
                    current = version_of(final.read_bytes())
                except FileNotFoundError:
                    current = None
                if current != expect:
                    raise faults.changed(self.url, key)
                self._root_folder(final.parent)
                self._place(final, data)
        return version_of(data)

    def limit_writes(self, grace_s: float) -> None:
        """Nothing to do: a disk has no requests that are given up and take effect all the same."""

    def is_empty(self) -> bool:
        self.requests.count("list")
        with self._naming("."):
            try:
                names = set(os.listdir(self._root))
                # What somebody who makes a store here leaves when killed, or has just made: nothing of another's.
                return names <= {_TEMPORARY, _LOCK} and all(map(_OURS.match, _listed(self._root / _TEMPORARY)))
            except FileNotFoundError:
                return True
            except NotADirectoryError:
                return False

    def _place(self, final: Path, data: bytes | memoryview) -> None:
        """Write, sync, rename, sync: in this order, so that no name is ever seen without its bytes."""
        folder = self._root / _TEMPORARY
        self._root_folder(folder)
        self._sweep(folder)
        temporary = folder / f"{os.getpid()}-{os.urandom(8).hex()}"
        try:
            file, has_name = _created(temporary)
            try:
                remaining = memoryview(data)
                while remaining:
                    remaining = remaining[os.write(file, remaining) :]
                os.fsync(file)
                if not has_name:
                    give_name(file, temporary)
            finally:
                os.close(file)
            os.rename(temporary, final)
        except BaseException:  # Ctrl-C as well: nothing half-made stays
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(final.parent)

    def _root_folder(self, folder: Path) -> None:
        """Make a folder that survives power loss, with those above it to the root and, above that, what is missing."""
        if folder in self._rooted:
            return
        if self._root in folder.parents or not folder.parent.is_dir():
            self._root_folder(folder.parent)
        found = folder.is_dir()
        if not found:
            try:
                folder.mkdir(exist_ok=True)
            except FileNotFoundError as error:  # some file systems, such as /proc, say so
                raise DeniedError(
                    f"{self.url}: the directory {folder} cannot be made",
                    kind="store-denied",
                    hint=f"ls -ld {folder.parent}",
                    store=self.url,
                ) from error
        try:
            # Even of one that was there: whoever made it may have been killed before this.
            _sync_folder(folder.parent)
        except PermissionError:
            # A root may stand in a folder that we cannot read; then whoever made the root answers for it.
            if not found:
                raise
        self._rooted.add(folder)

    def _sweep(self, folder: Path) -> None:
        """Remove, once, what killed writers left; nobody writes one object for a day."""
        with self._guard:
            if self._swept:
                return
            self._swept = True
        oldest = time.time() - _STALE_S
        for left in filter(_OURS.match, _listed(folder)):
            with contextlib.suppress(FileNotFoundError, PermissionError):
                if (folder / left).stat().st_mtime < oldest:
                    (folder / left).unlink()

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold the lock on refs; the kernel frees it when its holder dies."""
        file = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            deadline = time.monotonic() + _LOCK_PATIENCE_S
            pause = 0.001
            # Asking again instead of waiting in the kernel: a stopped holder must not stop us, nor keep Ctrl-C from us.
            while not _lock(file):
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"{self.url}: another process holds {_LOCK} for more than {_LOCK_PATIENCE_S:.0f} s",
                        kind="ref-locked",
                        hint=f"fuser -v {self.url}/{_LOCK}",
                        store=self.url,
                        key=key,
                    )
                time.sleep(pause)
                pause = min(2 * pause, 0.05)
            yield
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _naming(self, key: str) -> Iterator[None]:
        """Turn what the operating system says into our errors."""
        try:
            yield
        except OSError as error:
            raise faults.from_os_error(error, self.url, key) from error

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        self.requests.count("get")
        with self._naming(key):
            file = os.open(self._root / key, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield file
            finally:
                os.close(file)

    def _read(self, file: int, key: str, offset: int, length: int) -> bytes:
        data = os.pread(file, length, offset)
        while len(data) < length:  # a signal, or a file system that gives less
            more = os.pread(file, length - len(data), offset + len(data))
            if not more:
                raise faults.truncated(self.url, key, len(data), length)
            data += more
        return data


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _created(path: Path) -> tuple[int, bool]:
    """Open a new file to be named `path`, and say whether it has this name already, as not every place can do without.

    Nobody may write it, as far as the user's umask lets others read it at all.
    """
    file = open_nameless(path.parent, os.O_WRONLY, 0o444)
    if file is not None:
        return file, False
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444), True


def version_of(data: bytes) -> Version:
    return Version(hashlib.sha256(data).hexdigest())


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
