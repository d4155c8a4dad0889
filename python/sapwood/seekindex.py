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
from sapwood.errors import ConflictError, InvalidInputError
from sapwood.progress import OnProgress
from sapwood.sink import open_sink

__all__ = ["Indexed", "index_archive"]


def index_archive(
    archive: str | os.PathLike[str], output: str | None = None, *, progress: OnProgress | None = None
) -> Indexed:
    """Write the index of the archive at a path to `output`: a path, a bucket's URL; by default beside the archive.

    Raises:
        NotFoundError: `path-missing`.
        InvalidInputError: `not-a-file`, `archive-not-seekable`; `invalid`: it is empty; `own-archive`; as `open_sink`.
        CorruptError: `archive-corrupt`: it is no tar, or cannot be unpacked; an entry is named.
        ConflictError: `archive-changed`: it was written to meanwhile.
        UnavailableError, DeniedError: the disk.
    """
    path = os.fspath(archive)
    file = _open(path)
    try:
        before = _look(file, path)
        require_bytes(file, path)
        where = output if output is not None else path + ENDING
        _require_apart(file, path, where)
        with open_sink(where) as sink:
            indexed = write_index(file, path, sink.fd, sink.name, progress=progress)
            if _look(file, path) != before:
                raise ConflictError(
                    f"{path}: it was changed while it was read", kind="archive-changed", hint=f"sapwood index {path}"
                )
        return indexed
    finally:
        os.close(file)


def _open(path: str) -> int:
    if "://" in path:
        raise InvalidInputError(
            f"{path}: an archive must be here to be indexed",
            kind="not-a-file",
            hint=f"fetch it, index that, and put ARCHIVE{ENDING} beside {path}",
        )
    return open_file(path, os.O_NONBLOCK)


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
