"""Small files that this machine keeps for itself, and may lose.

Invariant: a file is whole or not there; it is not synced, so whoever reads one proves it. Not here: what is in them.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sapwood.errors import SapwoodError
from sapwood.store import faults

__all__ = ["named", "read", "write"]


def read(path: Path) -> bytes:
    """Return what is kept at `path`.

    Raises:
        FileNotFoundError: nothing is.
        UnavailableError, DeniedError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise named(error, path) from error


def write(path: Path, data: bytes) -> None:
    """Keep `data` at `path`.

    Raises:
        UnavailableError: `disk-full`, or it cannot be written.
    """
    temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException as error:  # Ctrl-C as well: nothing half-made stays
        with contextlib.suppress(OSError):  # not even that, on a disk that can only be read
            temporary.unlink()
        if isinstance(error, OSError):
            raise named(error, path) from error
        raise


def named(error: OSError, path: Path) -> SapwoodError:
    """Return what the system says of `path` as an error of ours."""
    return faults.from_os_error(error, str(path.parent), path.name)
