"""Working directories: their state, their digest, what changed."""

from collections.abc import Callable
from os import PathLike
from typing import final

from sapwood.digests import TreeDigest
from sapwood.tree.options import Options

from .filemap import Entry

__all__ = ["State", "hash", "status"]

@final
class State:
    """A working directory as it was when hashed. Immutable."""

    @property
    def digest(self) -> TreeDigest:
        """The tree digest."""
    @property
    def size(self) -> int:
        """Bytes of the root Directory message."""
    def lookup(self, path: bytes) -> Entry | None: ...
    def list(self, path: bytes) -> list[Entry]:
        """Return the entries of a directory, sorted by name; none for what is no directory."""

def hash(
    root: str | PathLike[str],
    index: str | PathLike[str] | None,
    options: Options,
    progress: Callable[[int, int, int, int], None] | None = None,
) -> tuple[State, tuple[int, int, int, int, int, int], list[bytes]]:
    """Return the state, (files, directories, symlinks, bytes, files hashed, bytes hashed), and what was skipped.

    Raises:
        DeniedError: `path-denied`; `paths` are all that may not be read.
        UnavailableError: `file-changing`, `io`.
        NotFoundError: `path-missing`.
        InvalidInputError: `not-a-directory`.
    """

def status(
    root: str | PathLike[str],
    index: str | PathLike[str],
    options: Options,
    progress: Callable[[int, int, int, int], None] | None = None,
) -> tuple[list[bytes], list[bytes], list[bytes], list[bytes], bool]:
    """Return what was added, changed, removed since `index` was written, the unreadable, whether there was none."""
