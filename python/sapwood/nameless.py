"""Files that have no name until they are whole: of a writer that is killed meanwhile nothing is left.

Not here: what is done where a file system, or a kernel, knows no such files.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["give_name", "open_nameless"]

# What those say.
_UNKNOWN = {errno.EOPNOTSUPP, errno.EISDIR}


def open_nameless(folder: str | Path, flags: int, mode: int) -> int | None:
    """Open a new file that will have its name in the file system of `folder`; None where that must be at once.

    Raises:
        OSError: it cannot be made for another reason.
    """
    if not os.path.isdir("/proc/self/fd"):  # by which alone a file is named later
        return None
    try:
        return os.open(folder, flags | os.O_TMPFILE | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in _UNKNOWN:
            return None
        raise


def give_name(file: int, path: str | Path) -> None:
    """Name an open file that has no name; OSError if something is there already."""
    # With a folder, which an absolute path does not need, Python asks for the link to be followed.
    os.link(f"/proc/self/fd/{file}", path, src_dir_fd=file, follow_symlinks=True)
