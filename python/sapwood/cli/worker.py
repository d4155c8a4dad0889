"""`sapwood worker`: runs actions for a scheduler of the Remote Execution API."""

from __future__ import annotations

import argparse
import os
import sys

from sapwood.cli import show
from sapwood.cli.command import Command, add_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sapwood.worker.worker import Worker

# What runs when a worker is asked to end has so long.
_FINISH_S = 30.0


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scheduler", metavar="URL", required=True, help="who gives work: grpc://HOST:PORT, or grpcs://"
    )
    parser.add_argument("--cas", metavar="URL", help="where blobs are (default: the scheduler's address)")
    parser.add_argument("--instance", metavar="NAME", help="the instance of both (default: the one without a name)")
    parser.add_argument("--jobs", metavar="N", help="run so many actions at a time (default: 1)")
    parser.add_argument(
        "--platform",
        metavar="NAME=VALUE",
        action="append",
        help="a property to offer, besides OSFamily and ISA; can be given again",
    )
    parser.add_argument("--disk", metavar="SIZE", help="what an action may write to this disk (default: 16G)")
    parser.add_argument(
        "--no-lazy",
        dest="lazy",
        action="store_false",
        help="have all inputs of an action here, complete and proved, before its command starts",
    )
    parser.add_argument("--token-file", metavar="FILE", help="send the token in it to both")
    parser.add_argument("--tls-ca", metavar="FILE", help="trust these certificates, not the system's")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    import signal

    from sapwood.worker.alone import mount_alone

    # While there is no other thread.
    mount_alone()

    from sapwood import places
    from sapwood.build.limits import DISK
    from sapwood.cli.command import size_of
    from sapwood.errors import UnavailableError

    try:
        from sapwood.reapi.channel import connect, read_token
        from sapwood.worker.worker import Options, Worker
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"{error.name} is not installed", kind="grpc-missing", hint="pip install 'sapwood[build]'"
        ) from error

    options = Options(
        arguments.instance or "",
        _jobs(arguments.jobs),
        arguments.lazy,
        size_of("--disk", arguments.disk) if arguments.disk else DISK,
        _properties(arguments.platform or []),
    )
    token = read_token(arguments.token_file) if arguments.token_file else None
    ca = _read(arguments.tls_ca) if arguments.tls_ca else None
    scheduler = connect(arguments.scheduler, token=token, ca=ca)
    cas = connect(arguments.cas or arguments.scheduler, token=token, ca=ca)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # What wakes whoever waits below: a signal may come to any thread, and Python's handlers run in this one alone.
    signal.set_wakeup_fd(writing)
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, lambda *_: None)
    room = places.changes_dir() / "worker"
    with Worker(scheduler, cas, options, room, places.cache_dir(), show.talk) as worker:
        if arguments.json:
            show.document(
                {
                    "scheduler": scheduler.url,
                    "cas": cas.url,
                    "jobs": options.jobs,
                    "lazy": options.lazy,
                    "disk": options.disk,
                    "pid": os.getpid(),
                }
            )
            sys.stdout.flush()
        else:
            show.talk(f"working for {scheduler.url}, with the blobs of {cas.url}; Ctrl-C ends it")
        os.read(reading, 1)
        worker.finish()
        if not worker.is_finished(0.2):
            show.talk(f"ending: what runs has {_FINISH_S:g} s, or until this is said again")
            _wait(worker, reading)
    for peer in (scheduler, cas):
        peer.close()
    return 0


def _wait(worker: Worker, reading: int) -> None:
    """Until nothing runs, a second signal has come, or the patience is over."""
    import select
    import time

    until = time.monotonic() + _FINISH_S
    while time.monotonic() < until and not worker.is_finished(0.1):
        if select.select([reading], [], [], 0)[0]:
            return


def _jobs(text: str | None) -> int:
    from sapwood.errors import InvalidInputError

    if text is None:
        return 1
    if not text.isdecimal() or not 0 < int(text) < 1_000:
        raise InvalidInputError(f"--jobs {text}: no number of actions", kind="bad-usage", hint="--jobs 4")
    return int(text)


def _properties(words: list[str]) -> dict[str, str]:
    from sapwood.errors import InvalidInputError

    properties = {}
    for word in words:
        name, is_said, value = word.partition("=")
        if not name or not is_said:
            raise InvalidInputError(
                f"--platform {word}: no property", kind="bad-usage", hint="--platform OSFamily=linux"
            )
        properties[name] = value
    return properties


def _read(path: str) -> bytes:
    from pathlib import Path

    from sapwood.errors import DeniedError, NotFoundError

    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{path} is missing", kind="path-missing", hint="--tls-ca FILE") from None
    except OSError as error:
        raise DeniedError(f"{path} cannot be read: {error.strerror}", kind="path-denied") from error


COMMANDS = {
    "worker": Command(
        _configure,
        _run,
        """
        sapwood worker --scheduler grpc://10.0.0.1:8980
        sapwood worker --scheduler grpcs://grid:443 --cas grpc://10.0.0.2:8980 --jobs 4 --token-file token
        sapwood worker --scheduler grpc://grid:8980 --platform container-image=debian-12 --platform pool=fast
        sapwood worker --scheduler grpc://grid:8980 --jobs 8 --disk 50G
        sapwood worker --scheduler grpc://grid:8980 --no-lazy     have an action's inputs complete before it starts
        """,
    ),
}
