"""`sapwood run`: a tree is mounted for the life of one command.

Promise: signals reach the command; when it has ended, however it ended, nothing is mounted and no server runs.
"""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext

from sapwood.cli import show
from sapwood.cli.command import (
    Command,
    add_cache_size,
    add_deadline,
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
from sapwood.cli.signals import leave_by_finally
from sapwood.mount.begun import begin

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable
    from typing import Any

    from sapwood.mount import Mount
    from sapwood.mount.begun import Begun

_PASSED_ON = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
# `si_code` of a signal that the kernel sent: of Ctrl-C the terminal has told the command already.
_FROM_TERMINAL = 0x80
SCRATCH = "sapwood-running-"
"""How directories begin that are a command's, and its mounts', as long as it runs."""


def _configure(parser: argparse.ArgumentParser) -> None:
    add_offline(parser)
    add_running(parser)
    add_tier(parser)
    add_writable(parser, "at the end they are thrown away")
    parser.add_argument("--keep", metavar="DIR", help="of an image: keep what is changed in DIR, for the next time")


def add_running(parser: argparse.ArgumentParser) -> None:
    """Take an address, a command, and how to mount the one for the other."""
    parser.add_argument("address", metavar="ADDRESS", help="which tree")
    add_prefetch(parser)
    add_profile(parser)
    add_cache_size(parser)
    add_platform(parser)
    add_seek_index(parser)
    add_toc(parser)
    add_deadline(parser)
    parser.add_argument("--stats", metavar="FILE", help="write what was fetched and read to FILE, as JSON, at the end")
    parser.add_argument("--net", action="store_true", help="of an image: with this machine's network, not with none")
    parser.add_argument(
        "--bind",
        metavar="HERE:THERE[:ro]",
        action="append",
        help="of an image: HERE is seen there at THERE",
    )
    parser.add_argument(
        "command",
        metavar="-- CMD",
        nargs="...",  # argparse.REMAINDER
        help="the command; in its arguments {} is the mount point, as is $SAPWOOD_ROOT in its environment",
    )


def _run(arguments: argparse.Namespace) -> int:
    from sapwood.store.naming import may_name_archive, names_image

    if names_image(arguments.address):
        return _run_image(arguments)
    if may_name_archive(arguments.address):
        _command_of_tree(arguments)
    # Of a ref its mount knows first what it names; then all is there, but for the image's own mount.
    ran = run_mounted(
        lambda mount: None if mount and mount.image else _command_of_tree(arguments),
        arguments,
        by=tier(arguments),
        offline=arguments.offline,
        writable=arguments.writable,
    )
    return _run_image(arguments, ran) if isinstance(ran, str) else ran


def _run_image(arguments: argparse.Namespace, snapshot: str | None = None) -> int:
    """Run an image, or that which is a snapshot of a store."""
    from sapwood.cli.image import run_image
    from sapwood.errors import InvalidInputError

    if arguments.writable or tier(arguments) not in ("auto", "fuse"):
        raise InvalidInputError(
            "an image takes changes as it is, by the fuse tier",
            kind="bad-usage",
            hint="leave out --writable and --tier",
        )
    return run_image(arguments, keep=arguments.keep, offline=arguments.offline, snapshot=snapshot)


def _command_of_tree(arguments: argparse.Namespace) -> list[str]:
    require_no_image_words(arguments, keep=arguments.keep)
    return command_of(arguments, "run")


def require_no_image_words(arguments: argparse.Namespace, keep: str | None = None) -> None:
    """Refuse of a tree what is for images.

    Raises:
        InvalidInputError: `bad-usage`.
    """
    from sapwood.errors import InvalidInputError

    if keep is not None or arguments.net or arguments.bind:
        raise InvalidInputError(
            f"{arguments.address} is no image: --keep, --net and --bind are for these", kind="bad-usage"
        )


def command_of(arguments: argparse.Namespace, name: str) -> list[str]:
    """Return the command that stands behind `--`.

    Raises:
        InvalidInputError: `bad-usage`: there is none.
    """
    from sapwood.errors import InvalidInputError

    command: list[str] = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise InvalidInputError(
            f"{name}: no command", kind="bad-usage", hint=f"sapwood {name} {arguments.address} -- ls {{}}"
        )
    return command


def run_mounted(
    command: Callable[[Mount | None], list[str] | None],
    arguments: argparse.Namespace,
    *,
    by: str = "fuse",
    trace: str | None = None,
    to_stderr: bool = False,
    offline: bool = False,
    writable: bool = False,
) -> int | str:
    """Run a command on a mount of its own and return its code; the profile of what it reads goes to the file `trace`.

    `command` is told of the mount, if its note is there, and says what to run; or None, then the mount is taken away,
    and its snapshot returned. `by`: the tier. `to_stderr`: so goes what it says on stdout.
    `offline`: the store is asked nothing. A `writable` mount takes changes for so long. Errors as `process.start`.
    """
    # First of all: it starts up while we find out what it is to serve. What takes changes needs more beforehand.
    ahead = None if offline else of_remote_store(arguments.address)
    with nullcontext() if writable else begin(tied=True, ahead=ahead) as begun:
        return _run_mounted(
            command,
            arguments,
            begun,
            to_stderr=to_stderr,
            tier=by,
            trace=trace,
            offline=offline,
            writable=writable,
            discard=writable,
        )


def _run_mounted(
    command: Callable[[Mount | None], list[str] | None],
    arguments: argparse.Namespace,
    begun: Begun | None,
    *,
    to_stderr: bool,
    **options: Any,
) -> int | str:
    from sapwood import places
    from sapwood.cli.mount import absolute, absolute_path, tell_of_age
    from sapwood.mount import process
    from sapwood.scratch import scratch

    leave_by_finally()
    address = absolute(for_platform(arguments.address, arguments))
    with scratch(SCRATCH) as above:
        place = above / "tree"
        place.mkdir()
        started = process.start(
            address,
            place,
            cache_dir=places.cache_dir(),
            tied=True,
            begun=begun,
            prefetch=arguments.prefetch,
            follow=arguments.follow,
            profile=absolute_path(arguments.profile),
            cache_size=cache_size(arguments),
            seek_index=absolute_path(arguments.seek_index),
            toc=absolute_path(arguments.toc),
            deadline_s=deadline_s(arguments),
            stats=stats_path(arguments),
            **options,
        )
        try:
            mount = tell_of_age(place)
            words = command(mount)
            if words is None:
                return mount.snapshot if mount else ""
            # From here to the end signals wait: for the command, or for the mount to be gone.
            before = hold_signals()
            argv = [word.replace("{}", str(place)) for word in words]
            return life_of(argv, {**os.environ, "SAPWOOD_ROOT": str(place)}, before, to_stderr=to_stderr)
        finally:
            started.end()


def stats_path(arguments: argparse.Namespace) -> str | None:
    """Return where statistics go, so that it means the same from every working directory.

    Raises:
        InvalidInputError: `bad-usage`: its directory is missing, or it is a directory; a mount that has ended could
            only say so in its log.
    """
    from sapwood.errors import InvalidInputError

    if arguments.stats is None:
        return None
    path: str = os.path.abspath(arguments.stats)
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise InvalidInputError(
            f"--stats {arguments.stats}: there is no directory {directory}",
            kind="bad-usage",
            hint=f"make it: mkdir -p {directory}",
        )
    if os.path.isdir(path):
        raise InvalidInputError(
            f"--stats {arguments.stats} is a directory", kind="bad-usage", hint="name a file to be written"
        )
    return path


def hold_signals() -> Iterable[int]:
    """Let signals wait, and return which did before."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})


def life_of(
    argv: list[str],
    environment: dict[str, str],
    mask: Iterable[int],
    *,
    to_stderr: bool = False,
    within: Callable[[int], int] = lambda pid: pid,
) -> int:
    """Run a command to its end, passing signals on, and return its code as a shell would.

    `within` says which process below the one that was started is the command.
    """
    try:
        pid = os.posix_spawnp(
            argv[0],
            argv,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)] if to_stderr else [],
            setsigmask=mask,
            setsigdef={signal.SIGPIPE, signal.SIGXFSZ},  # which Python ignores
        )
    except OSError as error:
        show.talk(f"sapwood: {show.quoted(os.fsencode(argv[0]))}: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126
    while True:
        came = signal.sigwaitinfo(_PASSED_ON | {signal.SIGCHLD})
        if came.si_signo == signal.SIGCHLD:
            # The server is a child too: only the command's own end ends the wait.
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return 128 - code if code < 0 else code
        elif came.si_code != _FROM_TERMINAL:
            os.kill(within(pid), came.si_signo)


COMMANDS = {
    "run": Command(
        _configure,
        _run,
        """
        sapwood run s3://bucket/trees#venv -- {}/bin/python -c 'import numpy'
        sapwood run --offline s3://bucket/trees#venv -- {}/bin/python
        sapwood run main -- sh -c 'cd "$SAPWOOD_ROOT" && make -n'
        sapwood run oci://docker.io/library/python:3.11 -- python3 -V   in the image, not on a mount of it
        sapwood run --net --bind .:/src --keep state oci:layout:dev -- make -C /src
        sapwood run s3://bucket/i#py                  what an image that was pushed to a store says is to be run
        sapwood run --writable main -- sh -c 'make -C {} && sapwood push {} built'
        """,
    ),
}
