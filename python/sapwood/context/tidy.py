"""Keeping the store of contexts small by itself: nobody set it up, so nobody looks after it.

Promise: what a build has used stays for a month, or for a day where the disk is nearly full, and then for the grace of
the store, a day, so that who builds meanwhile has it. It is looked after once a day, whoever builds. Not here: what
collection does (`upkeep`), the process that does it (`cli.far`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time

from sapwood.store.keys import REFS, ref_key, ref_name
from sapwood.store.ref import is_ref_name

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["is_due", "tidy", "used"]

_DAY_S = 24 * 3600.0
_KEPT_S = 30 * _DAY_S
_FREE = 10
"""One of so many bytes of the disk is to be free."""


def used(url: str, refs: Iterable[str]) -> None:
    """Note that refs of the store at `url` are built from now."""
    for ref in filter(is_ref_name, refs):
        with contextlib.suppress(OSError):
            os.utime(os.path.join(url, ref_key(ref)))


def is_due(url: str) -> bool:
    """Say whether nobody has looked after the store for a day."""
    try:
        return time.time() - os.stat(_note(url)).st_mtime > _DAY_S
    except OSError:
        return True


def tidy(url: str) -> None:
    """Remove the refs that nobody has used for long, and collect what nothing names any more, if that is due.

    Raises:
        SapwoodError: as `open_store`, `upkeep.forget.remove`, `upkeep.gc.collect`.
    """
    from pathlib import Path

    from sapwood.errors import NotFoundError
    from sapwood.store import open_store
    from sapwood.store.local import LocalObjects
    from sapwood.upkeep.forget import remove
    from sapwood.upkeep.gc import collect

    with open(os.open(_note(url), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b") as note:
        try:
            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if note.read() and not is_due(url):
            return
        # Before it is done: what fails is not tried again with each build.
        note.seek(0)
        note.write(b"%d\n" % time.time())
        note.flush()
        store = open_store(url)
        place = shutil.disk_usage(url)
        oldest_s = time.time() - (_KEPT_S if place.free > place.total / _FREE else _DAY_S)
        for listed in LocalObjects(Path(url)).listed(REFS):
            name = ref_name(listed.key)
            if name is not None and listed.modified_ns / 1e9 < oldest_s:
                with contextlib.suppress(NotFoundError):  # removed before
                    remove(store, name)
        collect(store)


def _note(url: str) -> str:
    """Return the file that is written when the store is looked after."""
    return f"{url}.tidied"
