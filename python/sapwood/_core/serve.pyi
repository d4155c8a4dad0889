"""What a server of blobs asks of what a store holds, and zstd as its clients speak it. Sizes are bytes."""

from collections.abc import Sequence
from typing import final

from .filemap import Frame

__all__ = ["Expand", "Held", "compress", "read_chunks"]

@final
class Expand:
    """A zstd stream of somebody else, decompressed as it comes; no more of it than is taken."""

    def __new__(cls) -> Expand: ...
    def feed(self, bytes: bytes) -> None:
        """Give it more of the stream, when `take` gives nothing."""
    def take(self, most: int) -> bytes:
        """Return the next bytes, at most `most`; none when more is to be fed, or all was given out.

        Raises:
            CorruptError: `damaged`; also of a frame whose window is more than 8 MiB.
        """
    def is_whole(self) -> bool:
        """Say whether the stream may end here."""

@final
class Held:
    """What index fragments say that a store has, to be looked up. Immutable."""

    def __new__(cls, fragments: Sequence[bytes]) -> Held:
        """Of all `fragments`.

        Raises:
            CorruptError: `damaged`.
            FormatError: `format-newer`.
        """
    def missing(self, blobs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return those of (hex digits, size) that are neither a chunk nor a large blob, nor could be one, in order."""
    def chunks(self, hex: str, size: int) -> list[tuple[Frame, int, str, int]] | None:
        """Return where the chunks of a blob, or a chunk, lie, as `Entry.chunks`; None when it is not there."""

def compress(bytes: bytes) -> bytes:
    """Return `bytes` as one zstd frame, which says how large they are."""

def read_chunks(frame: Frame, stored: bytes, wanted: Sequence[tuple[int, str, int]]) -> list[bytes]:
    """Return chunks (place, digest, size) of a frame, decompressed once and proved, in the order asked.

    Raises:
        CorruptError: `damaged`, `chunk-corrupt`.
    """
