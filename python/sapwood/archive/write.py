"""Archives written: out of a tar, or out of a directory, into an open file.

Promise: the same input and the same `Choices` give the same bytes. Not here: where the file lies and what becomes of it
when something fails (`sink`). Bytes: docs/archive.md.
"""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, Any

from sapwood._core import archive as core
from sapwood.archive.inflate import LEAD, PIECE, XzReader, explained, inflating
from sapwood.archive.opening import open_file, require_bytes
from sapwood.destination import writing
from sapwood.errors import CorruptError, InvalidInputError
from sapwood.progress import OnProgress, counter
from sapwood.tree.options import Options

__all__ = ["Choices", "Written", "convert", "open_tar", "pack_directory", "spool"]

# More than these are waited for by the one that reads.
_MOST_THREADS = 8


class Choices:
    """How an archive is made; immutable.

    `zstd`: zstd:chunked instead of gzip. `level`: 0 to 12 of gzip (5), 1 to 19 of zstd (3). `chunk_size`: cut files by
    so many bytes instead of what docs/archive.md says. `min_chunk_size`: of gzip, let chunks share a member up to so
    many bytes.
    An archive's members are taken over as they are unless one of these three is given.
    `compatible_times`: of gzip, whole seconds in the TOC. `prioritize`: paths of files to be first.
    """

    __slots__ = ("chunk_size", "compatible_times", "level", "min_chunk_size", "prioritize", "threads", "zstd")

    def __init__(
        self,
        *,
        zstd: bool = False,
        level: int | None = None,
        chunk_size: int | None = None,
        min_chunk_size: int = 0,
        compatible_times: bool = False,
        prioritize: Iterable[str | bytes] = (),
    ) -> None:
        given = {"level": level, "chunk_size": chunk_size, "min_chunk_size": min_chunk_size}
        for name, number in given.items():
            if number is not None and not 0 <= number < 1 << 31:
                raise InvalidInputError(f"{name} cannot be {number}", kind="invalid")
        self.zstd = zstd
        self.level = level
        self.chunk_size = chunk_size
        self.min_chunk_size = min_chunk_size
        self.compatible_times = compatible_times
        self.prioritize = [os.fsencode(name) for name in prioritize]
        self.threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)


@dataclass(frozen=True)
class Written:
    """An archive that was written. Sizes in bytes."""

    toc: str
    """Digest of its TOC, by which it is known."""
    tar: str
    """Digest of the plain tar: OCI's diffID."""
    tar_size: int
    size: int
    entries: int
    chunks: int
    annotations: dict[str, str]
    """What container tools want to be told of a layer that is this archive."""
    left_out: tuple[bytes, ...]
    """Names of the input that archives have for themselves."""
    absent: tuple[bytes, ...]
    """Of the files to be first those that are not there."""
    unreadable: tuple[bytes, ...]
    seconds: float


def convert(
    tar: IO[bytes],
    name: str | os.PathLike[str],
    output: int,
    path: str | os.PathLike[str],
    choices: Choices,
    *,
    temporary: str | os.PathLike[str],
    is_layer: bool = False,
    progress: OnProgress | None = None,
) -> Written:
    """Write a tar that `open_tar` gave, called `name`, as an archive to the descriptor `output`, called `path`.

    One that `is_layer` of an image may have hard links to what layers below it have, which stay as they are.

    Raises:
        CorruptError: `archive-corrupt`: it is no tar, or cannot be unpacked.
        InvalidInputError: `invalid` choices, or an entry that no tar can say.
        UnavailableError: `io`, `disk-full`.
    """
    started = time.monotonic()
    try:
        made = core.convert(
            tar.fileno(),
            name,
            output,
            path,
            choices=choices,
            temporary=temporary,
            is_layer=is_layer,
            progress=counter(progress),
        )
    except CorruptError as error:
        raise CorruptError(str(error), kind="archive-corrupt", hint="get the tar again") from error
    return _written(made, started)


def pack_directory(
    root: str | os.PathLike[str],
    output: int,
    path: str | os.PathLike[str],
    choices: Choices,
    *,
    replaced: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    temporary: str | os.PathLike[str],
    progress: OnProgress | None = None,
) -> Written:
    """Write the directory `root` as an archive to the descriptor `output`, called `path`.

    Neither what `output` goes to is an entry, nor the file with the real path `replaced`, whose name the archive takes.

    Raises:
        DeniedError: `path-denied`: what may not be read, unless that is to be skipped.
        NotFoundError, InvalidInputError: `root` is missing, or no directory; `invalid` choices.
        UnavailableError: `file-changing`, `io`, `disk-full`.
    """
    started = time.monotonic()
    made = core.pack(
        root,
        output,
        path,
        replaced=replaced,
        options=options or Options(),
        choices=choices,
        temporary=temporary,
        progress=counter(progress),
    )
    return _written(made, started)


def _written(made: dict[str, Any], started: float) -> Written:
    for name in ("left_out", "absent", "unreadable"):
        made[name] = tuple(made[name])
    return Written(**made, seconds=time.monotonic() - started)


def open_tar(source: str | os.PathLike[str], temporary: str | os.PathLike[str]) -> IO[bytes]:
    """Open a tar, plain or compressed in any way that is about, so that it can be read twice; `-` is stdin.

    What cannot be read twice, and what the core cannot decompress, is kept in a nameless file in `temporary`.

    Raises:
        NotFoundError: `path-missing`.
        InvalidInputError: `not-a-file`; `invalid`: it is empty; `not-supported`: a URL; `archive-window-too-large`: xz
            needs more memory than it is given.
        CorruptError: `archive-corrupt`: what xz or bzip2 made cannot be decompressed.
        UnavailableError, DeniedError: the disk.
    """
    file = _open(source)
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file = _spooled(file, temporary)
        require_bytes(file.fileno(), _called(source))
        if (plain := inflating(file, os.pread(file.fileno(), LEAD, 0))) is not None:
            file = _inflated(plain, file, source, temporary)
    except BaseException:
        file.close()
        raise
    return file


def _open(source: str | os.PathLike[str]) -> IO[bytes]:
    if source == "-":
        return open(0, "rb", buffering=0, closefd=False)
    if "://" in os.fspath(source):
        raise InvalidInputError(
            f"{os.fspath(source).partition('?')[0]}: a tar must be here, or come through a pipe, to be converted",
            kind="not-supported",
            hint="curl URL | sapwood convert - OUT",
        )
    return os.fdopen(open_file(source), "rb", buffering=0)


def _called(source: str | os.PathLike[str]) -> str:
    return "stdin" if source == "-" else os.fspath(source)


def _spooled(file: IO[bytes], temporary: str | os.PathLike[str]) -> IO[bytes]:
    with file, writing(temporary):
        return _copied(file, temporary)


def _inflated(
    plain: XzReader | bz2.BZ2File,
    file: IO[bytes],
    source: str | os.PathLike[str],
    temporary: str | os.PathLike[str],
) -> IO[bytes]:
    with file, closing(plain), writing(temporary):
        try:
            return _copied(plain, temporary)
        except (lzma.LZMAError, EOFError, OSError) as error:
            if (told := explained(error, _called(source))) is None:
                raise
            raise told from error


@contextmanager
def spool(temporary: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Give a nameless file in `temporary` to write a tar to, for `convert`."""
    with writing(temporary), tempfile.TemporaryFile(buffering=PIECE, dir=temporary) as file:
        yield file


def _copied(file: IO[bytes] | XzReader | bz2.BZ2File, temporary: str | os.PathLike[str]) -> IO[bytes]:
    spool = tempfile.TemporaryFile(buffering=0, dir=temporary)  # noqa: SIM115 - the caller closes it
    try:
        while piece := file.read(PIECE):
            left = memoryview(piece)
            while left:
                left = left[spool.write(left) :]
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool
