"""A directory whose changes are known."""

from collections.abc import Callable
from os import PathLike
from typing import final

from sapwood.tree.options import Options

__all__ = ["Watcher"]

_Progress = Callable[[int, int, int, int], None]

@final
class Watcher:
    """A directory that is watched from when this is made until it is let go.

    Its methods may be called from any thread; they answer one after the other. `select` may wait for it: it becomes
    readable when the directory is not where it was, and then says nothing any more.
    """

    def __new__(
        cls,
        root: str | PathLike[str],
        index: str | PathLike[str],
        private: str | PathLike[str],
        options: Options,
        progress: _Progress | None = None,
    ) -> Watcher:
        """Watch `root`, whose state is kept at `index`; `private` is a directory in which nobody else does anything.

        Raises:
            UnavailableError: `watch-limit`.
            InvalidInputError: `unwatchable`, `not-a-directory`.
            SapwoodError: what looking at the directory says.
        """
    def hash(
        self, skip_unreadable: bool, progress: _Progress | None = None
    ) -> tuple[str, int, tuple[int, int, int, int], tuple[int, int], list[bytes]]:
        """Bring the index up to date.

        Returns the tree digest and the size of its message, (files, directories, symlinks, bytes), (files hashed,
        bytes hashed), and what was skipped. Errors as `sapwood._core.tree.hash`.
        """
    def status(
        self, progress: _Progress | None = None
    ) -> tuple[list[bytes], list[bytes], list[bytes], list[bytes]] | None:
        """Return what was added, changed, removed, and the unreadable; None when there is no index."""
    @property
    def directories(self) -> int:
        """How many directories are watched."""
    @property
    def root_id(self) -> tuple[int, int]:
        """Device and inode of the root."""
    def fileno(self) -> int: ...
