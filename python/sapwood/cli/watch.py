"""`sapwood watch`: hash and status that know what changed."""

from __future__ import annotations

import os

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.hash import add_index, add_options, options_of

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", nargs="?", help="the directory")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--stop", action="store_true", help="end the watcher of DIR")
    what.add_argument("--list", action="store_true", help="list the watchers of this user")
    what.add_argument("--foreground", action="store_true", help="watch until stopped or Ctrl-C, talking on stderr")
    add_index(parser)
    add_options(parser)
    add_json(parser)


def _watch(arguments: argparse.Namespace) -> int:
    from sapwood.errors import ConflictError, InvalidInputError

    if arguments.list:
        return _list(arguments.json)
    if arguments.dir is None:
        raise InvalidInputError("watch: no directory", kind="bad-usage", hint="sapwood watch --help")
    if arguments.stop:
        from sapwood.watch import stop

        stop(arguments.dir)
        return 0
    if arguments.foreground:
        return _serve(arguments)

    from sapwood.watch import start

    try:
        started = start(arguments.dir, arguments.index, options_of(arguments))
    except ConflictError:
        if not _is_what_runs(arguments):
            raise
        show.talk(f"{arguments.dir} is watched already")
        return 0
    if arguments.json:
        show.document({"path": os.path.realpath(arguments.dir), "pid": started.pid, "log": str(started.log)})
    else:
        show.talk(f"watching {arguments.dir}; end it with: sapwood watch --stop {arguments.dir}")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from sapwood.watch import serve

    def ready() -> None:
        if arguments.json:
            show.document({"path": os.path.realpath(arguments.dir), "pid": os.getpid(), "log": None})
        else:
            show.talk(f"watching {arguments.dir}")

    signo = serve(arguments.dir, arguments.index, options_of(arguments), ready=ready)
    return 128 + signo if signo else 0


def _is_what_runs(arguments: argparse.Namespace) -> bool:
    """Say whether the watcher that runs is the one asked for."""
    from sapwood.tree.index import default_index_path
    from sapwood.watch import watchers

    wanted = os.path.abspath(arguments.index or default_index_path(arguments.dir, options_of(arguments)))
    real = os.path.realpath(arguments.dir)
    return any(str(watching.root) == real and str(watching.index_path) == wanted for watching in watchers())


def _list(json: bool) -> int:
    from sapwood.watch import watchers

    found = watchers()
    if json:
        show.document(
            [
                {
                    "path": show.text(os.fsencode(watching.root)),
                    "index": show.text(os.fsencode(watching.index_path)),
                    "pid": watching.pid,
                    "directories": watching.directories,
                }
                for watching in found
            ]
        )
        return 0
    for watching in found:
        directories = show.counted(watching.directories, "directory")
        show.line(os.fsencode(watching.root), f"  process {watching.pid}, {directories}")
    return 0


COMMANDS = {
    "watch": Command(
        _configure,
        _watch,
        """
        sapwood watch .                    hash and status of . now take as long as the changes are many
        sapwood watch --stop .
        sapwood watch --list
        """,
    ),
}
