"""What a server of blobs does for each blob of a call, and zstd as its clients speak it. Sizes are bytes."""

from collections.abc import Sequence
from os import PathLike
from typing import final

from .filemap import Frame

__all__ = [
    "Batch",
    "Expand",
    "Finding",
    "Held",
    "Piece",
    "Staged",
    "compress",
    "lay_out",
    "read_chunks",
    "read_log",
    "record",
]

@final
class Batch:
    """A `BatchUpdateBlobsRequest`: `prove` it, put its `records` where they last, then `answer` it."""

    def __new__(cls, message: bytes) -> Batch:
        """Of what came.

        Raises:
            InvalidInputError: `invalid`: it is no such message.
        """
    @property
    def instance_name(self) -> str: ...
    @property
    def digest_function(self) -> int: ...
    @property
    def size(self) -> int:
        """Of all blobs together, as their digests say; `prove` takes no more memory than that."""
    def prove(self) -> list[tuple[int, tuple[str, int], str, str]]:
        """Prove all blobs, and return of each that is wrong its row, its digest as it came, a kind, and what was found.

        The kind is `bad-digest`, `bad-compressor` or `blob-mismatch`.
        """
    def records(self, staged: Staged, held: Sequence[Held]) -> bytes:
        """Return records of those that were proved and are not here, each once; docs/format.md, "Staging"."""
    def new_blobs(self) -> list[tuple[str, int]]:
        """Return (hex digits, size) of each that became a record."""
    def answer(self, statuses: dict[int, bytes]) -> bytes:
        """Return the `BatchUpdateBlobsResponse`; rows that are not in `statuses` are stored."""

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
class Finding:
    """A `FindMissingBlobsRequest`."""

    def __new__(cls, message: bytes) -> Finding:
        """Of what came.

        Raises:
            InvalidInputError: `invalid`: it is no such message.
        """
    @property
    def instance_name(self) -> str: ...
    @property
    def digest_function(self) -> int: ...
    def bad(self) -> tuple[str, int] | None:
        """Return the first that is no digest, as it came."""
    def answer(self, staged: Staged, held: Sequence[Held]) -> bytes:
        """Return the `FindMissingBlobsResponse`."""

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

@final
class Piece:
    """A `WriteRequest`."""

    def __new__(cls, message: bytes) -> Piece:
        """Of what came.

        Raises:
            InvalidInputError: `invalid`: it is no such message.
        """
    @property
    def resource_name(self) -> str: ...
    @property
    def write_offset(self) -> int: ...
    @property
    def finish_write(self) -> bool: ...
    @property
    def data(self) -> memoryview:
        """Its bytes, where they lie in the message: nothing is copied."""

@final
class Staged:
    """Where staged blobs lie, each in a file that has a number. Safe to use from several threads."""

    def __new__(cls) -> Staged: ...
    def find(self, hex: str, size: int) -> tuple[int, int] | None:
        """Return the file of a blob, and where in it the blob begins; None when it is not staged."""
    def missing(self, blobs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return those of (hex digits, size) that are not staged, in order."""
    def put(self, file: int, blobs: Sequence[tuple[str, int, int]]) -> None:
        """Know of blobs (hex digits, where it begins, size) in a file.

        Raises:
            InvalidInputError: `invalid`: no hex digits of a SHA-256.
        """
    def put_batch(self, file: int, begin: int, batch: Batch) -> None:
        """Know of the blobs of a batch, whose records were written to a file at `begin`."""
    def drop_file(self, file: int) -> None:
        """Forget all that lies in a file."""

def compress(bytes: bytes) -> bytes:
    """Return `bytes` as one zstd frame, which says how large they are."""

def lay_out(
    log: str | PathLike[str],
    held: Sequence[Held],
    blobs: str | PathLike[str],
    results: str | PathLike[str],
) -> list[tuple[str, str, int]]:
    """Write what a log has as files, named by their keys: blobs that are not `held`, and results of actions.

    A directory is made when it is needed. Return of each result the hex digits of its action, its own, and its size.

    Raises:
        UnavailableError: `disk-full`, `io`.
    """

def read_chunks(frame: Frame, stored: bytes, wanted: Sequence[tuple[int, str, int]]) -> list[bytes]:
    """Return chunks (place, digest, size) of a frame, decompressed once and proved, in the order asked.

    Raises:
        CorruptError: `damaged`, `chunk-corrupt`.
    """

def read_log(path: str | PathLike[str]) -> list[tuple[int, str, int, int]]:
    """Return kind, hex digits of the key, place and size of each sound record up to the first that is none.

    Raises:
        UnavailableError: `io`.
    """

def record(kind: int, key: bytes, data: bytes) -> bytes:
    """Return a record of a log: docs/format.md, "Staging"."""
