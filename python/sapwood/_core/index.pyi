"""Indexes as such, and working directories looked at in part. Paths within a tree are bytes, the root's is empty."""

from collections.abc import Callable
from os import PathLike
from typing import Any, final

from sapwood.tree.options import Options

from .filemap import Entry

__all__ = ["Live", "adopt", "describe", "file_ids", "is_valid_format", "verify"]

@final
class Live:
    """A working directory that is looked at only where somebody looks."""

    def __new__(
        cls,
        root: str | PathLike[str],
        index: str | PathLike[str] | None,
        options: Options,
        progress: Callable[[int, int, int, int], None] | None = None,
    ) -> Live: ...
    def root(self) -> Entry:
        """Return the root's entry, whose digest may not be known."""
    def recorded(self, path: bytes) -> list[Entry] | None:
        """Return the entries of a directory as they were when it was looked at last."""
    def list(self, path: bytes, progress: Callable[[int, int, int, int], None] | None = None) -> list[Entry] | None:
        """Look at a directory and return its entries, files with their digests; None when there is none.

        The digests of directories are not known.
        """
    def digest(self, progress: Callable[[int, int, int, int], None] | None) -> tuple[str, int] | None:
        """Look at everything and return the tree digest and the size of its message."""

def adopt(
    root: str | PathLike[str],
    path: str | PathLike[str],
    given: list[tuple[bytes, int, tuple[str, int] | None, bytes]],
    options: Options,
) -> None:
    """Make the index at `path` that of a tree: path, mode with type, digest and size of a file, target of a symlink.

    Raises:
        NotFoundError: `path-missing`; `paths` are all that do not exist as the tree has them.
    """

def verify(path: str | PathLike[str], threads: int) -> tuple[int, list[str]]:
    """Return how many records an index has, and what is wrong with it."""

def is_valid_format(path: str | PathLike[str], threads: int) -> bool: ...
def file_ids(path: str | PathLike[str], threads: int) -> list[tuple[bytes, str, int, int]]:
    """Return path, type, device and inode of each record but the root's."""

def describe(root: str | PathLike[str], path: str | PathLike[str], name: bytes, threads: int) -> dict[str, Any] | None:
    """Return what the record of `name` says, by field, and under `differs` what the disk says otherwise."""
