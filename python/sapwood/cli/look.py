"""`sapwood ls`, `cat` and `diff`: trees as they are, without fetching more than what is looked at."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from itertools import chain
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import Command, add_json, add_platform, add_seek_index, add_toc, for_platform
from sapwood.cli.hash import add_options, options_of
from sapwood.cli.progress import opening

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sapwood.tree.tree import Item, Tree

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
_TREE = "an address, an archive, an image, or a directory"


def _configure_ls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tree", metavar="TREE", help=_TREE)
    parser.add_argument("path", metavar="PATH", nargs="?", default="", help="a directory in it (default: its root)")
    parser.add_argument("-l", "--long", action="store_true", help="with mode, links, owner, size, time and target")
    parser.add_argument("-R", "--recursive", action="store_true", help="everything below, each with its whole path")
    add_options(parser)
    add_platform(parser)
    add_seek_index(parser)
    add_toc(parser)
    add_json(parser)


def _ls(arguments: argparse.Namespace) -> int:
    from sapwood.open import open_tree

    where = for_platform(arguments.tree, arguments)
    options = options_of(arguments)
    with opening() as callback:
        tree = open_tree(where, options, seek_index=arguments.seek_index, toc=arguments.toc, progress=callback)
    entries = _asked(tree, os.fsencode(arguments.path).strip(b"/"), recursive=arguments.recursive)
    if arguments.json:
        show.document([_record(path, item) for path, item in entries])
        return 0
    for path, item in entries:
        name = path if arguments.recursive else path.rpartition(b"/")[2]
        if arguments.long:
            arrow = (b" -> ", item.target) if item.kind == "symlink" and item.target is not None else ()
            show.line(_long(item), name, *arrow)
        else:
            show.line(name)
    return 0


def _asked(tree: Tree, path: bytes, *, recursive: bool) -> Iterable[tuple[bytes, Item]]:
    """What is listed, by its path in the tree."""
    from sapwood.tree.source import joined
    from sapwood.tree.tree import Tree

    asked = tree.lookup(path)
    if not isinstance(asked, Tree):
        return [(path, asked)]
    below = asked.list() if recursive else asked.list_immediate()
    inside = ((joined(path, name), item) for name, item in below)
    return chain([(path, asked)], inside) if recursive and path else inside


def _long(item: Item) -> str:
    # A hard link's attributes are those of its first name.
    about = item.resolved()
    mode = stat.filemode(_KINDS[item.kind] | about.mode)
    size = f"{about.size:,}" if about.device is None else "{}, {}".format(*about.device)
    when = show.time(about.mtime_ns or 0)[:19]
    return f"{mode} {about.links:>2} {about.uid:>5} {about.gid:>5} {size:>13} {when}Z  "


def _record(path: bytes, entry: Item) -> dict[str, object]:
    return {
        "path": show.text(path),
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
    add_platform(parser)
    add_seek_index(parser)
    add_toc(parser)


def _cat(arguments: argparse.Namespace) -> int:
    from sapwood.open import open_tree

    where = for_platform(arguments.tree, arguments)
    with opening() as callback:
        tree = open_tree(where, seek_index=arguments.seek_index, toc=arguments.toc, progress=callback)
    for path in arguments.paths:
        for piece in tree.read_blob(os.fsencode(path)):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
    return 0


def _configure_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help=f"the one tree: {_TREE}")
    parser.add_argument("b", metavar="B", help="the other")
    parser.add_argument("paths", metavar="PATH", nargs="*", help="compare only what is there (default: everything)")
    add_options(parser)
    parser.add_argument(
        "--seek-index", metavar="FILE", help="that of A, if A is an archive, else that of B (default: ARCHIVE.sapwood)"
    )
    add_toc(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-u", "--unified", action="store_true", help="as text that `patch -p1` and `git apply` take")
    form.add_argument("-z", dest="nul", action="store_true", help="end each line with a NUL, names as they are")
    form.add_argument("--json", action="store_true", help="report as one JSON document on stdout")


def _diff(arguments: argparse.Namespace) -> int:
    from sapwood.open import is_directory, open_tree
    from sapwood.store.naming import may_name_archive

    options, said = options_of(arguments), {"seek_index": arguments.seek_index, "toc": arguments.toc}
    is_of_a = may_name_archive(arguments.a)
    # They are for the side that is a directory: the other was looked at when it was pushed.
    is_of_one = is_directory(arguments.a) != is_directory(arguments.b)
    for_a, for_b = (options if is_directory(side) or not is_of_one else None for side in (arguments.a, arguments.b))
    with opening() as callback:
        a = open_tree(arguments.a, for_a, **(said if is_of_a else {}), progress=callback)
        b = open_tree(arguments.b, for_b, **({} if is_of_a else said), progress=callback)
    if arguments.paths:
        a, b = _only(a, b, [os.fsencode(path).strip(b"/") for path in arguments.paths])
    if arguments.unified:
        return _write_unified(a, b)
    changes = a.diff(b)
    if arguments.json:
        found = [{"kind": change.kind, "path": show.text(change.path)} for change in changes]
        show.document(found)
        return 1 if found else 0
    write = show.record if arguments.nul else show.line
    code = 0
    for change in changes:
        code = 1
        write(_LETTERS[change.kind], " ", change.path)
    return code


def _only(a: Tree, b: Tree, paths: list[bytes]) -> tuple[Tree, Tree]:
    """Both trees with what they have at `paths`, and nothing else."""
    from sapwood.errors import NotFoundError
    from sapwood.tree.source import shown
    from sapwood.tree.tree import Tree

    only = [Tree.of({}), Tree.of({})]
    for path in paths:
        found = a.find(path), b.find(path)
        if found == (None, None):
            raise NotFoundError(f"no {shown(path)} in either tree", kind="path-missing", path=path)
        for side, (tree, item) in enumerate(zip((a, b), found, strict=True)):
            at = path
            while item is None:  # the directories that would hold it are not what differs
                at = at.rpartition(b"/")[0]
                item = Tree.of({}) if tree.find_tree(at) is not None else None
            if at == path or only[side].find(at) is None:
                only[side] = only[side].modify(at, item)
    return only[0], only[1]


def _write_unified(a: Tree, b: Tree) -> int:
    from sapwood.tree.unified import unified_diff

    code = 0
    for line in unified_diff(a, b):
        code = 1
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return code


COMMANDS = {
    "ls": Command(
        _configure_ls,
        _ls,
        """
        sapwood ls main                       the root of ref `main` of the default store
        sapwood ls -l s3://bucket/trees#venv lib/python3.11
        sapwood ls -lR https://host/bundle.tar.gz
        sapwood ls oci://docker.io/library/busybox:1.36 bin
        sapwood ls -R --json . | jq -r '.[] | select(.size > 1000000) | .path'
        """,
    ),
    "cat": Command(
        _configure_cat,
        _cat,
        """
        sapwood cat main README.md            fetches and proves that file only
        sapwood cat bundle.tar.gz README.md   of an archive, too
        sapwood cat --toc layer.toc layer.tar.gz etc/os-release
        """,
    ),
    "diff": Command(
        _configure_diff,
        _diff,
        """
        sapwood diff main .                   A is only in the second, D only in the first, M in both but different
        sapwood diff main other && echo same  exit code 0: no difference, 1: some
        sapwood diff -u main . lib | patch -p1 -d checkout
        """,
    ),
}
