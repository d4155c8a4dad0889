"""`sapwood ls`, `cat` and `diff`: trees as they are, without fetching more than what is looked at."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import Command, add_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sapwood.tree.tree import Entry

_KINDS = {
    "dir": stat.S_IFDIR,
    "reg": stat.S_IFREG,
    "hardlink": stat.S_IFREG,
    "symlink": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
}
_LETTERS = {"added": "A", "changed": "M", "removed": "D"}
_TREE = "an address, or a directory"


def _configure_ls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tree", metavar="TREE", help=_TREE)
    parser.add_argument("path", metavar="PATH", nargs="?", default="", help="a directory in it (default: its root)")
    parser.add_argument("-l", "--long", action="store_true", help="with mode, links, owner, size, time and target")
    parser.add_argument("-R", "--recursive", action="store_true", help="everything below, each with its whole path")
    add_json(parser)


def _ls(arguments: argparse.Namespace) -> int:
    from sapwood.open import open_tree

    tree = open_tree(arguments.tree)
    path = os.fsencode(arguments.path)
    entries: Iterable[Entry]
    if arguments.recursive:
        entries = (entry for entry in tree.walk(path) if entry.path)
    else:
        asked = tree.lookup(path)
        entries = tree.list(path) if asked.kind == "dir" else [asked]
    if arguments.json:
        show.document([_record(entry) for entry in entries])
        return 0
    for entry in entries:
        name = entry.path if arguments.recursive else entry.name
        if arguments.long:
            # A hard link's attributes are those of its first name.
            first = tree.lookup(entry.target) if entry.kind == "hardlink" and entry.target is not None else entry
            arrow = (b" -> ", entry.target) if entry.kind == "symlink" and entry.target is not None else ()
            show.line(_long(first), name, *arrow)
        else:
            show.line(name)
    return 0


def _long(entry: Entry) -> str:
    mode = stat.filemode(_KINDS[entry.kind] | entry.mode)
    size = f"{entry.size:,}" if entry.device is None else "{}, {}".format(*entry.device)
    return f"{mode} {entry.links:>2} {entry.uid:>5} {entry.gid:>5} {size:>13} {_time(entry.mtime_ns)[:19]}Z  "


def _time(ns: int) -> str:
    whole, fraction = divmod(ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):  # a year that datetime does not know
        moment = f"@{whole}"
    return f"{moment}.{fraction:09d}Z"


def _record(entry: Entry) -> dict[str, object]:
    return {
        "path": show.text(entry.path),
        "type": entry.kind,
        "size": entry.size,
        "mode": entry.mode,
        "uid": entry.uid,
        "gid": entry.gid,
        "mtimeNs": entry.mtime_ns,
        "links": entry.links,
        "target": None if entry.target is None else show.text(entry.target),
        "device": entry.device,
        "digest": entry.digest,
    }


def _configure_cat(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tree", metavar="TREE", help=_TREE)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a file in it")


def _cat(arguments: argparse.Namespace) -> int:
    from sapwood.open import open_tree

    tree = open_tree(arguments.tree)
    for path in arguments.paths:
        for piece in tree.read_blob(os.fsencode(path)):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return 0


def _configure_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help=f"the one tree: {_TREE}")
    parser.add_argument("b", metavar="B", help="the other")
    add_json(parser)


def _diff(arguments: argparse.Namespace) -> int:
    from sapwood.open import open_tree

    changes = open_tree(arguments.a).diff(open_tree(arguments.b))
    if arguments.json:
        found = [{"kind": change.kind, "path": show.text(change.path)} for change in changes]
        show.document(found)
        return 1 if found else 0
    code = 0
    for change in changes:
        code = 1
        show.line(_LETTERS[change.kind], " ", change.path)
    return code


COMMANDS = {
    "ls": Command(
        _configure_ls,
        _ls,
        """
        sapwood ls main                       the root of ref `main` of the default store
        sapwood ls -l s3://bucket/trees#venv lib/python3.11
        sapwood ls -R --json . | jq -r '.[] | select(.size > 1000000) | .path'
        """,
    ),
    "cat": Command(
        _configure_cat,
        _cat,
        """
        sapwood cat main README.md            fetches and proves that file only
        """,
    ),
    "diff": Command(
        _configure_diff,
        _diff,
        """
        sapwood diff main .                   A is only in the second, D only in the first, M in both but different
        sapwood diff main other && echo same  exit code 0: no difference, 1: some
        """,
    ),
}
