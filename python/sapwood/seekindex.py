"""Index: an archive that was not made to be read in parts, so that it can be; the archive stays as it is.

Promise: the archive is read once; an index is there when it is whole, and not before. Not here: how it is used
(`store.beside`).
"""

from __future__ import annotations

import contextlib
import os
import stat

from sapwood.archive.opening import open_file, require_bytes
from sapwood.archive.seek import ENDING, Indexed, write_index
from sapwood.errors import ConflictError, InvalidInputError, SapwoodError
from sapwood.progress import OnProgress
from sapwood.sink import open_sink
from sapwood.store.archive import open_ranges
from sapwood.store.naming import is_remote, local_path, without_query
from sapwood.tarsource import as_it_lies

__all__ = ["Indexed", "index_archive"]


def index_archive(
    archive: str | os.PathLike[str], output: str | None = None, *, progress: OnProgress | None = None
) -> Indexed:
    """Write the index of the archive at a path or URL to `output`: a path, a bucket's URL; by default beside it.

    Raises:
        NotFoundError: `path-missing`, `object-missing`.
        InvalidInputError: `not-a-file`, `archive-not-seekable`; `invalid`: it is empty; `own-archive`; `no-output`: it
            is on a web server, where nothing is put beside it; `bad-store-url`, `store-kind-unknown`; as `open_sink`.
        CorruptError: `archive-corrupt`: it is no tar, or cannot be unpacked; an entry is named.
        ConflictError: `archive-changed`: it was written to meanwhile.
        UnavailableError, DeniedError: it cannot be read, or the index cannot be written.
    """
    path = os.fspath(archive)
    if is_remote(path):
        return _index_far(path, output, progress)
    path = local_path(path) if "://" in path else path
    file = open_file(path, os.O_NONBLOCK)
    try:
        before = _look(file, path)
        require_bytes(file, path)
        where = output if output is not None else path + ENDING
        _require_apart(file, path, where)
        with open_sink(where) as sink:
            indexed = write_index(file, path, sink.fd, sink.name, temporary=sink.temporary, progress=progress)
            if _look(file, path) != before:
                raise ConflictError(
                    f"{path}: it was changed while it was read", kind="archive-changed", hint=f"sapwood index {path}"
                )
        return indexed
    finally:
        os.close(file)


def _index_far(url: str, output: str | None, progress: OnProgress | None) -> Indexed:
    """Read an archive on a server from front to back, and keep nothing of it."""
    shown = without_query(url)
    if output is None and url.startswith(("http://", "https://")):
        raise InvalidInputError(
            f"{shown}: nothing can be put beside it on a web server",
            kind="no-output",
            hint=f"keep the index here: sapwood index {shown} --output FILE; then say --seek-index FILE",
        )
    ranges = open_ranges(url)
    if ranges.size == 0:
        raise InvalidInputError(f"{shown}: it is empty, and a tar is not", kind="invalid")
    if output is not None and output == url:
        raise InvalidInputError(
            f"{shown}: the index would take the place of the archive",
            kind="own-archive",
            hint=f"sapwood index {shown}, which writes {shown}{ENDING}",
        )
    [first] = [ranges.tail] if len(ranges.tail) == ranges.size else ranges.read([(0, len(ranges.tail))])
    ends = (ranges.size, first, ranges.tail)
    with open_sink(output if output is not None else url + ENDING) as sink, as_it_lies(ranges) as source:
        try:
            indexed = write_index(
                source.fd, shown, sink.fd, sink.name, temporary=sink.temporary, ends=ends, progress=progress
            )
        except SapwoodError:
            source.check()  # of what could not be read the core knows only that it ended
            raise
        source.check()
        ranges.check()
    return indexed


def _require_apart(file: int, path: str, output: str) -> None:
    """Raise if the index would take the archive's place."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(file), os.stat(output)):
            raise InvalidInputError(
                f"{output}: the index would take the place of the archive",
                kind="own-archive",
                hint=f"sapwood index {path}, which writes {path}{ENDING}",
            )


def _look(file: int, path: str) -> tuple[int, int]:
    state = os.fstat(file)
    if not stat.S_ISREG(state.st_mode):
        raise InvalidInputError(f"{path} is no regular file, so no archive", kind="not-a-file")
    return state.st_size, state.st_mtime_ns
