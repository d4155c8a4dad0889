"""A file map and its frames into a directory."""

from collections.abc import Callable
from os import PathLike
from typing import final

from .filemap import FileMap, Frame

__all__ = ["Pull"]

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
    @property
    def bytes_needed(self) -> int:
        """Of all frames, as they lie in the store."""
    def take(self, max: int) -> list[Frame]:
        """Return the next frames that are needed, in order of pack and offset; none when all were taken."""
    def deliver(self, frame: Frame, stored: bytes) -> None:
        """Prove and write what a frame holds.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`; names a file that needs it.
            UnavailableError: `disk-full`, `io`.
        """
    def finish(self, progress: Callable[[int, int, int, int], None] | None = None) -> tuple[int, int, list[str]]:
        """Set what is left when all frames were delivered; return files, bytes, and notes of what could not be set."""
    def close(self) -> None:
        """Let go of the directory."""
