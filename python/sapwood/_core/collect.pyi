"""What is alive in a store's packs, redirects, and the moving of frames."""

from collections.abc import Mapping, Sequence
from typing import final

from .filemap import FileMap, Frame

__all__ = ["Marks", "Mover", "OldPack", "Redirect"]

@final
class Redirect:
    """Where the frames of a pack that was moved lie now."""

    def __new__(cls, stored: bytes) -> Redirect:
        """Read one.

        Raises:
            CorruptError: `damaged`.
            FormatError: `format-newer`.
        """
    def find(self, offset: int, length: int) -> tuple[str, int, int] | None:
        """Return pack, offset and length of the frame that was `length` bytes at `offset`, if it was moved."""

@final
class OldPack:
    """A pack and what it says it holds."""

    @staticmethod
    def read(name: str, tail: bytes, size: int) -> tuple[OldPack | None, int]:
        """Return a pack of `size` bytes from its last ones, or how many of these it takes; errors as `Redirect`."""
    @property
    def end(self) -> int:
        """Where the last data frame ends."""
    def outlines(self) -> list[tuple[int, int]]:
        """Return offset and length of the frames that hold an outline."""
    def prove(self, frames: Sequence[tuple[int, int]], stored: Sequence[bytes]) -> None:
        """Prove every chunk that the pack says is in these frames (offset, length), whose bytes are `stored`.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
        """

@final
class Marks:
    """What live file maps use: each chunk, page and outline once, with its place. Safe to use from several threads."""

    def __new__(cls) -> Marks: ...
    def map(self, map: FileMap) -> list[tuple[int, Frame]]:
        """Mark the pages of a live map; return number and frame of those that are to be brought to `page`."""
    def page(self, map: FileMap, page: int, stored: bytes) -> None:
        """Mark what a page uses: the bytes of its frame.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
            FormatError: `format-newer`.
        """
    def outline(self, pack: OldPack, offset: int, stored: bytes) -> bool:
        """Mark the outline at `offset` if the map of its run is live, and say whether it is; errors as `page`."""
    def follow(self, redirects: Mapping[str, bytes]) -> None:
        """Take every mark to where redirects, by pack, say that its frame lies now; errors as `Redirect`."""
    def packs(self) -> dict[str, int]:
        """Return the bytes of live frames by pack."""
    def totals(self) -> tuple[int, int, int, int, int]:
        """Return chunks of blobs, each once, their bytes, those of their frames; pages, those of their frames."""
    def moved(self) -> list[str]:
        """Return the packs that are needed through their redirects."""
    def hops(self, pack: str) -> int:
        """Return how many redirects lead to a pack, at most, from where maps say that something lies."""
    def frames(self, pack: str) -> list[tuple[int, int]]:
        """Return offset and length of the live frames of a pack, in order."""
    def fragments(self, packs: Sequence[str], limit: int) -> list[bytes]:
        """Return index fragments of what is marked in these packs, in their order, each of some `limit` bytes at most.

        Packs that are added at the end change no fragment but the last and those after it.
        """

@final
class Mover:
    """Copies frames of old packs, as they are, into new ones. Safe to use from several threads."""

    def __new__(cls, push: str) -> Mover:
        """Begin; `push` is the run that writes the new packs."""
    def add(
        self, pack: OldPack, frames: Sequence[tuple[int, int]], stored: Sequence[bytes]
    ) -> list[tuple[int, str, bytes]]:
        """Copy frames (offset, length); return number, name and bytes of each new pack that this has filled.

        Raises:
            CorruptError: `damaged`: the old pack says nothing of such a frame; none is copied.
        """
    def finish(self) -> tuple[int, str, bytes] | None:
        """Return the last pack, which is not full."""
    def stored(self, number: int) -> list[tuple[str, bytes]]:
        """Return, now that this new pack is stored, old packs all of whose frames are, with their redirects."""
