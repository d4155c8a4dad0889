"""`sapwood run oci://…`, or of an image that a store holds: a program of an image, in the image.

Promise: as of `sapwood run`: signals reach the program, and when it has ended, however it ended, nothing is mounted and
no server runs. What it changed is thrown away, or lies where it was to be kept.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sapwood.cli import show
from sapwood.cli.command import cache_size, deadline_s, for_platform
from sapwood.cli.mount import absolute, absolute_path, show_layers
from sapwood.cli.run import SCRATCH, hold_signals, life_of, stats_path
from sapwood.cli.signals import leave_by_finally
from sapwood.mount.begun import begin

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from sapwood.mount.begun import Begun
    from sapwood.oci.sandbox import Bind

    # What is to be mounted, what people call it, and how to wait for what it says.
    Meant = tuple[str, str, Callable[[], dict[str, Any]]]

__all__ = ["run_image"]


def run_image(
    arguments: argparse.Namespace,
    *,
    keep: str | None = None,
    offline: bool = False,
    trace: str | None = None,
    to_stderr: bool = False,
    snapshot: str | None = None,
) -> int:
    """Run what an image says, or what was said, in it, and return its code.

    What it changes lies in the directory `keep` afterwards, if that is said; the profile of what it reads of the image
    goes to the file `trace`. `offline`: the registry is asked nothing. `to_stderr`: so goes what it says on stdout.
    What is meant is that `snapshot` of the address's store, if one is said.

    Raises:
        InvalidInputError: `bad-usage`; `not-supported`: what the image says cannot be.
        DeniedError: `namespace-denied`.
        UnavailableError: `sandbox-missing`, `mount-failed`; as `process.start`.
        SapwoodError: as `read_config`, `stored_config`.
    """
    from sapwood.oci.sandbox import Bind, apart

    binds = [Bind.parse(text) for text in arguments.bind or ()]
    kept = None if keep is None else Path(keep).absolute()
    # Before there is any other thread.
    is_user = apart()
    with begin(tied=True, ahead=arguments.address if snapshot is None else None) as begun:
        if snapshot is None:
            found = _meant(arguments, offline=offline)
        else:
            found = _stored(arguments, snapshot, offline=offline)
        return _run(
            arguments, found, binds, kept, begun, is_user=is_user, to_stderr=to_stderr, offline=offline, trace=trace
        )


def _meant(arguments: argparse.Namespace, *, offline: bool) -> Meant:
    from sapwood import places
    from sapwood.image import ImageName, read_config
    from sapwood.image.remembered import meant
    from sapwood.store.waiting import meanwhile

    name = ImageName.parse(for_platform(arguments.address, arguments))
    cache_dir = places.cache_dir()
    asked = meanwhile(lambda: meant(name, cache_dir=cache_dir, offline=offline))
    # While the answer is on its way.
    from sapwood.mount import process  # noqa: F401
    from sapwood.oci import program, sandbox  # noqa: F401

    now = asked()
    if now.away and not offline:
        show.talk(f"sapwood: {now.away}: run is {now.name}")
    # What is to run is asked for while the image is mounted: that takes longer than a round trip.
    reading = meanwhile(lambda: read_config(now.name, cache_dir=cache_dir, place=now.place))
    pinned = now.name if now.name.digest else reading()[0]
    if not offline and not now.away:
        show_layers(str(pinned))
    return str(pinned), str(name), lambda: reading()[1]


def _stored(arguments: argparse.Namespace, snapshot: str, *, offline: bool) -> Meant:
    from sapwood import places
    from sapwood.digests import SnapshotDigest, parse_digest
    from sapwood.oci.stored import stored_config
    from sapwood.store import Address
    from sapwood.store.waiting import meanwhile

    said = Address.parse(absolute(arguments.address))
    pinned = Address(said.store_url, said.ref, parse_digest(SnapshotDigest, snapshot))
    reading = meanwhile(lambda: stored_config(pinned, cache_dir=places.cache_dir(), offline=offline))
    return str(pinned), arguments.address, reading


def _run(
    arguments: argparse.Namespace,
    found: Meant,
    binds: list[Bind],
    kept: Path | None,
    begun: Begun,
    *,
    is_user: bool,
    to_stderr: bool,
    **options: Any,
) -> int:
    from sapwood import places
    from sapwood.mount import process
    from sapwood.oci import sandbox
    from sapwood.oci.program import program_of, user_of
    from sapwood.scratch import scratch

    pinned, name, config_of = found
    with scratch(SCRATCH) as place, sandbox.held(kept):
        # Whoever the program is, its way to the image leads through here.
        os.chmod(place, 0o755)
        tree, root, upper = (place / word for word in ("tree", "root", "upper"))
        for made in (tree, root, upper):
            made.mkdir()
        leave_by_finally()
        started = process.start(
            pinned,
            tree,
            cache_dir=places.cache_dir(),
            tied=True,
            begun=begun,
            prefetch=arguments.prefetch,
            follow=arguments.follow,
            profile=absolute_path(arguments.profile),
            cache_size=cache_size(arguments),
            deadline_s=deadline_s(arguments),
            stats=stats_path(arguments),
            **options,
        )
        try:
            config = config_of()
            said: list[str] = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
            program = program_of(config, said, name)
            sandbox.layered(tree, root, kept or upper, is_user=is_user, is_kept=kept is not None)
            user = user_of(program.user, tree, name)
            with tempfile.TemporaryFile(dir=place) as status:
                os.set_inheritable(status.fileno(), True)
                argv = sandbox.command_line(
                    program,
                    user,
                    root,
                    binds=binds,
                    network=arguments.net,
                    is_user=is_user,
                    terminal=os.environ.get("TERM"),
                    status=status.fileno(),
                )
                # From here to the end signals wait: for the program, or for the mounts to be gone.
                before = hold_signals()
                code = life_of(argv, dict(os.environ), before, to_stderr=to_stderr, within=sandbox.program_below)
                status.seek(0)
                return sandbox.code_of(code, status.read(), program, root)
        finally:
            sandbox.taken_away(root, upper)
            started.end()
