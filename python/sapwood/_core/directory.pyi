"""One directory at a time: its digest, and what differs between two."""

from .filemap import Entry, FileMap
from .tree import State

__all__ = ["differing", "directory_digest"]

def directory_digest(
    files: list[tuple[bytes, str, int, bool]],
    directories: list[tuple[bytes, str, int]],
    symlinks: list[tuple[bytes, bytes]],
) -> tuple[str, int]:
    """Return digest and size of the canonical REAPI Directory message with these nodes, given in any order.

    Files are (name, digest, size, whether executable), directories (name, digest, size of the message), symlinks
    (name, target).

    Raises:
        InvalidInputError: a digest that is none.
    """

def differing(
    a: State | FileMap, path_a: bytes, b: State | FileMap, path_b: bytes
) -> list[tuple[Entry | None, Entry | None]]:
    """Return the entries of two directories that are in one only or differ, in the order of their names.

    What cannot be told from the two alone is among them: a hard link, a digest not taken yet. The pages of file maps
    must have been brought.
    """
