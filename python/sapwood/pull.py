"""Pull: a snapshot, or an archive, into a directory.

Promise: a new directory has its name when all is there and right, and not before; an interrupted pull leaves nothing.
In a directory that has something in it what is right is left alone, and each other file changes at once, when it is
there and right; whatever a pull that was killed left there, the next one ends right.
Not here: comparing, proving and writing (the core), fetching (`fetch`), how a directory appears (`destination`).
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapwood import places
from sapwood._core.pull import Present, Pull
from sapwood.destination import appearing, being_written, is_filled
from sapwood.digests import TreeDigest
from sapwood.errors import InvalidInputError, SapwoodError, StoppedError
from sapwood.fetch import Fetched, fetch_all, load_map
from sapwood.progress import OnProgress, counter, fetching
from sapwood.tree.index import default_index_path
from sapwood.tree.options import Options

if TYPE_CHECKING:
    from sapwood.store.archive import Archive, ArchiveTree
    from sapwood.store.snapshot import Snapshot
    from sapwood.store.store import Store

__all__ = ["Pulled", "pull"]


@dataclass(frozen=True)
class Pulled:
    """What a pull did. `notes` name what this user or file system could not set.

    Of the tree's entries, the directory itself included, so many were `left_alone`, `written`, or `fixed`: only owner,
    mode, times or attributes differed. Of the entries that the tree has not, so many were `removed`, and so many are
    still there (`extra`); what rules leave out (docs/selection.md) is neither.
    """

    tree: TreeDigest
    files: int
    bytes: int
    left_alone: int
    written: int
    fixed: int
    removed: int
    extra: int
    bytes_fetched: int
    requests: int
    notes: tuple[str, ...]
    seconds: float


def pull(
    store: Store | Archive,
    snapshot: Snapshot | ArchiveTree,
    destination: str | os.PathLike[str],
    *,
    delete: bool = False,
    index: str | os.PathLike[str] | None = None,
    progress: OnProgress | None = None,
) -> Pulled:
    """Make `destination` the tree of `snapshot`; `index` is where its state is kept.

    If it is missing or empty, it appears when all is there. If there is something in it, what differs is replaced, file
    by file, and what the tree has not stays, or is removed with `delete`.

    Raises:
        InvalidInputError: `not-a-directory`, `mount-point`; `own-store`, `own-cache`: `delete` would remove the
            store, the index or the user's cache.
        ConflictError: `pull-running`: another pull is writing to the same place; `in-the-way`: a directory that is not
            empty stands where the tree has something else, and without `delete` nothing is removed.
        CorruptError, NotFoundError: something in the store is damaged or missing; it is named.
        UnavailableError, DeniedError: the store, or the disk; `file-changing`: somebody else writes there.
    """
    started = time.monotonic()
    if is_filled(destination):
        if delete:
            _require_apart(store, destination, index)
        with being_written(destination) as place:
            done, fetched = _update(store, snapshot, place, delete, index, progress)
    else:
        with appearing(destination) as (work, target):
            run = Pull(load_map(store, snapshot, pages=True), work)
            try:
                done, fetched = _run(store, run, progress)
            except BaseException:
                run.close()
                raise
        try:
            done["notes"] = [note.replace(str(work), str(target), 1) for note in done["notes"]]
            _record(run, snapshot, target, index, done)
        finally:
            run.close()
    return Pulled(
        tree=snapshot.tree,
        files=done["files"],
        bytes=done["bytes"],
        left_alone=done["left_alone"],
        written=done["written"],
        fixed=done["fixed"],
        removed=done["removed"],
        extra=done["extra"],
        bytes_fetched=fetched.bytes,
        requests=fetched.requests,
        notes=tuple(done["notes"]),
        seconds=time.monotonic() - started,
    )


def _update(
    store: Store | Archive,
    snapshot: Snapshot | ArchiveTree,
    target: str,
    delete: bool,
    index: str | os.PathLike[str] | None,
    progress: OnProgress | None,
) -> tuple[dict[str, Any], Fetched]:
    present = Present(target, index or default_index_path(target), Options(), counter(progress))
    held = present.holds(snapshot.map)
    if held and not (delete and held[3]):
        entries, files, size, extra = held
        counts = {"left_alone": entries, "written": 0, "fixed": 0, "removed": 0, "extra": extra}
        return {"files": files, "bytes": size, "notes": [], **counts}, Fetched()
    run = Pull.update(load_map(store, snapshot, pages=True), present, delete, secrets.randbits(64))
    try:
        done, fetched = _run(store, run, progress)
        _record(run, snapshot, target, index, done)
    finally:
        run.close()
    return done, fetched


def _run(store: Store | Archive, run: Pull, progress: OnProgress | None) -> tuple[dict[str, Any], Fetched]:
    fetched = fetch_all(store, run, fetching(progress, run.bytes_needed))
    return run.finish(counter(progress)), fetched


def _record(
    run: Pull,
    snapshot: Snapshot | ArchiveTree,
    target: str | os.PathLike[str],
    index: str | os.PathLike[str] | None,
    done: Any,
) -> None:
    """Keep what is known of the directory now; without a place for it, the next look takes longer."""
    try:
        run.record(snapshot.map, index or default_index_path(target), Options())
    except StoppedError:
        raise
    except SapwoodError as error:
        if error.kind == "file-changing":
            raise
        done["notes"].append(f"index not written: {error}")


def _require_apart(
    store: Store | Archive, destination: str | os.PathLike[str], index: str | os.PathLike[str] | None
) -> None:
    """Raise if what this pull itself needs lies in the directory: it would be removed."""
    needed = [("cache", places.cache_dir(), "own-cache", "set SAPWOOD_CACHE to another directory")]
    if index is not None:
        needed.append(("index", Path(index), "own-cache", "name another --index"))
    if "://" not in store.url:
        needed.append(("store", Path(store.url), "own-store", "move the store"))
    within = os.path.realpath(destination)
    for what, place, kind, hint in needed:
        if os.path.commonpath([os.path.realpath(place), within]) == within:
            raise InvalidInputError(
                f"the {what} {place} lies in {os.fspath(destination)}, and would be removed as no part of the tree",
                kind=kind,
                hint=f"pull without --delete, or {hint}",
            )
