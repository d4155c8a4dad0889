"""What a command may use: seconds, bytes of memory, bytes of the disk.

Invariant: who uses more is found out within a fraction of a second, at a small part of the machine's time however much
there is to look at. Not here: what is done with it (`sandbox`).
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["DISK", "Watch", "Written"]

DISK = 16 << 30
"""What a builder may write to the disk where nobody says how much."""

# A walk goes on for so long at a time, and so often; the next begins so long after it.
_STEP_S = 0.005
_TICK_S = 0.05
_LOOK_S = 0.2
_ENTRY_BYTES = 4096
"""What anything takes of a disk, empty files and links too: there is room for so many only."""
# The kernel takes no longer path, of 4,095 bytes; a character has 4 at most, and a name 255.
_PATH = 1000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Watch:
    """Says when a command, the process `pid` and all below it, uses more than it may, or nobody wants it any more.

    `until` is when its `timeout_s` are over, but for what it was blocked.
    """

    def __init__(
        self,
        pid: int,
        timeout_s: float | None,
        until: float | None,
        blocked_s: Callable[[], float],
        memory: int | None,
        disk: Written | None,
        cancel: threading.Event,
    ) -> None:
        self._pid = pid
        self._timeout_s = timeout_s
        self._until = until
        self._blocked_s = blocked_s
        self._memory = memory
        self._disk = disk
        self._cancel = cancel
        self.stopped: str | None = None
        self.is_late = False

    def is_over(self) -> bool:
        """Look, and say whether the command is to be ended."""
        if self._cancel.is_set():
            return True
        now_s = time.monotonic()
        if self._until is not None and now_s > self._until and now_s > self._until + self._blocked_s():
            self.stopped = f"it took more than {self._timeout_s:g} s"
            self.is_late = True
        elif self._memory is not None and _memory(self._pid) > self._memory:
            self.stopped = f"it took more than {self._memory:,} bytes of memory"
        elif self._disk is not None and self._disk.is_too_much():
            self.stopped = f"it wrote more than {self._disk.most:,} bytes to the disk"
        return self.stopped is not None


class Written:
    """What lies below a directory, walked through a bit at a time; `most` bytes may."""

    def __init__(self, root: Path, most: int) -> None:
        self.most = most
        self._root = os.fspath(root)
        self._walk = _sizes(self._root)
        self._found = 0
        self._next_s = 0.0

    def is_too_much(self) -> bool:
        """Go on looking, if it is time to; say whether more was found than may be there."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _TICK_S
        for size in self._walk:
            self._found += size
            if self._found > self.most:
                return True
            if time.monotonic() - now_s > _STEP_S:
                return False
        self._walk, self._found = _sizes(self._root), 0
        self._next_s = now_s + _LOOK_S
        return False


def _sizes(root: str) -> Iterator[int]:
    """Yield the bytes on the disk of each thing below a directory, however deep; of what has several names once."""
    todo, known = [root], set[int]()
    while todo:
        path = todo.pop()
        # It went away meanwhile, or is closed to us.
        with contextlib.suppress(OSError), _opened(path) as folder, os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(found.st_mode):
                    todo.append(f"{path}/{entry.name}")
                elif found.st_nlink > 1:
                    if found.st_ino in known:
                        continue
                    known.add(found.st_ino)
                yield max(found.st_blocks * 512, _ENTRY_BYTES)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open a directory by a path of any length, a part of it after the other."""
    folder: int | None = None
    try:
        while path:
            end = len(path) if len(path) <= _PATH else path.rindex("/", 1, _PATH)
            below = os.open(path[:end], _FOLDER, dir_fd=folder)
            if folder is not None:
                os.close(folder)
            folder, path = below, path[end + 1 :]
        assert folder is not None
        yield folder
    finally:
        if folder is not None:
            os.close(folder)


def _memory(pid: int) -> int:
    """Return the bytes of memory that a process and all below it have for themselves."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                told = Path("/proc", entry, "stat").read_bytes()
            except OSError:
                continue
            parents.setdefault(int(told.rpartition(b")")[2].split()[1]), []).append(int(entry))
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        todo += parents.get(one, ())
        try:
            _, resident, shared, *_ = Path("/proc", str(one), "statm").read_bytes().split()
        except (OSError, ValueError):
            continue
        total += (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")
    return total
