"""Who uses a mount: processes that work in it, or have something of it open or mapped.

Promise: the mount itself is asked nothing, for its server may be dead; other users' processes may stay unseen.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["users"]


def users(place: Path) -> list[tuple[int, str]]:
    """Return process id and name of whoever uses the mount at `place`, an absolute path without links."""
    inside = os.fsencode(place)
    found = list[tuple[int, str]]()
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        if any(path == inside or path.startswith(inside + b"/") for path in _used(f"/proc/{name}")):
            with contextlib.suppress(OSError):
                found.append((int(name), Path(f"/proc/{name}/comm").read_text(errors="backslashreplace").strip()))
    return found


def _used(process: str) -> Iterator[bytes]:
    """Yield the paths that a process works in, runs, has open or mapped."""
    with contextlib.suppress(OSError):
        for link in ("cwd", "root", "exe"):
            yield os.readlink(os.fsencode(f"{process}/{link}"))
        for number in os.listdir(f"{process}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                yield os.readlink(os.fsencode(f"{process}/fd/{number}"))
        for line in Path(f"{process}/maps").read_bytes().splitlines():
            yield line.split(maxsplit=5)[-1]
