"""A directory for what lies on this disk for a while: of the killed it is cleared away by the next.

Invariant: nobody's directory is removed while its process lives. Not here: what is in it (`staging`).
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

__all__ = ["PREFIX", "scratch"]

PREFIX = "sapwood-image-"
# Between being made and being locked nobody takes so long.
_NEW_S = 60.0


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new directory in that for temporary files, which is removed when the block ends.

    Raises:
        UnavailableError, DeniedError: the disk.
    """
    folder = Path(tempfile.gettempdir())
    _clear(folder)
    with writing(folder):
        made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        held = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield made
    finally:
        # Who was interrupted may have threads that still write.
        shutil.rmtree(made, ignore_errors=True)
        os.close(held)


def _clear(folder: Path) -> None:
    """Remove those that processes left which are no more."""
    for left in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            held = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                state = os.fstat(held)
                if state.st_uid == os.geteuid() and time.time() - state.st_mtime > _NEW_S:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)
