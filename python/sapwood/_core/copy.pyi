"""A tree out of one store into another."""

from collections.abc import Sequence
from typing import Any, final

from .filemap import FileMap, Frame

__all__ = ["Copy"]

_Pack = tuple[str, memoryview, bytes]

@final
class Copy:
    """A copy: `look` at all pages, then `begin`, `deliver` all frames, `settle`, `place` all pages, and `finish`.

    What these give out is to be put: packs as (name, bytes, fragment). There are no more than six at a time: who lets
    go of none waits for ever. Pages and frames may be given from several threads. `close` it in any case.
    """

    def __new__(cls, file_map: FileMap) -> Copy:
        """Of `file_map` no page need have been brought."""
    def look(self, page: int, stored: bytes) -> None:
        """Take a page: the stored bytes of its frame.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
            FormatError: `format-newer`.
        """
    def lacking(self, holdings: bytes | None) -> int:
        """Return the bytes of the chunks that `holdings` does not name; before `begin`."""
    def begin(
        self,
        *,
        push: str,
        holdings: bytes | None,
        fragments: Sequence[bytes],
        pending: Sequence[bytes],
        usable: tuple[Sequence[str], Sequence[str]] | None,
        anew: Sequence[tuple[str, Sequence[tuple[int, int]]]],
    ) -> int:
        """Go on, with what the other store has, as of `Push.begin`; return the stored bytes of all frames to deliver.

        Of chunks whose digests are in `anew` what lies in these ranges (from, to) is packed, though the store has them,
        in this order, about, and well compressed; a chunk is cut where they begin and end, and the rest packed apart.

        Raises:
            InvalidInputError: `invalid`: a chunk is in `anew` twice, or its ranges are none or not in order.
            CorruptError: `damaged` fragment.
            FormatError: `format-newer`.
        """
    def take(self, bytes: int) -> list[Frame]:
        """Return the next frames to deliver, about so many bytes, by packs and offsets; none at the end."""
    def deliver(self, frame: Frame, stored: bytes) -> list[_Pack]:
        """Prove and pack what a frame holds.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`: nothing of it was packed.
            StoppedError: `close` was called.
        """
    def settle(self) -> list[_Pack]:
        """Seal what was packed so far; when all frames have been delivered."""
    def place(self, page: int, stored: bytes) -> list[_Pack]:
        """Take a page again and write it with the new places, in the order of pages; errors as `look`, `deliver`."""
    def finish(self, words: bytes, content: str | None) -> dict[str, Any]:
        """Return what remains to be written, as `Push.result`, and as `left` the packs to put before.

        `words` are the beginning of the outline, `content` is that of the snapshot before.
        """
    def close(self) -> None:
        """Stop what waits."""
