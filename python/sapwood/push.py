"""Push: a directory, or a tar, into a store, sending only what the store lacks.

Promise: a finished push survives power loss; a killed one leaves the store as it was, but for packs that nothing names,
which the next push from this machine takes up. Not here: reading, cutting and packing (the core), objects (`store`).
"""

from __future__ import annotations

import builtins
import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sapwood import __version__
from sapwood._core.push import Push, holdings_of, merged
from sapwood.basis import Basis, find_basis, seen_or_confirmed
from sapwood.digests import ContentDigest, MapDigest, PackName, SnapshotDigest, TreeDigest
from sapwood.errors import CorruptError, DeniedError, InternalError, InvalidInputError, NotFoundError
from sapwood.fetch import located
from sapwood.progress import OnProgress, counter
from sapwood.store.lease import Term, clock_s
from sapwood.store.naming import names_image
from sapwood.store.record import encode
from sapwood.store.ref import Ref, Removed, check_ref_name
from sapwood.store.snapshot import Snapshot, user
from sapwood.tarstream import write_chunks
from sapwood.tree.index import Index
from sapwood.tree.options import Options
from sapwood.upload import Uploads

if TYPE_CHECKING:
    from sapwood._core.filemap import FileMap
    from sapwood.mount.shown import Shown
    from sapwood.store.store import Store
    from sapwood.tarsource import TarSource

__all__ = [
    "Pushed",
    "check_level",
    "commit",
    "is_tar",
    "outline_words",
    "push",
    "push_archive",
    "push_upon",
    "require_directory",
]

# What a push adds is not worth a request of its own while it is less than this, and what is owed less than that, which
# is about 1,000 chunks. The holdings name it for the next push; docs/decisions/0012-owed-fragments.md.
_LITTLE = 1024 * 1024
_OWED = 64 * 1024


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
    bytes_reused: int
    """Of the tree's files, what was in the store already, or in another file of the tree."""
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
    level: int | None = None,
    progress: OnProgress | None = None,
    thorough: bool = True,
) -> Pushed:
    """Push the directory `root` and let `ref` name the result. `index` is where its state is kept.

    What is sent is compressed by zstd's `level`, 1 to 19, by default fast: docs/decisions/0006-shared-frames.md.
    If not `thorough`, only what this machine saw the ref name last is re-used, and nothing is asked for to find out
    what else the store has: for little, which is sent sooner.

    Of a mount of sapwood only what was changed in it is read, and no state is kept but where `index` says:
    docs/writable.md.

    Raises:
        DeniedError: `path-denied`; `paths` are all that may not be read, unless they are to be skipped.
        UnavailableError: `file-changing`; `disk-full`; or the store does not answer.
        ConflictError: `ref-moved` by somebody else meanwhile, or `pack-condemned`; push again.
        UnavailableError: `push-too-slow` for the grace of the store; push again.
        NotFoundError, InvalidInputError: `root` is missing, or no directory; `bad-ref-name`; `own-store`.
        InvalidInputError: `bad-argument`: there is no such level.
        CorruptError: `ref-corrupt`, `fragment-corrupt`, `record-corrupt`.
        FormatError: `format-newer`; nothing was written.
    """
    _require_apart(store, root)
    check_ref_name(ref)
    check_level(level)
    found = Index(root, index, options)
    if (mount := _shown(root)) is not None:

        def look_at_mount() -> Push:
            return Push(
                root,
                index=index,
                options=found.options,
                progress=counter(progress),
                base=mount.file_map,
                upper=mount.upper,
            )

        return _push(store, os.path.abspath(root), ref, look_at_mount, lambda: None, progress, level=level, shown=mount)

    def look() -> Push:
        return Push(root, index=found.path, options=found.options, progress=counter(progress))

    hash_first = partial(found.hash, progress=progress)
    return _push(store, os.path.abspath(root), ref, look, hash_first, progress, level=level, thorough=thorough)


def push_archive(
    store: Store,
    tar: TarSource,
    ref: str,
    *,
    level: int | None = None,
    told: bytes | None = None,
    progress: OnProgress | None = None,
) -> Pushed:
    """Push what unpacking a tar gives, and what of it is no content, so that `tarstream.write_tar` gives it back.

    The tar is read once. What memory should not hold of it, and contents that a later entry of their name replaced, are
    kept in nameless files meanwhile. One that was made for this is not given back; in it, what has the attribute `told`
    has the content that this says, which is one of those of the tree that `ref` names.

    Raises:
        NotFoundError: `missing`: a content that was told is not to be had.
        CorruptError: `archive-corrupt`: it is no tar, or cannot be unpacked, and the entry is named.
        NotFoundError, UnavailableError, DeniedError: the tar cannot be read.
        SapwoodError: as `push`.
    """

    def look() -> Push:
        return Push.of_archive(tar.fd, tar.name, stored=tar.stored, temporary=tempfile.gettempdir(), told=told)

    check_level(level)
    is_place = tar.name == "stdin" or "://" in tar.name or names_image(tar.name)
    name = tar.name if is_place else os.path.abspath(tar.name)
    try:
        pushed = _push(
            store, name, check_ref_name(ref), look, lambda: None, progress, lambda _: tar.check(), level=level
        )
    except (CorruptError, InvalidInputError) as error:
        # It ends too early for the core because reading it has failed.
        tar.check()
        if error.kind != "damaged" or not str(error).startswith(f"{tar.name} is damaged"):
            raise
        raise CorruptError(str(error), kind="archive-corrupt", hint="get the tar again") from error
    return pushed


def push_upon(store: Store, root: str, ref: str, base: FileMap | None, entries: int) -> Pushed:
    """Push the tree of `base`, which `ref` names, with what the directory `root` adds to it: `entries` in all.

    All pages of `base` have been brought. No directory of `root` replaces anything of it, and no state is kept.

    Raises:
        ConflictError: `ref-moved`: the ref names something else.
        InternalError: `internal`: something of the two would have been lost; nothing was pushed.
        SapwoodError: as `push`.
    """

    def look() -> Push:
        return Push(root, index=None, options=Options(), base=base, upper=root if base else None)

    def check(made: dict[str, Any]) -> None:
        if made["entries"] != entries:
            raise InternalError(f"{ref}: the tree would have {made['entries']} entries, not {entries}", kind="internal")

    return _push(store, root, check_ref_name(ref), look, lambda: None, None, check)


def _push(
    store: Store,
    source: str,
    ref: str,
    look: Callable[[], Push],
    hash_first: Callable[[], object],
    progress: OnProgress | None,
    check: Callable[[dict[str, Any]], None] = lambda _: None,
    *,
    level: int | None = None,
    shown: Shown | None = None,
    thorough: bool = True,
) -> Pushed:
    """Push what `look` looks at, named `source`, a mount of `shown`.

    `check` raises if it was not all there; it gets what the core made.
    """
    started, since_s = time.monotonic(), clock_s()
    before = store.ref_state(ref)
    seen = seen_or_confirmed(store, before)
    nonce = os.urandom(8).hex()
    # Before the hashing, which may take longer than the store's grace allows without a lease.
    with store.term(nonce, since_s) as term:
        basis = find_basis(store, before, seen, hash_first) if thorough or seen else Basis(usable=([], []), brief=True)
        run = look()
        uploads = Uploads(store, term)
        try:
            told = []
            if shown and shown.is_stored and not (basis.previous and basis.previous.map == shown.map):
                # Where the store has the tree below the changes, as far as that may be re-used.
                told.append(holdings_of(shown.file_map))
                basis = basis if basis.usable else basis.looked_up(store)
            lacking = run.lacking(basis.holdings) if basis.usable and thorough else 0
            fragments, owed = basis.fragments(store, lacking)
            words = _words(source, before)
            with located(store.url):
                run.begin(
                    push=nonce,
                    level=level,
                    words=outline_words(nonce, ref, before, words),
                    content=basis.previous.content if basis.previous else None,
                    holdings=basis.holdings,
                    memory=basis.memory,
                    fragments=[*fragments, *owed.values(), *told],
                    pending=list(basis.pending.values()),
                    usable=basis.usable,
                )
            with uploads:
                _upload(run, uploads, progress)
                if missed := run.missed():
                    uploads.finish()
                    with tempfile.TemporaryFile() as chunks:
                        write_chunks(store, missed, chunks, lambda _: uploads.check())
                        chunks.seek(0)
                        run.give(chunks.fileno(), tempfile.gettempdir())
                        _upload(run, uploads, progress)
                uploads.finish()
            made = run.result()
            check(made)
        finally:
            run.close()
        snapshot, stored = commit(store, ref, before, basis, made, words, term, uploads)
    return Pushed(
        tree=TreeDigest(made["tree"]),
        snapshot=snapshot.digest,
        ref=ref,
        entries=made["entries"],
        files=made["files"],
        bytes=made["bytes"],
        files_hashed=made["files_hashed"],
        bytes_hashed=made["bytes_hashed"],
        bytes_reused=max(0, made["bytes"] - made["content_bytes_sent"]),
        chunks_sent=made["chunks_sent"],
        chunk_bytes_sent=made["chunk_bytes_sent"],
        packs_sent=made["packs_sent"],
        bytes_stored=stored,
        unreadable=tuple(made["unreadable"]),
        seconds=time.monotonic() - started,
        unchanged=made["unchanged"],
    )


def check_level(level: int | None) -> int | None:
    """Return it, a level of zstd, or None.

    Raises:
        InvalidInputError: `bad-argument`.
    """
    if level is not None and not 1 <= level <= 19:
        raise InvalidInputError(f"{level} is no level: those of zstd are 1 to 19", kind="bad-argument")
    return level


def _shown(root: str | os.PathLike[str]) -> Shown | None:
    """Return what is shown by a mount; errors as `sapwood.mount.shown.shown`."""
    if not os.path.ismount(root):
        return None
    from sapwood.mount.shown import shown

    return shown(root)


def _upload(run: Push, uploads: Uploads, progress: OnProgress | None) -> None:
    """Upload packs until there are no more for now."""
    while (pack := run.next(uploads.ticking(progress))) is not None:
        uploads.add(PackName(pack[0]), *pack[1:])
        del pack  # which would keep its memory from being filled again


def commit(
    store: Store,
    ref: str,
    before: Ref | Removed | None,
    basis: Basis,
    made: dict[str, Any],
    words: dict[str, Any],
    term: Term,
    uploads: Uploads,
) -> tuple[Snapshot, int]:
    """Put what names the packs of a run, which have been stored, and move the ref.

    Return what the ref names now, and how many bytes the run stored in all.
    """
    # The order of these is the promise: a name is written after what it names (tests/faults/test_killed_push.py).
    stored = int(made["pack_bytes_sent"])
    stored += _put_fragment(store, made["fragment"], stored, basis)
    moved, snapshot = before, basis.previous
    if not made["unchanged"]:
        store.put_map(MapDigest(made["map"]), made["map_bytes"])
        snapshot = _snapshot_of(made, words)
        store.write_snapshot(snapshot)
        stored += len(made["map_bytes"]) + len(snapshot.encode())
        moved = store.move_ref(ref, snapshot.digest, before, lambda: term.require(map(PackName, made["reused"])))
    store.clear_pending([*basis.pending, *uploads.sent])
    assert isinstance(moved, Ref)  # a ref that names nothing has no content to be unchanged
    assert snapshot is not None
    holdings = made["holdings"] or basis.holdings
    if holdings and (made["memory"] or moved is not before or not basis.warm):
        store.saw(moved, snapshot, holdings, made["memory"])
    return snapshot, stored


def _put_fragment(store: Store, fragment: bytes | None, pack_bytes: int, basis: Basis) -> int:
    """Put what the push added by packs of so many bytes, or owe it where it is little; return the bytes put."""
    if not fragment:
        return 0
    owed = store.owed()
    is_little = pack_bytes < _LITTLE and len(fragment) + sum(map(len, owed.values())) < _OWED
    if (basis.warm or basis.brief) and is_little:
        store.owe_fragment(fragment)
        return 0
    if owed:
        fragment = merged([fragment, *owed.values()])
    store.put_fragment(fragment)
    store.settle_owed(owed)
    return len(fragment)


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


def is_tar(what: str | os.PathLike[str]) -> bool:
    """Say whether what is to be pushed is read as a tar: `-`, a URL, a file, or a pipe."""
    if what == "-" or "://" in os.fspath(what):
        return True
    with contextlib.suppress(OSError):
        mode = os.stat(what).st_mode
        return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)
    return False


def require_directory(root: str | os.PathLike[str]) -> None:
    """Raise what `push` would raise of a `root` that is missing or no directory."""
    try:
        os.close(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except NotADirectoryError as error:
        raise InvalidInputError(f"{os.fspath(root)} is not a directory", kind="not-a-directory") from error
    except FileNotFoundError as error:
        name = os.fspath(root)
        raise NotFoundError(
            f"{name}: no such directory or tar",
            kind="path-missing",
            hint=f"from store to store: sapwood cp {name} ADDRESS" if "#" in name else None,
        ) from error
    except OSError as error:
        raise DeniedError(f"{os.fspath(root)}: {error.strerror}", kind="path-denied") from error


def _words(source: str, before: Ref | Removed | None) -> dict[str, Any]:
    """Who pushes, when, from what: as the snapshot and the outline say it."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "user": user(),
        "host": os.uname().nodename,
        "source": source.encode(errors="surrogateescape").decode(errors="backslashreplace"),
        "parent": before.snapshot if before else None,
        "program": f"sapwood {__version__}",
    }


def outline_words(nonce: str, ref: str, before: Ref | Removed | None, words: dict[str, Any]) -> bytes:
    """Return the outline's beginning: docs/format.md, "Archives and packs"."""
    return encode({"push": nonce, "ref": ref, "counter": before.counter + 1 if before else 1, **words})


def _snapshot_of(made: dict[str, Any], words: dict[str, Any]) -> Snapshot:
    return Snapshot(
        tree=TreeDigest(made["tree"]),
        tree_size=made["tree_size"],
        map=MapDigest(made["map"]),
        map_size=made["map_size"],
        content=ContentDigest(made["content"]),
        entries=made["entries"],
        bytes=made["bytes"],
        packs=tuple(map(PackName, made["packs"])),
        **words,
    )
