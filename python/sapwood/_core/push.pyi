"""A directory, or a tar, into packs, pages and a fence index."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, final

from sapwood.tree.options import Options

from .filemap import FileMap, Frame

__all__ = ["Push", "holdings_of", "merged"]

@final
class Push:
    """A push: looked at when made, then `lacking` and `begin`; `next` gives its packs, then `result` the rest.

    `close` it in any case.
    """

    def __new__(
        cls,
        root: str | PathLike[str],
        *,
        index: str | PathLike[str] | None,
        options: Options,
        progress: Callable[[int, int, int, int], None] | None = None,
        base: FileMap | None = None,
        upper: str | PathLike[str] | None = None,
    ) -> Push:
        """Look at the directory.

        If it is a mount of `base`, all of whose pages have been brought, contents are known from that and not read, but
        for those that were changed: these are in `upper`, the upper layer of the overlay that takes changes.

        Raises:
            DeniedError: `path-denied`; `paths` are all that may not be read.
            NotFoundError: `path-missing`.
            InvalidInputError: `not-a-directory`.
        """
    @staticmethod
    def of_archive(
        tar: int,
        name: str | PathLike[str],
        *,
        stored: int | None,
        temporary: str | PathLike[str],
        told: bytes | None = None,
    ) -> Push:
        """Push the tar that the descriptor `tar` gives, called `name`; it is read from where it stands.

        It may be compressed by gzip or zstd. `stored` are the bytes it takes where it lies, if that is known. In
        `temporary` is kept what memory should not hold.

        If `told` is the name of an attribute, it is a tar that was made to be pushed, and is not given back: an empty
        file that has it has the content that it says, `sha256:…/SIZE`. The store has that, and the push knows where.
        """
    def lacking(self, holdings: bytes | None) -> int:
        """Return the bytes of the files that `holdings` does not explain; before `begin`.

        Of a tar its size, as far as that is known.
        """
    def begin(
        self,
        *,
        push: str,
        level: int | None,
        words: bytes,
        content: str | None,
        holdings: bytes | None,
        memory: bytes,
        fragments: Sequence[bytes],
        pending: Sequence[bytes],
        usable: tuple[Sequence[str], Sequence[str]] | None,
    ) -> None:
        """Begin to read and pack; once.

        `push` are the 16 hex digits of the run; `level` is zstd's, of chunks (None: as by default); `words` the
        beginning of its outline, `content` that of the snapshot before; `memory` is what `result` gave with these
        holdings, or empty. `fragments` are those of the store, and `pending` those of packs that were sent but not
        yet named in it. `usable` are the packs that are there, and those of them of which anything may be re-used;
        None: all.

        Raises:
            CorruptError: `damaged` fragment.
            FormatError: `format-newer`.
        """
    def next(
        self, progress: Callable[[int, int, int, int], None] | None = None
    ) -> tuple[str, memoryview, bytes] | None:
        """Return the next pack as (name, bytes, fragment), or None when there are no more, or something is `missed`.

        The bytes are read-only. There are no more than six packs at a time: who lets go of none waits for ever.
        """
    def missed(self) -> list[tuple[Frame, int, str, int]]:
        """Return the chunks, as `Entry.chunks` has them, that the run needs back of the packs that it gave.

        They are contents of a tar that a later entry of their name replaced: mostly there are none. After `give` there
        are more packs.
        """
    def give(self, chunks: int, name: str | PathLike[str]) -> None:
        """Give back what was `missed`, one after the other: the descriptor of a file that stands at its beginning."""
    def result(self) -> dict[str, Any]:
        """Return what remains to be written; once.

        Raises:
            DeniedError: `path-denied`; `paths` are all that may not be read.
            CorruptError: `damaged`: no tar, or one that cannot be unpacked.
            UnavailableError: `file-changing`, `disk-full`, `io`.
        """
    def close(self) -> None:
        """Stop and wait for the end."""

def holdings_of(file_map: FileMap) -> bytes:
    """Return all that a file map uses, with its place, as an index fragment; all pages must have been brought."""

def merged(fragments: Sequence[bytes]) -> bytes:
    """Return one fragment that says what all of `fragments` say.

    Raises:
        CorruptError: `damaged` fragment.
        FormatError: `format-newer`.
    """
