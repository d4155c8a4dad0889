"""Serving one mount: what the kernel asks for is fetched, most urgent first.

Promise: a read is answered with proved bytes, or with EIO and a line in the log that says why, and never hangs for
longer than the limits of the store (docs/mount.md). Not here: bringing (`fetching`), the order of what is
wanted, proving, the cache (core).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sapwood import places
from sapwood._core.mount import Server, mount_whole, unmount
from sapwood.digests import TreeDigest
from sapwood.errors import InvalidInputError, NotFoundError, UnavailableError
from sapwood.mount import changes, libfuse, table
from sapwood.mount.completing import Completing
from sapwood.mount.fetching import DEADLINE_S, OF_A_PACK, Fetching
from sapwood.mount.following import Following
from sapwood.mount.heritage import opened
from sapwood.mount.pace import BEGIN_BYTES
from sapwood.mount.remembered import date
from sapwood.mount.saying import Complaints, say
from sapwood.profile import Profile
from sapwood.store.archive import Archive, ArchiveTree
from sapwood.store.naming import without_query
from sapwood.store.snapshot import Snapshot
from sapwood.store.store import Store

__all__ = ["Tier", "serve"]

Tier = Literal["auto", "fuse", "native", "libfuse"]


_TICK_S = 0.5


def serve(
    address: str,
    place: Path,
    *,
    cache_dir: Path,
    ready: Callable[[], None] = lambda: None,
    leave: Callable[[int | None, dict[str, Any]], None] | None = None,
    alone: Callable[[], object] | None = None,
    device: int | None = None,
    heritage: dict[str, Any] | None = None,
    prefetch: bool = True,
    tier: Tier = "auto",
    cache_size: int | None = None,
    seek_index: str | None = None,
    toc: str | None = None,
    stats: str | None = None,
    follow: bool = True,
    profile: str | None = None,
    trace: str | None = None,
    passthrough: bool | None = None,
    deadline_s: float = DEADLINE_S,
    offline: bool = False,
    writable: bool = False,
    is_claimed: bool = False,
) -> int | None:
    """Mount `address` at `place`, call `ready`, and serve until it is unmounted, or a signal says to end.

    `tier` is docs/mount.md's: `native` needs root and all pages of the file map first; `libfuse` needs mfusepy; `auto`
    is `fuse`, and what is traced is, too.

    The cache is held to `cache_size` bytes, or so that a tenth of the disk's space stays free: what was used longest
    ago goes. A tree that is larger is fetched as far as it is read.

    Pages of the file map are always fetched in the background, with `prefetch` all contents too. An archive is read by
    `seek_index`, a path or URL, if that is given, and has its TOC at `toc`, if it is elsewhere. `stats` is a file that
    gets the server's counts as JSON when it ends.
    With `follow` what was recorded of the tree is fetched at once, behind what somebody waits for: by what the store
    knows of the tree or the ref, or by the file `profile`. `trace` is a file that gets the profile of this mount when
    it ends.

    Complete files are read by the kernel itself, past this process, where it can, we are root, and nothing is traced:
    if `passthrough`, or by default if the mean entry is so large that it pays.

    A read of what is not in the cache gets EIO when the store has brought nothing for `deadline_s` seconds; with
    `offline` at once, and the store is asked nothing: what the address names is what it named when it was last mounted.
    So it is when the store is away, which is said.

    A `writable` mount takes changes, which are kept by its place (`changes`); it needs root. The claim to them is taken
    here, unless it `is_claimed` by whoever started this.

    `leave` gets, before `ready`, the mount's device and the `heritage` of a successor: whoever keeps both may let one
    take over, when this process has died. Of the `libfuse` tier there is no device, and nobody can.

    `alone` is called instead when all of the tree is here, and proved, and the tier is `native`, and not
    `writable`: then the mount needs nobody, and this returns at once. Without it such a mount is served too.

    Return the number of the signal that ended it, None when it was unmounted.

    Raises:
        InvalidInputError: `bad-mount-point`; `own-mount`: the cache or the store would lie on the mount itself.
        InvalidInputError: `bad-argument`: the `libfuse` tier cannot be `writable`.
        ConflictError: `changes-of-another`.
        CorruptError: `changes-unreadable`.
        UnavailableError: `changes-in-use`.
        UnavailableError: `mount-failed`; `libfuse-missing`.
        CorruptError: `profile-corrupt`: of the file `profile`; that of a store is passed over.
        NotFoundError: `not-kept`: `offline`, and nothing of it is kept on this machine.
        SapwoodError: as `open_address` and `load_map`.
    """
    place = table.place_of(place)
    if tier == "libfuse" and writable:
        raise InvalidInputError("the libfuse tier takes no changes", kind="bad-argument", hint="--tier fuse")
    library = libfuse.load() if tier == "libfuse" and trace is None else None
    # A successor has a mount already, which no profile that is gone meanwhile may end.
    following = Following(address, cache_dir, profile, takes_over=device is not None) if follow or profile else None

    def look(store: Store | Archive, snapshot: Snapshot | ArchiveTree) -> None:
        if following is not None:
            following.ask(store, snapshot.tree)

    origin, file_map, left, away = opened(
        address,
        place,
        cache_dir=cache_dir,
        seek_index=seek_index,
        toc=toc,
        heritage=heritage,
        offline=offline,
        meanwhile=look,
    )
    used = {"cache": str(cache_dir), "store": origin.url}
    for what, where in (used | ({"place of its changes": str(places.changes_dir())} if writable else {})).items():
        # A successor must not look: the mount is there, and waits for it.
        if device is None and _is_below(where, place):
            raise InvalidInputError(
                f"{place}: the {what} {where} lies below it, and the mount would wait for itself",
                kind="own-mount",
                hint="mount elsewhere",
            )
    # Before there is a mount to leave behind. The handler only notes the wish: a second signal disturbs no cleaning up.
    asked_to_end, asked_by = threading.Event(), []

    def end(signo: int, _: object) -> None:
        asked_by.append(signo)
        asked_to_end.set()

    for signo in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signo, end)
    if away:
        left["away"] = f"{away}: mounted is snapshot {left['snapshot'][:19]}" + _as_of(left["asked"])
        say(left["away"])
    # Who could start another server, were there a device to give it.
    holder = os.getppid() if leave is not None and library is None else None
    said: dict[str, object] = {
        "snapshot": left.get("snapshot"),
        "map": left["map"],
        "map_size": left.get("map_size"),
        "changes": os.fsdecode(changes.directory_of(place)) if writable else None,
        "asked": left.get("asked"),
        "away": left.get("away", ""),
        "bytes": file_map.bytes,
        "problem": "",
        "lacking": None,
    }

    complaints = Complaints()

    def note(**more: object) -> None:
        said.update(more)
        table.record(cache_dir, place, without_query(address), holder, said)

    def hint(**more: object) -> bool:
        """Note it, of a mount that is there, whether or not the disk takes it; say whether it did."""
        with complaints.heard():
            note(**more)
            return True
        return False

    # Before anybody is answered: who waits for the mount to be served again finds by whom.
    noted = device is not None and hint()
    native = tier == "native" and trace is None
    may_pass = not (native or writable or library is not None or trace is not None)
    pin = table.pin_path(cache_dir, place)
    if native and not writable and alone and device is None and mount_whole(file_map, cache_dir, place, pin):
        hint(server=0, holder=None, lacking=0)
        if asked_to_end.is_set():
            unmount(place, True)
            table.forget(cache_dir, place)
            return asked_by[0]
        alone()
        return None
    claimed = changes.claim(place) if writable and not is_claimed else None
    try:
        server = Server(
            file_map,
            cache_dir,
            place,
            native=native,
            in_flight=BEGIN_BYTES,
            of_a_pack=OF_A_PACK,
            by_library=library is not None,
            device=device,
            record=table.record_path(cache_dir, place) if may_pass else None,
            passthrough=passthrough,
            changes=changes.begin(place, address, left) if writable and device is None else None,
        )
    except BaseException:
        if claimed is not None:
            changes.release(place, claimed)
        raise
    if trace is not None:
        server.start_trace()
    # It stays when this server fails: for a successor, and when none can serve it, for its place would look empty.
    stays = device is not None
    # Of layers it is made by `establish`; if that fails, what is there is another one.
    is_made = stays or not (native or writable)
    try:
        if device is None:
            note()
            noted = True
        fetching = Fetching(origin, server, deadline_s)
        fetching.start()
        try:
            server.establish()
        except NotFoundError as error:
            error.hint = "mount it once without --offline, with --wait" if offline else None
            raise
        is_made = True
        if writable and device is None:
            changes.note_root(place)
        if library is not None:
            libfuse.mount(library, server, place)
        if leave is not None and device is None:
            leave(server.device, left)
        if following is not None and not offline:
            following.begin(server, TreeDigest(file_map.tree))
        whole = prefetch and not offline and (cache_size is None or file_map.bytes <= cache_size)
        server.prefetch(whole)
        completing = Completing(server, cache_dir, fetch=whole)
        completing.start()
        ready()
        stays = stays or holder is not None
        while not (server.closed or asked_to_end.wait(_TICK_S)):
            # Whatever is wrong with the disk, what is here can be read.
            with complaints.heard():
                fetching.expire()
            news = {"problem": fetching.problem, "lacking": completing.lacking, "whole": completing.fetches}
            if not (noted and said == {**said, **news}) and not server.closed:
                noted = hint(**news)
            with complaints.heard():
                if server.tidy(cache_size):
                    bound = server.bound if cache_size is None else cache_size
                    completing.shrunk(fits=bound is not None and file_map.bytes <= bound)
    finally:
        # Lazily: who still uses it would get errors from a server that is gone all the same. When it is gone already,
        # what is there by now is another mount.
        ends = asked_to_end.is_set() or not stays
        if is_made and ends and not server.closed:
            with contextlib.suppress(InvalidInputError, UnavailableError):
                unmount(place, True)
        if server.closed or ends:
            table.forget(cache_dir, place, os.getpid())
        if claimed is not None:
            changes.release(place, claimed)
        if stats is not None:
            _write_stats(Path(stats), server)
        if trace is not None:
            run = Profile.of_run(TreeDigest(file_map.tree), date(int(time.time())), server.traced())
            Path(trace).write_bytes(run.encode())
    return asked_by[0] if asked_by else None


def _as_of(asked: int | None) -> str:
    return "" if asked is None else f", which it named at {date(asked)}"


def _write_stats(path: Path, server: Server) -> None:
    import json

    path.write_text(json.dumps(server.stats()), encoding="utf-8")


def _is_below(where: str, place: Path) -> bool:
    if "://" in where:
        return False
    mount, path = os.path.realpath(place), os.path.realpath(where)
    return os.path.commonpath([mount, path]) == mount
