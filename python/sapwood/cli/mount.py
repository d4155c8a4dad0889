"""`sapwood mount`, `umount`, `mounts`: trees as directories, before they have arrived."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import (
    Command,
    add_cache_size,
    add_deadline,
    add_json,
    add_offline,
    add_platform,
    add_prefetch,
    add_profile,
    add_seek_index,
    add_tier,
    add_toc,
    add_writable,
    cache_size,
    deadline_s,
    for_platform,
    of_remote_store,
    tier,
)
from sapwood.cli.progress import opening
from sapwood.cli.signals import leave_by_finally, stay

# How often a mount is looked at that is waited for.
_TICK_S = 0.1

if TYPE_CHECKING:
    from sapwood.mount import Mount
    from sapwood.mount.begun import Begun
    from sapwood.mount.changes import Changes
    from sapwood.mount.process import Started


def absolute(address: str) -> str:
    """Return an address that means the same from every working directory and under every default store."""
    from sapwood.store import Address
    from sapwood.store.naming import may_name_archive, names_image

    if names_image(address):
        from sapwood.image import ImageName

        return str(ImageName.parse(address))
    if may_name_archive(address):
        return address if "://" in address else os.path.abspath(address)
    parsed = Address.parse(address)
    url = parsed.store_url if "://" in parsed.store_url else os.path.abspath(parsed.store_url)
    return str(Address(url, parsed.ref, parsed.pin))


def absolute_path(path: str | None) -> str | None:
    """Return the path or URL of what belongs to an archive so that it means the same from every working directory."""
    return path if path is None or "://" in path else os.path.abspath(path)


def _configure_mount(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="which tree")
    parser.add_argument("dir", metavar="DIR", type=Path, help="where: an empty directory")
    parser.add_argument("--foreground", action="store_true", help="serve until unmounted or Ctrl-C, talking on stderr")
    add_prefetch(parser)
    parser.add_argument("--wait", action="store_true", help="return when all of the tree is in the cache")
    add_offline(parser)
    add_profile(parser)
    add_tier(parser)
    add_cache_size(parser)
    add_platform(parser)
    add_seek_index(parser)
    add_toc(parser)
    add_deadline(parser)
    add_writable(parser, "they are kept until sapwood umount --discard")
    add_json(parser)


def _mount(arguments: argparse.Namespace) -> int:
    from sapwood.mount.begun import begin

    _check_wait(arguments)
    # First of all: it starts up while we find out what it is to serve. What takes changes needs more beforehand.
    ahead = None if arguments.offline else of_remote_store(arguments.address)
    with nullcontext() if arguments.writable else begin(tied=arguments.foreground, ahead=ahead) as begun:
        return _mount_by(begun, arguments)


def _mount_by(begun: Begun | None, arguments: argparse.Namespace) -> int:
    from sapwood import places
    from sapwood.mount import process
    from sapwood.mount.changes import changes_at
    from sapwood.mount.table import place_of
    from sapwood.store.naming import names_image, without_query

    address, place = absolute(for_platform(arguments.address, arguments)), place_of(arguments.dir)
    kept = changes_at(place) if arguments.writable else None
    leave_by_finally()
    if names_image(address) and not arguments.offline:
        show_layers(address)
    # Once the mount is ready it stays, and nothing may make the code of this command say otherwise.
    started = process.start(
        address,
        place,
        cache_dir=places.cache_dir(),
        prefetch=arguments.prefetch,
        follow=arguments.follow,
        profile=absolute_path(arguments.profile),
        tier=tier(arguments),
        cache_size=cache_size(arguments),
        seek_index=absolute_path(arguments.seek_index),
        toc=absolute_path(arguments.toc),
        deadline_s=deadline_s(arguments),
        offline=arguments.offline,
        writable=arguments.writable,
        tied=arguments.foreground,
        talking=arguments.foreground,
        ready=(lambda: None) if arguments.foreground else stay,
        begun=begun,
    )
    address = without_query(address)
    if kept and not kept.is_empty:
        show.talk(f"with what was changed here before: {kept.directory}")
    if arguments.foreground:
        return _stay_with(started, arguments, address)
    tell_of_age(place)
    code = _wait(place, started.log) if arguments.wait else 0
    if arguments.json:
        show.document(
            {"path": show.text(bytes(place)), "address": address, "pid": started.pid, "log": str(started.log)}
        )
    else:
        show.talk(f"mounted {address}; end it with: sapwood umount {show.quoted(bytes(place))}")
        show.line(bytes(place))
    return code


def show_layers(address: str) -> None:
    """Where somebody sees how far that is, read layers of an image that must be read whole before it is mounted."""
    with opening() as callback:
        if callback:
            from sapwood.image import ImageName, index_layers

            index_layers(ImageName.parse(address), progress=callback)


def _wait(place: Path, log: Path) -> int:
    """Wait until all of a mount is here, or a signal comes; return the code for that. The mount stays.

    Raises:
        UnavailableError: `mount-died`; `not-all-here`: not all of it will come.
    """
    from sapwood.errors import UnavailableError

    told, ending = "", {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    # Asked without waiting: to who waited, and was stopped meanwhile, as by Ctrl-Z, CPython 3.11 gives a signal that
    # there is not.
    while not (came := signal.sigtimedwait(ending, 0)):
        found = _found(place)
        if found is None or not found.alive:
            raise UnavailableError(
                f"{place}: it ended before all of it was here", kind="mount-died", hint=f"read {log}"
            )
        if found.lacking == 0:
            return 0
        if not found.whole and (found.lacking is not None or found.problem):
            where, what = shlex.quote(os.fspath(place)), shlex.quote(found.address)
            size = "pages of its file map are" if found.lacking is None else f"{show.human(found.lacking)} of it are"
            raise UnavailableError(
                f"{place}: {size} not here, and will not come by themselves",
                kind="not-all-here",
                # With neither --offline nor --cache-size.
                hint=f"it is mounted; for all of it: sapwood umount {where} && sapwood mount --wait {what} {where}",
            )
        if found.problem and told != found.problem:
            told = found.problem
            show.talk(f"sapwood: {told}")
        time.sleep(_TICK_S)
    show.talk(f"sapwood: {place} stays mounted, and not all of it is here yet")
    return 128 + came.si_signo


def _check_wait(arguments: argparse.Namespace) -> None:
    from sapwood.errors import InvalidInputError

    if arguments.wait and (arguments.foreground or not arguments.prefetch):
        other = "--foreground" if arguments.foreground else "--no-prefetch"
        raise InvalidInputError(f"--wait and {other} do not go together", kind="bad-usage", hint=f"leave {other} out")


def tell_of_age(place: Path) -> Mount | None:
    """Say of a mount whose store was not asked what it shows, and return what is known of it."""
    if (found := _found(place)) is not None and found.away:
        show.talk(f"sapwood: {found.away}")
    return found


def _found(place: Path) -> Mount | None:
    from sapwood.mount import mounts
    from sapwood.mount.table import place_of

    path = place_of(place)
    return next((mount for mount in mounts() if mount.path == path), None)


def _stay_with(started: Started, arguments: argparse.Namespace, address: str) -> int:
    """Wait until a mount has ended, or end it when a signal asks; return the code for that."""
    from sapwood.errors import UnavailableError

    place = started.place
    try:
        if arguments.json:
            show.document({"path": show.text(bytes(place)), "address": address})
        else:
            show.line(bytes(place))
        code = started.process.wait()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        started.end()
    if code:
        raise UnavailableError(f"{place}: its server died, and none could take over", kind="mount-died")
    return 0


def _configure_umount(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dirs", metavar="DIR", type=Path, nargs="+", help="a mount")
    parser.add_argument("--lazy", action="store_true", help="also when it is in use: its users get errors from then on")
    parser.add_argument(
        "--discard", action="store_true", help="throw away what was changed there, also when it is not mounted any more"
    )


def _umount(arguments: argparse.Namespace) -> int:
    from sapwood.mount import changes, unmount
    from sapwood.mount.table import is_mounted, place_of

    for place in map(place_of, arguments.dirs):
        if not arguments.discard or is_mounted(place) or not changes.are_kept(place):
            if arguments.lazy:
                changes.note_users(place)
            unmount(place, lazy=arguments.lazy)
        changes.end(place, discarding=arguments.discard, is_used=arguments.lazy)
        # What is empty, and still there, a slow server removes at its end; but who still uses the mount may change it.
        if (kept := changes.changes_at(place)) and (arguments.lazy or not kept.is_empty):
            show.talk(
                f"what was changed there is kept in {show.quoted(bytes(kept.directory))};"
                f" throw it away with: sapwood umount --discard {show.quoted(bytes(place))}"
            )
    return 0


def _configure_mounts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--restart",
        action="store_true",
        help="first let each go on with the sapwood that is installed now; readers wait meanwhile",
    )
    add_json(parser)


def _mounts(arguments: argparse.Namespace) -> int:
    from sapwood.errors import UnavailableError
    from sapwood.mount import mounts, restart
    from sapwood.mount.changes import all_changes, untold_changes

    found = mounts()
    refused: UnavailableError | None = None
    if arguments.restart:
        for mount in found:
            # Those of others are theirs, and one without server only needs an umount.
            if mount.pid and mount.alive:
                try:
                    restart(mount)
                except UnavailableError as error:
                    if refused:
                        show.talk(f"sapwood: {refused}")
                    refused = error
        found = mounts()
    _show_mounts(arguments, found, all_changes(), untold_changes())
    if refused:
        raise refused
    return 0


def _show_mounts(arguments: argparse.Namespace, found: list[Mount], changed: list[Changes], untold: list[Path]) -> None:
    from sapwood.mount.remembered import date

    mounted = {mount.path for mount in found}
    left: list[tuple[Path | None, str | None, Path]] = [
        (kept.place, kept.address, kept.directory) for kept in changed if kept.place not in mounted
    ]
    used = {mount.changes for mount in found}
    left += [(None, None, directory) for directory in untold if directory not in used]
    if arguments.json:
        show.document(
            [
                {
                    "path": show.text(bytes(m.path)),
                    "address": m.address,
                    "pid": m.pid or None,
                    "server": m.server or None,
                    "alive": m.alive,
                    "problem": m.problem or None,
                    "snapshot": m.snapshot or None,
                    "asOf": None if m.asked is None else date(m.asked),
                    "bytes": m.bytes,
                    "bytesHere": None if m.bytes is None or m.lacking is None else m.bytes - m.lacking,
                    "mounted": True,
                    "changes": show.text(bytes(m.changes)) if m.changes else None,
                }
                for m in found
            ]
            + [
                {
                    "path": show.text(bytes(place)) if place else None,
                    "address": address,
                    "pid": None,
                    "server": None,
                    "alive": False,
                    "problem": None,
                    "snapshot": None,
                    "asOf": None,
                    "bytes": None,
                    "bytesHere": None,
                    "mounted": False,
                    "changes": show.text(bytes(directory)),
                }
                for place, address, directory in left
            ]
        )
        return
    for mount in found:
        show.line(bytes(mount.path), f"  {mount.address}" + _state(mount))
    for place, address, directory in left:
        if place:
            show.line(bytes(place), f"  {address}  (not mounted; its changes are in {directory})")
        else:
            show.line(bytes(directory), "  (changes of a place that nothing tells: note.json there cannot be read)")


def _state(mount: Mount) -> str:
    if not mount.alive:
        return "  (its server is gone)"
    state = [mount.problem] if mount.problem else []
    if mount.away:
        state.append(mount.away)
    if mount.lacking == 0:
        state.append("all of it is here")
    if mount.changes:
        state.append(f"changes go to {mount.changes}")
    return f"  ({'; '.join(state)})" if state else ""


COMMANDS = {
    "mount": Command(
        _configure_mount,
        _mount,
        """
        sapwood mount s3://bucket/trees#venv /mnt/venv   returns when /mnt/venv can be used
        sapwood mount --foreground main /mnt/main
        sapwood mount --wait s3://bucket/trees#venv /mnt/venv && sapwood umount /mnt/venv
        sapwood mount --offline s3://bucket/trees#venv /mnt/venv
        sapwood mount --writable main /mnt/main          sapwood push /mnt/main main stores what was changed
        sapwood mount https://host/bundle.tar.gz /mnt/bundle
        """,
    ),
    "umount": Command(
        _configure_umount,
        _umount,
        """
        sapwood umount /mnt/venv
        sapwood umount --discard /mnt/main               and throw away what was changed there
        """,
    ),
    "mounts": Command(
        _configure_mounts,
        _mounts,
        """
        sapwood mounts
        sapwood mounts --restart                         after an upgrade
        sapwood mounts --json | jq -r '.[].path'
        """,
    ),
}
