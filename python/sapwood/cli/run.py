"""`sapwood run`: a tree is mounted for the life of one command.

Promise: signals reach the command; when it has ended, however it ended, nothing is mounted and no server runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sapwood.cli import show
from sapwood.cli.command import (
    Command,
    add_cache_size,
    add_deadline,
    add_offline,
    add_prefetch,
    add_profile,
    add_seek_index,
    add_tier,
    add_toc,
    add_writable,
    cache_size,
    deadline_s,
    tier,
)
from sapwood.cli.signals import leave_by_finally

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


def _configure(parser: argparse.ArgumentParser) -> None:
    add_offline(parser)
    add_running(parser)
    add_tier(parser)
    add_writable(parser, "at the end they are thrown away")


def add_running(parser: argparse.ArgumentParser) -> None:
    """Take an address, a command, and how to mount the one for the other."""
    parser.add_argument("address", metavar="ADDRESS", help="which tree")
    add_prefetch(parser)
    add_profile(parser)
    add_cache_size(parser)
    add_seek_index(parser)
    add_toc(parser)
    add_deadline(parser)
    parser.add_argument(
        "--stats", type=Path, metavar="FILE", help="write what was fetched and read to FILE, as JSON, at the end"
    )
    parser.add_argument(
        "command",
        metavar="-- CMD",
        nargs=argparse.REMAINDER,
        help="the command; in its arguments {} is the mount point, as is $SAPWOOD_ROOT in its environment",
    )


def _run(arguments: argparse.Namespace) -> int:
    return run_mounted(
        command_of(arguments, "run"),
        arguments,
        by=tier(arguments),
        offline=arguments.offline,
        writable=arguments.writable,
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
    command: list[str],
    arguments: argparse.Namespace,
    *,
    by: str = "fuse",
    trace: str | None = None,
    to_stderr: bool = False,
    offline: bool = False,
    writable: bool = False,
) -> int:
    """Run `command` on a mount of its own and return its code; the profile of what it reads goes to the file `trace`.

    `by`: the tier. `to_stderr`: so goes what it says on stdout. `offline`: the store is asked nothing.
    A `writable` mount takes changes for so long. Errors as `process.start`.
    """
    from sapwood import places
    from sapwood.cli.mount import absolute, absolute_path, tell_of_age
    from sapwood.mount import process

    address = absolute(arguments.address)
    with tempfile.TemporaryDirectory(prefix="sapwood-run-") as scratch:
        place = Path(scratch) / "tree"
        place.mkdir()
        leave_by_finally()
        started = process.start(
            address,
            place,
            cache_dir=places.cache_dir(),
            tied=True,
            prefetch=arguments.prefetch,
            follow=arguments.follow,
            profile=absolute_path(arguments.profile),
            trace=trace,
            tier=by,
            cache_size=cache_size(arguments),
            seek_index=absolute_path(arguments.seek_index),
            toc=absolute_path(arguments.toc),
            deadline_s=deadline_s(arguments),
            stats=_absolute(arguments.stats),
            offline=offline,
            writable=writable,
            discard=writable,
        )
        try:
            tell_of_age(place)
            # From here to the end signals wait: for the command, or for the mount to be gone.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON | {signal.SIGCHLD})
            return _life(command, place, before, to_stderr=to_stderr)
        finally:
            started.end()


def _absolute(path: Path | None) -> str | None:
    return None if path is None else os.fsdecode(path.absolute())


def _life(command: list[str], place: Path, mask: Iterable[int], *, to_stderr: bool) -> int:
    """Run the command to its end, passing signals on, and return its code as a shell would."""
    argv = [word.replace("{}", str(place)) for word in command]
    try:
        pid = os.posix_spawnp(
            argv[0],
            argv,
            {**os.environ, "SAPWOOD_ROOT": str(place)},
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
            os.kill(pid, came.si_signo)


COMMANDS = {
    "run": Command(
        _configure,
        _run,
        """
        sapwood run s3://bucket/trees#venv -- {}/bin/python -c 'import numpy'
        sapwood run --offline s3://bucket/trees#venv -- {}/bin/python
        sapwood run main -- sh -c 'cd "$SAPWOOD_ROOT" && make -n'
        sapwood run --writable main -- sh -c 'make -C {} && sapwood push {} built'
        """,
    ),
}
