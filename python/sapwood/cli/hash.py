"""`sapwood hash` and `sapwood status`: what a directory on this machine is, and what changed in it."""

from __future__ import annotations

import sys

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.progress import progress

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse

    from sapwood.tree.index import Status
    from sapwood.tree.options import Options


def add_index(parser: argparse.ArgumentParser) -> None:
    """Let the user say where the state of the directory is kept."""
    parser.add_argument("--index", metavar="FILE", help="keep the state of DIR here (default: in the user's cache)")


def add_skip_unreadable(parser: argparse.ArgumentParser) -> None:
    """Let the user go on where permission is missing."""
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="leave out what may not be read, and name it, instead of failing"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let the user say how to look at directories."""
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        help="leave out what matches, as a line of .sapwoodignore would; can be given again",
    )
    parser.add_argument("--gitignore", action="store_true", help="leave out what .gitignore files say, and .git")
    parser.add_argument(
        "--one-file-system", action="store_true", help="take directories on other file systems to be empty"
    )
    parser.add_argument(
        "--no-trust-ctime",
        dest="trust_ctime",
        action="store_false",
        help="let size and mtime alone tell what changed: for network file systems whose ctime does not",
    )


def options_of(arguments: argparse.Namespace) -> Options:
    """Return what `add_options` and `add_skip_unreadable` let the user say."""
    from sapwood.tree.options import Options

    return Options(
        skip_unreadable=getattr(arguments, "skip_unreadable", False),
        one_file_system=arguments.one_file_system,
        trust_ctime=arguments.trust_ctime,
        exclude=arguments.exclude or (),
        gitignore=arguments.gitignore,
    )


def _configure_hash(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", help="the directory")
    add_index(parser)
    add_skip_unreadable(parser)
    add_options(parser)
    add_json(parser)


def _hash(arguments: argparse.Namespace) -> int:
    from sapwood.tree.index import hash_tree

    with progress("hashing") as callback:
        hashed = hash_tree(arguments.dir, index=arguments.index, options=options_of(arguments), progress=callback)
    if arguments.json:
        show.document(
            {
                "digest": hashed.digest,
                "size": hashed.size,
                "files": hashed.files,
                "directories": hashed.directories,
                "symlinks": hashed.symlinks,
                "bytes": hashed.bytes,
                "filesHashed": hashed.files_hashed,
                "bytesHashed": hashed.bytes_hashed,
                "unreadable": [show.text(path) for path in hashed.unreadable],
            }
        )
        return 0
    show.unreadable(hashed.unreadable)
    show.line(hashed.digest)
    return 0


def _configure_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="DIR", help="the directory")
    add_index(parser)
    add_options(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-z", dest="nul", action="store_true", help="end each line with a NUL, names as they are")
    add_json(form)


def _status(arguments: argparse.Namespace) -> int:
    from sapwood.tree.index import status

    with progress("looking") as callback:
        found = status(arguments.dir, index=arguments.index, options=options_of(arguments), progress=callback)
    if arguments.json:
        show.document(
            {
                "fresh": found.fresh,
                "added": [show.text(path) for path in found.added],
                "changed": [show.text(path) for path in found.changed],
                "removed": [show.text(path) for path in found.removed],
                "unreadable": [show.text(path) for path in found.unreadable],
            }
        )
        return 0
    if found.fresh:
        show.talk("never hashed or pushed before: everything is new")
    show.unreadable(found.unreadable)
    changes = [("A", path) for path in found.added]
    changes += [("M", path) for path in found.changed]
    changes += [("D", path) for path in found.removed]
    write = show.record if arguments.nul else show.line
    for letter, path in sorted(changes, key=lambda change: change[1]):
        write(letter, " ", path)
    if not arguments.nul and sys.stderr.isatty():
        sys.stdout.flush()
        show.talk(_summary(found))
    return 0


def _summary(found: Status) -> str:
    """Return what to say where an empty list of changes would leave a person wondering."""
    groups = {"added": found.added, "changed": found.changed, "removed": found.removed}
    return ", ".join(f"{len(paths):,} {word}" for word, paths in groups.items() if paths) or "nothing changed"


COMMANDS = {
    "hash": Command(
        _configure_hash,
        _hash,
        """
        sapwood hash .                     prints sha256:…; the second time only what changed is read
        sapwood hash --json . | jq .bytes
        sapwood hash --gitignore --exclude '*.o' .
        """,
    ),
    "status": Command(
        _configure_status,
        _status,
        """
        sapwood status .                   A is added, M changed, D removed
        sapwood status -z . >changes       for programs: a name may hold a newline
        """,
    ),
}
