"""A directory for what lies on this disk for a while: of the killed it is cleared away by the next.

Invariant: nobody's directory is removed while its process lives, or while a tree is mounted in it. Not here: what is in
it (`oci.staging`; where trees are mounted for a command, `cli.run`), and what a build keeps (`build.scratch`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sapwood.destination import writing
from sapwood.errors import UnavailableError

__all__ = ["scratch"]

# Between being made and being locked nobody takes so long.
_NEW_S = 60.0


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Yield a new directory in that for temporary files, which is removed when the block ends.

    All whose names begin with `prefix` are made here.

    Raises:
        UnavailableError, DeniedError: the disk.
    """
    folder = Path(tempfile.gettempdir())
    _clear(folder, prefix)
    with writing(folder):
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        held = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Where nobody can lock it, nobody takes it for left behind.
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield made
    finally:
        # Who was interrupted may have threads that still write.
        shutil.rmtree(made, ignore_errors=True)
        os.close(held)


def _clear(folder: Path, prefix: str) -> None:
    """Remove those that processes left which are no more."""
    for left in folder.resolve().glob(f"{prefix}*"):
        with contextlib.suppress(OSError, UnavailableError):
            held = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                state = os.fstat(held)
                if state.st_uid == os.geteuid() and time.time() - state.st_mtime > _NEW_S:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not _has_mount(left):
                        shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)


def _has_mount(left: Path) -> bool:
    """Say whether a tree is still mounted in a directory: what is left then is its server's, or `umount`'s."""
    from sapwood.mount.table import is_mounted

    return any(is_mounted(place) for place in left.iterdir())
