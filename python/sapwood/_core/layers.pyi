"""The layers of an image as one file map."""

from os import PathLike

from .filemap import FileMap

__all__ = ["keep", "lead", "merge", "open"]

def merge(maps: list[FileMap]) -> FileMap:
    """Return one file map of all layers, the lowest first; the frames of contents keep their packs.

    Its frames are led if those of any layer are: those of a layer with a TOC then want a `lead` before them.

    Raises:
        CorruptError: `damaged`: there are more layers, or entries, than can be.
    """

def keep(map: FileMap, output: int, path: str | PathLike[str]) -> tuple[int, int, str, int]:
    """Write a merged map in pages to the open file `output`, called `path`, and its fence index behind them.

    Return where that lies, how long it is there, and its digest and size, decompressed.

    Raises:
        NotFoundError: `missing`: it is no merged map.
        CorruptError: `damaged`: it has an entry that no page can say.
        UnavailableError: `io`, `disk-full`.
    """

def open(stored: bytes, digest: str, size: int, *, is_led: bool) -> FileMap:
    """Return the map of a fence index that was kept; its pages are yet to be brought.

    Raises:
        CorruptError: `damaged`, `chunk-corrupt`.
        FormatError: `format-newer`.
    """

def lead(*, is_zeros: bool) -> bytes:
    """Return the lead of a frame that begins a gzip member or a zstd frame, or of zeros, which lie nowhere."""
