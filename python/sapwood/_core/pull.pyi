"""A file map and its frames into a directory."""

from collections.abc import Callable
from os import PathLike
from typing import Any, final

from sapwood.tree.options import Options

from .filemap import FileMap, Frame

__all__ = ["Present", "Proof", "Pull"]

@final
class Present:
    """A directory as it is now, looked at with its index; good for one `Pull.update`."""

    def __new__(
        cls,
        directory: str | PathLike[str],
        index: str | PathLike[str],
        options: Options,
        progress: Callable[[int, int, int, int], None] | None = None,
    ) -> Present:
        """Bring the index up to date.

        Raises:
            DeniedError: `path-denied`; `paths` are the directories that may not be read.
            UnavailableError: `file-changing`, `disk-full`, `io`.
        """
    def holds(self, map: str) -> tuple[int, int, int, int] | None:
        """Return entries, files, bytes and extra entries if it is as a pull of the map with this digest left it."""

@final
class Proof:
    """A proof under way of what a pull would write. Hand back what `take` gives by `deliver`, from any thread."""

    def __new__(cls, map: FileMap) -> Proof:
        """Of all contents of `map`, every page of which has been brought.

        Raises:
            CorruptError: `damaged`: the map contradicts itself; `chunk-corrupt`: of a file and its only chunk.
        """
    @property
    def bytes_needed(self) -> int:
        """Of all frames, as they lie in the archive."""
    def take(self, bytes: int) -> list[Frame]:
        """As `Pull.take`."""
    def deliver(self, frame: Frame, stored: bytes) -> None:
        """Prove what a frame holds.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
            InvalidInputError: chunks of a large file lie in an order in which it cannot be hashed with little memory.
        """
    def paths(self, frame: Frame) -> list[bytes]:
        """Return the paths of the files that a frame is needed for."""
    def unlike(self) -> list[tuple[bytes, str]]:
        """When all was delivered: paths of files of several chunks that are not what the map says, and how."""

@final
class Pull:
    """A pull under way. Hand back what `take` gives by `deliver`, from any thread, then `finish`; `close` it always.

    Once closed every method raises `StoppedError`.
    """

    def __new__(cls, map: FileMap, directory: str | PathLike[str]) -> Pull:
        """Into `directory`, which exists and is empty; every page of `map` has been brought.

        Raises:
            CorruptError: `damaged`: the map contradicts itself.
            UnavailableError: `disk-full`, `io`.
        """
    @staticmethod
    def update(map: FileMap, present: Present, delete: bool, nonce: int) -> Pull:
        """Into a directory that has something in it; what the tree has not is removed if `delete`.

        `nonce`, of 64 bits, tells what this run has not written whole from what others have not.

        Raises:
            CorruptError: `damaged`: the map contradicts itself.
            ConflictError: `in-the-way`; `paths` are directories that would have to be removed; nothing was changed.
            UnavailableError: `disk-full`, `io`.
            DeniedError: `path-denied`, `read-only`.
        """
    @property
    def bytes_needed(self) -> int:
        """Of all frames, as they lie in the store."""
    def take(self, bytes: int) -> list[Frame]:
        """Return the next frames needed, about so many bytes of one pack, in order; none when all were taken."""
    def deliver(self, frame: Frame, stored: bytes) -> None:
        """Prove and write what a frame holds.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`; names a file that needs it.
            UnavailableError: `disk-full`, `io`.
        """
    def finish(self, progress: Callable[[int, int, int, int], None] | None = None) -> dict[str, Any]:
        """Set what is left when all frames were delivered.

        Return `files` and `bytes` of the tree, of its entries how many were `left_alone`, `written` and `fixed`, how
        many others were `removed` or are there still (`extra`), and `notes` of what could not be set.
        """
    def record(self, map: str, index: str | PathLike[str], options: Options) -> None:
        """After `finish`, store the index of the directory as it is now, and note that a pull of `map` left it so.

        Raises:
            UnavailableError: `file-changing`: somebody has changed what was written; `disk-full`, `io`.
        """
    def close(self) -> None:
        """Wait for deliveries that are under way, refuse others, remove what is not whole, let go of the directory."""
