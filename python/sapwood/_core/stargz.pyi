"""Archives: where the TOC is, and the file map that it is."""

from typing import final

from .filemap import FileMap

__all__ = ["Footer", "open_toc"]

@final
class Footer:
    """The last bytes of an archive."""

    @staticmethod
    def read(tail: bytes, size: int) -> Footer | None:
        """Return the footer of an archive of `size` bytes, of which `tail` are the last; None when it has none.

        Raises:
            CorruptError: `damaged`: it has one that cannot be.
        """
    @property
    def toc(self) -> tuple[int, int] | None:
        """Offset and length of the TOC, compressed; None of one that lies elsewhere."""

def open_toc(footer: Footer, compressed: bytes, *, is_layer: bool = False) -> tuple[FileMap, str]:
    """Return the file map of an archive, all of it, and the TOC's digest, from the TOC as it lies there.

    That of a layer may have hard links to what layers below it have; only `layers.merge` makes a tree of it.

    Raises:
        CorruptError: `damaged`: it cannot be read, contradicts itself, or leads outside; an entry is named.
        FormatError: `format-newer`.
    """
