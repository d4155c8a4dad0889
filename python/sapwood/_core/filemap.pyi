"""File maps, their pages and entries. Paths are bytes; digests `sha256:<hex>`; sizes bytes."""

import builtins
from os import PathLike
from typing import final

__all__ = ["Entry", "FileMap", "Frame", "read_chunk", "sparse_parts", "tar_header"]

@final
class Frame:
    """A frame of a pack: the unit of fetching. Ordered by pack, then offset."""

    def __new__(cls, pack: str, offset: int, length: int, plain: int) -> Frame: ...
    @property
    def pack(self) -> str:
        """Name of the pack, 64 hex digits."""
    @property
    def offset(self) -> int:
        """Where it begins in the pack."""
    @property
    def length(self) -> int:
        """Bytes in the pack."""
    @property
    def plain(self) -> int:
        """Bytes when decompressed."""
    def __getnewargs__(self) -> tuple[str, int, int, int]: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __lt__(self, other: Frame, /) -> bool: ...
    def __le__(self, other: Frame, /) -> bool: ...
    def __gt__(self, other: Frame, /) -> bool: ...
    def __ge__(self, other: Frame, /) -> bool: ...

@final
class Entry:
    """One entry of a tree, whatever the tree's source. Immutable."""

    @property
    def path(self) -> bytes:
        """Empty for the root."""
    @property
    def name(self) -> bytes: ...
    @property
    def kind(self) -> str:
        """`dir`, `reg`, `symlink`, `hardlink`, `char`, `block` or `fifo`."""
    @property
    def size(self) -> int:
        """Bytes of a blob, of a symlink's target, of a directory's REAPI message; else 0."""
    @property
    def mode(self) -> int:
        """Permission, set-id and sticky bits."""
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def links(self) -> int:
        """Hard links within the tree."""
    @property
    def digest(self) -> str | None:
        """Of a blob or a directory."""
    @property
    def target(self) -> bytes | None:
        """Of a symlink; of a hard link the path of its first name."""
    @property
    def device(self) -> tuple[int, int] | None:
        """Major and minor number."""
    @property
    def xattrs(self) -> dict[bytes, bytes]: ...
    @property
    def chunks(self) -> list[tuple[Frame, int, str, int]]:
        """Of a regular file in a store: frame, place in the decompressed frame, digest, size; in order."""
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class FileMap:
    """A fence index, and the pages that have been brought so far."""

    def __new__(cls, stored: builtins.bytes, digest: str, size: int) -> FileMap:
        """From a fence index as stored; `digest` and `size` are those of its text.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
            FormatError: `format-newer`.
        """
    @staticmethod
    def of_directory(root: str, size: int, owner: tuple[int, int]) -> FileMap:
        """Return the tree below a root directory of the REAPI, all of which belongs to `owner`, a user and a group.

        Its pages are Directory messages, known one after the other. Each is a pack of its own, and so is each blob:
        named by its digest, with one frame, whose offset is its size.
        """
    @property
    def tree(self) -> str:
        """The tree digest."""
    @property
    def tree_size(self) -> int:
        """Bytes of the root Directory message."""
    @property
    def entries(self) -> int: ...
    @property
    def bytes(self) -> int:
        """Of all blobs."""
    def pages(self) -> list[Frame]:
        """Return the frames of all pages, by page number."""
    def stored_pages(self) -> list[Frame]:
        """Return the frames of the pages of entries, then of those of split metadata, numbered on."""
    @property
    def tar(self) -> tuple[str, int] | None:
        """Digest and size of the tar that the tree came as, where there is split metadata of it."""
    def missing(self, path: builtins.bytes, children: bool) -> list[int]:
        """Return the pages yet to bring before `path` can be looked up, or its `children` listed."""
    def pages_of(self, path: builtins.bytes) -> tuple[int, int]:
        """Return the first, and behind the last, of the pages that hold what is in a directory, by number."""
    def emptied(self) -> FileMap:
        """Return the same map without the pages that were brought."""
    def bring_cached(self, cache: str | PathLike[str]) -> builtins.list[int]:
        """Bring the pages that a cache has, and return the numbers of those that it has not.

        Raises:
            UnavailableError: `io`.
        """
    def add_page(self, page: int, stored: builtins.bytes) -> None:
        """Bring a page: the bytes of its frame as stored. One of split metadata is proved, and not kept.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
            FormatError: `format-newer`.
        """
    def lookup(self, path: builtins.bytes) -> Entry | None: ...
    def list(self, path: builtins.bytes) -> list[Entry]:
        """Return the entries of a directory, sorted by name; none for what is no directory."""
    def list_page(self, path: builtins.bytes, page: int) -> builtins.list[Entry]:
        """Return those of a directory's entries, sorted by name, that a page holds, which was brought."""
    def read_chunk(self, frame: Frame, stored: builtins.bytes, inner: int, digest: str, size: int) -> builtins.bytes:
        """Return the chunk at `inner` of one of its frames, decompressed and proved.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
        """

    def read_chunks(
        self, frame: Frame, stored: builtins.bytes, wanted: builtins.list[tuple[int, str, int]]
    ) -> builtins.list[builtins.bytes]:
        """Return chunks (place, digest, size) of one of its frames, decompressed and proved, in the order asked.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
        """
    def tar_parts(
        self, number: int, stored: builtins.bytes
    ) -> builtins.list[builtins.bytes | tuple[tuple[Frame, int, str, int], builtins.list[tuple[int, int]]]]:
        """Return what a page of split metadata tells of the tar: bytes, or a chunk and the ranges of it that come next.

        `stored` are the bytes of its frame; `number` counts pages of split metadata alone. All pages of entries have
        been brought.

        Raises:
            CorruptError: `damaged`, `chunk-corrupt`.
        """

def read_chunk(frame: Frame, stored: bytes, inner: int, digest: str, size: int) -> bytes:
    """Return the chunk at `inner` of a frame, decompressed and proved.

    Raises:
        CorruptError: `damaged`, `chunk-corrupt`.
    """

def sparse_parts(entry: Entry, first: Entry) -> list[bytes | tuple[tuple[Frame, int, str, int], list[tuple[int, int]]]]:
    """Return a file with holes as parts of a tar that leaves them out, as `FileMap.tar_parts`; none of other entries.

    Raises:
        InvalidInputError: `invalid`: no tar can say it.
    """

def tar_header(entry: Entry, first: Entry, before: bytes | None = None) -> bytes:
    """Return the tar header of an entry in the form that is written; `first` is the entry of its first name.

    `before` is the name of the file that came before it in the stream, if one did: then it is a hard link to that.

    Raises:
        InvalidInputError: `invalid`: no tar can say it.
    """
