"""Pull: a snapshot into a directory.

Promise: the directory has its name when all is there and right, and not before; an interrupted pull leaves nothing.
Not here: proving and writing (the core), fetching (`fetch`), how a directory appears at once (`destination`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sapwood._core.pull import Pull
from sapwood.destination import appearing
from sapwood.digests import TreeDigest
from sapwood.fetch import fetch_all, load_map
from sapwood.progress import OnProgress, Progress, counter

if TYPE_CHECKING:
    from sapwood.store.snapshot import Snapshot
    from sapwood.store.store import Store

__all__ = ["Pulled", "pull"]


@dataclass(frozen=True)
class Pulled:
    """What a pull did. `notes` name what this user or file system could not set."""

    tree: TreeDigest
    files: int
    bytes: int
    bytes_fetched: int
    requests: int
    notes: tuple[str, ...]
    seconds: float


def pull(
    store: Store, snapshot: Snapshot, destination: str | os.PathLike[str], *, progress: OnProgress | None = None
) -> Pulled:
    """Write the tree of `snapshot` to `destination`, which is missing or an empty directory.

    Raises:
        InvalidInputError: `not-empty`, `not-a-directory`, `mount-point`.
        ConflictError: `pull-running`: another pull is writing to the same place.
        CorruptError, NotFoundError: something in the store is damaged or missing; it is named.
        UnavailableError, DeniedError: the store, or the disk.
    """
    started = time.monotonic()
    with appearing(destination) as (work, target):
        file_map = load_map(store, snapshot, pages=True)
        run = Pull(file_map, work)
        try:
            fetched = fetch_all(store, run, _reporter(progress, run.bytes_needed))
            files, size, notes = run.finish(counter(progress))
        finally:
            run.close()
    return Pulled(
        tree=snapshot.tree,
        files=files,
        bytes=size,
        bytes_fetched=fetched.bytes,
        requests=fetched.requests,
        notes=tuple(note.replace(str(work), str(target), 1) for note in notes),
        seconds=time.monotonic() - started,
    )


def _reporter(progress: OnProgress | None, total: int) -> Callable[[int], None]:
    if progress is None:
        return lambda _: None
    return lambda done: progress(Progress(0, 0, done, total))
