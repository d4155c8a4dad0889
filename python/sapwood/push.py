"""Push: a directory into a store, sending only what the store lacks.

Promise: a finished push survives power loss; a killed one leaves the store as it was, but for packs that nothing names,
which the next push from this machine takes up. Not here: reading, cutting and packing (the core), objects (`store`).
"""

from __future__ import annotations

import builtins
import os
import pwd
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sapwood import __version__
from sapwood._core.push import Push
from sapwood.digests import MapDigest, PackName, SnapshotDigest, TreeDigest
from sapwood.errors import CorruptError, DeniedError, InvalidInputError, NotFoundError
from sapwood.fetch import located
from sapwood.progress import OnProgress, counter
from sapwood.store.ref import check_ref_name
from sapwood.store.snapshot import Snapshot
from sapwood.tree.index import default_index_path
from sapwood.tree.options import Options

if TYPE_CHECKING:
    from sapwood.store.ref import Ref, Removed
    from sapwood.store.store import Store

__all__ = ["Pushed", "push", "require_directory"]


@dataclass(frozen=True)
class Pushed:
    """What a push did. Sizes in bytes: `chunk_bytes_sent` before compression, `bytes_stored` of all objects written."""

    tree: TreeDigest
    snapshot: SnapshotDigest
    ref: str
    entries: int
    files: int
    bytes: int
    files_hashed: int
    bytes_hashed: int
    chunks_sent: int
    chunk_bytes_sent: int
    packs_sent: int
    bytes_stored: int
    unreadable: tuple[builtins.bytes, ...]
    seconds: float
    unchanged: bool
    """The ref names this very tree already; nothing was written."""


def push(
    store: Store,
    root: str | os.PathLike[str],
    ref: str,
    *,
    index: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    progress: OnProgress | None = None,
) -> Pushed:
    """Push the directory `root` and let `ref` name the result. `index` is where its state is kept.

    Raises:
        DeniedError: `path-denied`; `paths` are all that may not be read, unless they are to be skipped.
        UnavailableError: `file-changing`; `disk-full`; or the store does not answer.
        CorruptError: `pack-missing`: the store has lost what it says it has; nothing was written.
        ConflictError: `ref-moved` by somebody else meanwhile; push again.
        NotFoundError, InvalidInputError: `root` is missing, or no directory; `bad-ref-name`; `own-store`.
        CorruptError: `ref-corrupt`, `fragment-corrupt`.
        FormatError: `format-newer`; nothing was written.
    """
    started = time.monotonic()
    _require_apart(store, root)
    before = store.ref_state(check_ref_name(ref))
    # Now, for where a newer sapwood has written nothing is changed.
    previous = _snapshot(store, before)
    fragments, pending = store.fragments(), store.pending()
    with located(store.url):
        run = Push(
            root,
            index=index or default_index_path(root, options),
            fragments=fragments,
            pending=list(pending.values()),
            options=options or Options(),
        )
    sent: list[PackName] = []
    try:
        while pack := run.next(counter(progress)):
            name = PackName(pack[0])
            store.put_pack(name, pack[1])
            store.keep_pending(name, pack[2])
            sent.append(name)
        made = run.result()
    finally:
        run.close()
    stored = made["pack_bytes_sent"]
    _require_packs(store, [PackName(name) for name in made["packs"]])
    # The order of these is the promise: a name is written after what it names (tests/faults/test_killed_push.py).
    if made["fragment"]:
        store.put_fragment(made["fragment"])
        stored += len(made["fragment"])
    unchanged = previous is not None and previous.map == made["map"]
    if previous is not None and unchanged:
        snapshot = previous.digest
    else:
        store.put_map(MapDigest(made["map"]), made["map_bytes"])
        taken = _snapshot_of(made, root, before)
        snapshot = store.write_snapshot(taken)
        stored += len(made["map_bytes"]) + len(taken.encode())
        store.move_ref(ref, snapshot, before)
    store.clear_pending([*pending, *sent])
    return Pushed(
        tree=TreeDigest(made["tree"]),
        snapshot=snapshot,
        ref=ref,
        entries=made["entries"],
        files=made["files"],
        bytes=made["bytes"],
        files_hashed=made["files_hashed"],
        bytes_hashed=made["bytes_hashed"],
        chunks_sent=made["chunks_sent"],
        chunk_bytes_sent=made["chunk_bytes_sent"],
        packs_sent=made["packs_sent"],
        bytes_stored=stored,
        unreadable=tuple(made["unreadable"]),
        seconds=time.monotonic() - started,
        unchanged=unchanged,
    )


def _require_packs(store: Store, needed: list[PackName]) -> None:
    """Raise if the store has lost a pack that its fragments name: what cannot be read must not be acknowledged."""
    if lost := sorted(set(needed) - store.packs()):
        raise CorruptError(
            f"{store.url} has no pack {lost[0][:12]}, which its index names" + (", nor others" if lost[1:] else ""),
            kind="pack-missing",
            hint=f"remove the fragments in index/ of {store.url} and push again: what is missing is then sent",
            store=store.url,
        )


def _require_apart(store: Store, root: str | os.PathLike[str]) -> None:
    """Raise if the store lies in the tree: each push would push the one before."""
    if "://" in store.url:
        return
    tree, place = os.path.realpath(root), os.path.realpath(store.url)
    if os.path.commonpath([tree, place]) == tree:
        raise InvalidInputError(
            f"the store {store.url} lies in {os.fspath(root)}, which it is to hold",
            kind="own-store",
            hint="name a store outside of what is pushed",
        )


def require_directory(root: str | os.PathLike[str]) -> None:
    """Raise what `push` would raise of a `root` that is missing or no directory."""
    try:
        os.close(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except NotADirectoryError as error:
        raise InvalidInputError(f"{os.fspath(root)} is not a directory", kind="not-a-directory") from error
    except FileNotFoundError as error:
        raise NotFoundError(f"{os.fspath(root)}: no such directory", kind="path-missing") from error
    except OSError as error:
        raise DeniedError(f"{os.fspath(root)}: {error.strerror}", kind="path-denied") from error


def _snapshot(store: Store, ref: Ref | Removed | None) -> Snapshot | None:
    """Return what the ref named; nothing when it is lost or damaged, for a push must be able to follow it even so."""
    if ref is None or ref.snapshot is None:
        return None
    try:
        return store.read_snapshot(ref.snapshot)
    except (NotFoundError, CorruptError):
        return None


def _snapshot_of(made: dict[str, Any], root: str | os.PathLike[str], before: Ref | Removed | None) -> Snapshot:
    return Snapshot(
        tree=TreeDigest(made["tree"]),
        tree_size=made["tree_size"],
        map=made["map"],
        map_size=made["map_size"],
        entries=made["entries"],
        bytes=made["bytes"],
        packs=tuple(made["packs"]),
        created=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        user=_user(),
        host=os.uname().nodename,
        source=os.path.abspath(root).encode(errors="surrogateescape").decode(errors="backslashreplace"),
        parent=before.snapshot if before else None,
        program=f"sapwood {__version__}",
    )


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
