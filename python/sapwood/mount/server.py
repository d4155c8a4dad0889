"""Serving one mount: what the kernel asks for is fetched, most urgent first.

Promise: a read is answered with proved bytes, or with EIO and a line in the log that says why, and never hangs for
longer than the limits of the store (docs/mount.md). Not here: bringing (`fetching`), the order of what is
wanted, proving, the cache (core).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from sapwood import places
from sapwood._core.mount import Server, mount_whole, unmount
from sapwood.digests import TreeDigest
from sapwood.errors import DeniedError, InvalidInputError, NotFoundError, UnavailableError
from sapwood.mount import changes, table
from sapwood.mount.completing import Completing
from sapwood.mount.early import Asking
from sapwood.mount.fetching import DEADLINE_S, OF_A_PACK, Fetching
from sapwood.mount.following import Following
from sapwood.mount.heritage import opened
from sapwood.mount.note import Note
from sapwood.mount.pace import BEGIN_BYTES
from sapwood.mount.remembered import date
from sapwood.mount.saying import say
from sapwood.mount.serving import Serving, Wish
from sapwood.profile import Profile
from sapwood.store import kept

__all__ = ["Tier", "serve"]

Tier = Literal["auto", "fuse", "native", "libfuse"]


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
    early: Asking | None = None,
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

    What was asked of the store already is `early`: of another address it does not count.

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
    library = None
    if tier == "libfuse" and trace is None:
        from sapwood.mount import libfuse

        library = libfuse.load()
    native = tier == "native" and trace is None
    # A successor has a mount already, which no profile that is gone meanwhile may end.
    following = Following(address, cache_dir, profile, takes_over=device is not None) if follow or profile else None
    origin, file_map, left, away = opened(
        address,
        place,
        cache_dir=cache_dir,
        seek_index=seek_index,
        toc=toc,
        heritage=heritage,
        offline=offline,
        meanwhile=lambda store, tree: following.ask(store, tree.tree) if following else None,
        on_found=lambda image: following.ask_beside(image) if following and not offline else None,
        early=early,
    )
    if device is None:
        # A successor must not look: the mount is there, and waits for it.
        _require_elsewhere(place, cache_dir, origin.url, writable=writable)
    # Before there is a mount to leave behind.
    wish = Wish()
    if away:
        shown = f"snapshot {left['snapshot'][:19]}" if "snapshot" in left else f"image {left['pinned']}"
        left["away"] = f"{away}: mounted is {shown}" + _as_of(left["asked"])
        say(left["away"])
    # Who could start another server, were there a device to give it.
    holder = os.getppid() if leave is not None and library is None else None
    note = Note(address, place, cache_dir, holder=holder, left=left, file_map=file_map, writable=writable)
    if device is not None:
        # Before anybody is answered: who waits for the mount to be served again finds by whom.
        note.hint(lost=table.lost(cache_dir, place))
    pin = table.pin_path(cache_dir, place)
    if native and not writable and alone and device is None and mount_whole(file_map, cache_dir, place, pin):
        return _leave_alone(note, wish, alone)
    may_pass = not (native or writable or library is not None or trace is not None)
    # To have the mount and make it busy for nobody takes root.
    may_walk = may_pass and os.geteuid() == 0
    with _claimed(place, is_claimed=is_claimed or not writable):
        was_mounted = device is not None or table.is_mounted(place)
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
        except (UnavailableError, DeniedError):
            # It may be mounted, and what is open of it could not be written down: nobody will serve it.
            if may_pass and not was_mounted:
                with contextlib.suppress(InvalidInputError, UnavailableError):
                    unmount(place, True)
            raise
        if trace is not None:
            server.start_trace()
        if may_walk:
            server.walk([sys.executable, "-I", "-S", os.fspath(Path(__file__).with_name("walker.py"))])
        fetching = Fetching(origin, server, deadline_s, lambda why: note.hint(lost=why))
        serving = Serving(server, fetching, note, wish, taking_over=device is not None, layered=native or writable)
        try:
            if device is None:
                note.write()
            try:
                serving.establish()
            except NotFoundError as error:
                error.hint = "mount it once without --offline, with --wait" if offline else None
                raise
            if writable and device is None:
                changes.note_root(place)
            if library is not None:
                from sapwood.mount import libfuse

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
            serving.stays = serving.stays or holder is not None
            serving.go_on(completing, cache_size, file_map.bytes)
        finally:
            serving.end()
            _write_what_it_saw(server, TreeDigest(file_map.tree), stats, trace)
    return wish.signal


def _leave_alone(note: Note, wish: Wish, alone: Callable[[], object]) -> int | None:
    """Of a mount that needs nobody, say so, unless it is to end by now."""
    note.hint(server=0, holder=None, lacking=0)
    if wish:
        unmount(note.place, True)
        table.forget(note.cache_dir, note.place)
        return wish.signal
    alone()
    return None


@contextlib.contextmanager
def _claimed(place: Path, *, is_claimed: bool) -> Iterator[None]:
    """Have the claim to the changes of a place, unless whoever started this has it, or none is needed."""
    claimed = None if is_claimed else changes.claim(place)
    try:
        yield
    finally:
        if claimed is not None:
            changes.release(place, claimed)


def _require_elsewhere(place: Path, cache_dir: Path, url: str, *, writable: bool) -> None:
    used = {"cache": str(cache_dir), "store": url}
    for what, where in (used | ({"place of its changes": str(places.changes_dir())} if writable else {})).items():
        if _is_below(where, place):
            raise InvalidInputError(
                f"{place}: the {what} {where} lies below it, and the mount would wait for itself",
                kind="own-mount",
                hint="mount elsewhere",
            )


def _as_of(asked: int | None) -> str:
    return "" if asked is None else f", which it named at {date(asked)}"


def _write_what_it_saw(server: Server, tree: TreeDigest, stats: str | None, trace: str | None) -> None:
    # First what cannot be had again, whole or not at all.
    if trace is not None:
        run = Profile.of_run(tree, date(int(time.time())), server.traced(), server.looked_up())
        kept.write(Path(trace), run.encode())
    if stats is not None:
        Path(stats).write_text(json.dumps(server.stats()), encoding="utf-8")


def _is_below(where: str, place: Path) -> bool:
    if "://" in where:
        return False
    mount, path = os.path.realpath(place), os.path.realpath(where)
    return os.path.commonpath([mount, path]) == mount
