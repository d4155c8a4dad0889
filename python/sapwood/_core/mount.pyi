"""The mount: a file map served to the kernel, what it wants, and the cache it fills."""

from os import PathLike
from typing import Any, final

from .filemap import FileMap, Frame

__all__ = ["Server", "mounts", "unmount"]

@final
class Server:
    """A mounted file map. Hand back what `take` gives by `deliver` or `fail`, from any thread, until it is `closed`."""

    def __new__(cls, map: FileMap, cache: str | PathLike[str], place: str | PathLike[str]) -> Server:
        """Mount at `place`, an empty directory; reads are answered by threads of the core from now on.

        Raises:
            UnavailableError: `mount-failed`; the message says why and what to do.
        """
    @property
    def closed(self) -> bool:
        """It was unmounted."""
    def take(self, max: int, timeout_s: float) -> list[Frame]:
        """Return up to `max` wanted frames of one pack, most urgent first; none after `timeout_s` or once closed."""
    def deliver(self, frame: Frame, stored: bytes) -> None:
        """Prove a frame, keep it in the cache, and answer who waits for it.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`; the frame is still wanted.
        """
    def fail(self, frame: Frame, why: str) -> None:
        """Give a frame up: who waits for it gets EIO."""
    def prefetch(self) -> None:
        """Want all the rest, behind everything that somebody waits for."""
    def stats(self) -> dict[str, Any]:
        """Return `bytes_fetched`, `frames_fetched`, `files_read`, `bytes_read` (of files read at all), `last_error`."""

def unmount(place: str | PathLike[str]) -> None:
    """Unmount, also when the server is gone.

    Raises:
        UnavailableError: `mount-failed`: not a mount, or busy.
    """

def mounts() -> list[bytes]:
    """Return where file maps are mounted, as the kernel tells."""
