"""Packs read back, and what file maps need of them.

A *place* is (offset of the frame, place in the decompressed frame, length of the frame, its plain length, digest of the
chunk, size of the chunk); lists of places are sorted.
"""

from collections.abc import Sequence
from os import PathLike
from typing import final

from .filemap import FileMap, Frame

__all__ = [
    "TAIL",
    "Needs",
    "Places",
    "Proved",
    "Rebuild",
    "Recovery",
    "Toc",
    "fragment_packs",
    "held",
    "pages",
    "paths",
    "prove",
    "read_spot",
    "read_toc",
    "redirect_packs",
    "redirect_rows",
    "search",
]

_Place = tuple[int, int, int, int, str, int]

TAIL: int
"""Bytes: enough of a pack's end to read most TOCs."""

@final
class Toc:
    """What a pack says it holds."""

    @property
    def push(self) -> str | None:
        """The run that wrote it."""
    @property
    def end(self) -> int:
        """Where the last data frame ends."""
    def held(self, holds: str) -> list[_Place]:
        """Return every `content`, `page` or `outline` in it."""
    def __len__(self) -> int: ...

@final
class Proved:
    """What reading a whole pack has shown."""

    @property
    def faults(self) -> list[str]:
        """What is wrong, a line each; none of a pack that is whole."""
    def sound(self) -> list[_Place]:
        """Return every chunk whose bytes hash to its name."""

@final
class Needs:
    """What file maps need, by pack. Safe to use from several threads."""

    def __new__(cls) -> Needs: ...
    def add(self, map: FileMap) -> None:
        """Add all pages of `map`, and every chunk that its pages brought so far use."""
    def packs(self) -> list[str]:
        """Return the packs that anything is needed of, sorted."""
    def of(self, pack: str) -> list[_Place]:
        """Return what is needed of one pack."""
    def follow(self, pack: str, redirect: bytes) -> bool:
        """Take what is needed of `pack` to where its redirect says, and say whether any went; the rest stays.

        Raises:
            CorruptError: `damaged`.
            FormatError: `format-newer`.
        """
    def unlisted(self, pack: str, toc: Toc) -> list[_Place]:
        """Return what is needed of a pack that it does not say it holds."""
    def unproved(self, pack: str, proved: Proved) -> list[_Place]:
        """Return what is needed of a pack and was not found when it was read."""

@final
class Rebuild:
    """A damaged pack made again. `holds` is as of `Toc.held`."""

    def __new__(cls, push: str, pack: str) -> Rebuild:
        """`push` is the run that writes it, 16 hex digits, `pack` the damaged one."""
    def copy(self, offset: int, stored: bytes, plain: int, chunks: Sequence[tuple[str, int, int]], holds: str) -> None:
        """Take over the frame that was at `offset`; its chunks (digest, size, inner offset) have been proved."""
    def make(self, offset: int, length: int, plain: int, chunks: Sequence[tuple[int, str, bytes]], holds: str) -> None:
        """Make a frame again of chunks (inner offset, digest, bytes), sorted; zeros stand where one is lost.

        Raises:
            CorruptError: `chunk-corrupt`, `damaged`: they cannot lie so.
        """
    def finish(self, before: bytes | None = None) -> tuple[str, bytes, bytes, bytes] | None:
        """Return name and bytes of the new pack, its fragment, its redirect; None when no frame was added. Once.

        What `before`, the redirect so far, says of other frames is said again.

        Raises:
            CorruptError, FormatError: `before` is damaged, or newer.
        """

@final
class Recovery:
    """What packs say of themselves, into fragments and fence indexes. Safe to use from several threads."""

    def __new__(cls) -> Recovery: ...
    def pack(self, name: str, toc: Toc) -> None:
        """Take what a pack says it holds."""
    def page(self, stored: bytes, plain: int, inner: int, digest: str, size: int) -> None:
        """Take a page: the stored bytes of its frame.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
            FormatError: `format-newer`.
        """
    def split(self, stored: bytes, plain: int, inner: int, digest: str, size: int) -> None:
        """Take a page of split metadata: the stored bytes of its frame; errors as `page`."""
    def has_page(self, digest: str) -> bool: ...
    def map(
        self,
        push: str,
        tree: str,
        tree_size: int,
        entries: int,
        bytes: int,
        pages: Sequence[tuple[str, Frame, int]],
        tar: tuple[str, int] | None,
    ) -> tuple[str, int, bytes, str, list[str]]:
        """Return digest, size, stored bytes, content and packs of the fence index over pages (digest, frame, inner).

        Those of split metadata come last; `tar` are digest and size of the stream that they tell.

        Raises:
            NotFoundError: `missing`: a page was not given.
            CorruptError: `damaged`: they are not the pages of one tree.
        """
    def fragments(self) -> list[bytes]:
        """Return index fragments, of about 1 MiB, of all that was given since this was asked last."""

@final
class Places:
    """Where chunks lie, to tell lost pages of file maps again. Safe to use from several threads."""

    def __new__(cls) -> Places: ...
    def redirect(self, pack: str, redirect: bytes) -> None:
        """Take where frames of `pack` were moved to; all redirects come before all packs.

        Raises:
            CorruptError: `damaged`.
            FormatError: `format-newer`.
        """
    def pack(self, pack: str, toc: Toc) -> None:
        """Take what a pack says it holds."""
    def fragment(self, fragment: bytes) -> None:
        """Take what an index fragment says; errors as `redirect`."""
    def page(
        self, map: FileMap, first: bytes, entries: int, digest: str, size: int, packs: Sequence[str]
    ) -> bytes | None:
        """Return the page of this digest, of so many entries of `map` from `first` on, whose chunks lie in `packs`.

        None when it would be another. All pages of `map` have been brought.
        """

def held(map: FileMap, wanted: Sequence[str]) -> list[tuple[str, int, int, int]]:
    """Return where files of the brought pages of `map` hold chunks of `wanted`, digests, that are not all of them.

    Each once, sorted: digest, its size, the size of a file, and the offset in it.
    """

def search(
    root: str | PathLike[str], wanted: Sequence[tuple[str, int]], held: Sequence[tuple[str, int, int, int]]
) -> dict[str, tuple[str, int]]:
    """Return where files below `root` hold chunks (digest, size): digest -> (path, offset).

    They are looked for as whole files, where a push cuts, and where a file holds them by what `held` (see there) says.

    Raises:
        NotFoundError, InvalidInputError, DeniedError, UnavailableError: `root` cannot be listed.
    """

def read_spot(path: str | PathLike[str], offset: int, digest: str, size: int) -> bytes:
    """Return the bytes of a chunk that `search` found.

    Raises:
        CorruptError: `chunk-corrupt`: the file has changed.
        NotFoundError, DeniedError, UnavailableError: it cannot be read any more.
    """

def read_toc(tail: bytes, size: int) -> tuple[Toc | None, int]:
    """Return the TOC of a pack of `size` bytes from its last ones, or how many of these it takes.

    Raises:
        CorruptError: `damaged`.
        FormatError: `format-newer`.
    """

def prove(name: str, data: bytes, frames: Sequence[tuple[int, int, int]]) -> Proved:
    """Read a whole pack: its name, its TOC, every frame, every chunk.

    `frames` (offset, length, plain length) are known from elsewhere, should its TOC be damaged.
    """

def paths(map: FileMap, damaged: Sequence[tuple[str, int, int]], limit: int) -> tuple[list[bytes], int]:
    """Return the paths in the pages brought so far that need one of `damaged` (pack, offset, inner), and how many."""

def pages(map: FileMap) -> list[tuple[str, int, bytes, int]]:
    """Return digest, size, path of the first entry and number of entries of each page that is stored.

    Those of split metadata, which have no entries, come last.
    """

def fragment_packs(fragment: bytes) -> list[str]:
    """Return the packs that an index fragment names.

    Raises:
        CorruptError: `damaged`.
        FormatError: `format-newer`.
    """

def redirect_packs(pack: str, redirect: bytes) -> list[str]:
    """Return the packs that the redirect of a pack names; errors as `fragment_packs`."""

def redirect_rows(pack: str, redirect: bytes) -> list[tuple[int, int, str, int, int]]:
    """Return old offset and length, pack, new offset and length of each frame; errors as `fragment_packs`."""
