"""A server asked by path, for a library that mounts."""

from collections.abc import Callable
from typing import final

from .mount import Server

__all__ = ["Direct", "is_asked_to_end"]

@final
class Direct:
    """Questions to a server that was made with `by_library`. Each waits for what it lacks, without the GIL.

    Every method raises `OSError` with the error number that the kernel is to get: EIO when what it waited for will not
    come, EINTR when whoever asked has given up.
    """

    def __new__(cls, server: Server, gives_up: Callable[[], bool]) -> Direct:
        """`gives_up` is called in the thread that waits, about twenty times a second; what it raises comes out."""
    def attributes(self, path: bytes) -> tuple[int, int, int, int, int, int, int, int, int]:
        """Return inode, size, blocks of 512 bytes, mtime in ns, mode, links, uid, gid, and device of an entry."""
    def lines(self, path: bytes, place: int) -> list[tuple[bytes, int, int, int]]:
        """Return lines of a directory from `place` on, at first 0: name, inode, type as a mode, place of the next.

        As many as fit 4 KiB; none at the end.
        """
    def target(self, path: bytes) -> bytes:
        """Return what a symlink says."""
    def read(self, path: bytes, offset: int, size: int) -> bytes:
        """Return bytes of a regular file; fewer only at its end, or where `size` is more than 1 MiB."""
    def xattr(self, path: bytes, name: bytes) -> bytes:
        """Return the value of an extended attribute."""
    def xattr_names(self, path: bytes) -> list[bytes]:
        """Return the names of the extended attributes."""
    def room(self) -> tuple[int, int]:
        """Return the blocks of 4096 bytes, and the entries, of the whole tree."""

def is_asked_to_end(thread: int) -> bool:
    """Return whether a signal waits for a thread that ends it, or asks it to end (SIGINT, SIGTERM, SIGHUP, SIGQUIT).

    Also where that cannot be told: no such thread is seen, or /proc is of another pid namespace, or is not there.
    """
