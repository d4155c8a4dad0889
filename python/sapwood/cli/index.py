"""`sapwood index`: that of an archive, made; that of a directory, its state, for the curious and the careful.

A first word that is neither `verify` nor `show` is an archive: docs/decisions/0016.
"""

from __future__ import annotations

import argparse
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapwood.cli import show
from sapwood.cli.command import Command, add_json

if TYPE_CHECKING:
    from sapwood.tree.index import Index

_DAMAGED = 5
_ACTIONS = ("verify", "show")
_KINDS = {
    "reg": "regular file",
    "dir": "directory",
    "symlink": "symbolic link",
    "char": "character device",
    "block": "block device",
    "fifo": "FIFO",
    # Never of what was hashed: what a damaged record may say.
    "socket": "socket",
}


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="check an index: header, structure, every checksum, every digest")
    verify.add_argument("path", metavar="PATH", nargs="?", default=".", help="a directory, or anything in it")
    one = actions.add_parser("show", help="explain the record of one entry, and whether it still holds")
    one.add_argument("path", metavar="PATH", help="a file or directory below one that was hashed or pushed")
    for action in (verify, one):
        action.add_argument(
            "--root", metavar="DIR", help="the directory that was hashed (default: the nearest one at or above PATH)"
        )
        action.add_argument("--index", type=Path, metavar="FILE", help="its state, if kept elsewhere; needs --root")
        add_json(action)


def _run(arguments: argparse.Namespace) -> int:
    index, inside = _find(arguments)
    return _verify(index, arguments) if arguments.action == "verify" else _show(index, inside, arguments)


def _find(arguments: argparse.Namespace) -> tuple[Index, bytes]:
    """The index of the directory that holds PATH, and the path in it."""
    from sapwood.errors import InvalidInputError, NotFoundError
    from sapwood.tree.index import Index

    if arguments.index is not None and arguments.root is None:
        raise InvalidInputError(
            "--index needs --root", kind="bad-usage", hint="say which directory it is of: --root DIR"
        )
    path = Path(os.path.abspath(arguments.path))
    roots = [Path(os.path.abspath(arguments.root))] if arguments.root is not None else [path, *path.parents]
    for root in roots:
        index = Index(root, arguments.index)
        if not index.path.exists():
            continue
        if not path.is_relative_to(root):
            raise InvalidInputError(
                f"{path} is not in {root}", kind="bad-usage", hint="name an entry of that directory"
            )
        inside = os.fsencode(path.relative_to(root))
        return index, b"" if inside == b"." else inside
    raise NotFoundError(
        f"no index of {roots[0]}" + (" or a directory above it" if len(roots) > 1 else ""),
        kind="missing",
        hint="make one with `sapwood hash DIR`, or name it with --root and --index",
    )


def _verify(index: Index, arguments: argparse.Namespace) -> int:
    found = index.verify()
    if arguments.json:
        show.document({"index": str(index.path), "records": found.records, "wrong": list(found.wrong)})
    else:
        for wrong in found.wrong:
            show.line(wrong)
        verdict = "all is right" if not found.wrong else "the next hash mends it; no digest was or will be wrong"
        show.talk(f"{index.path}: {show.counted(found.records, 'record')}; {verdict}")
    return _DAMAGED if found.wrong else 0


def _show(index: Index, inside: bytes, arguments: argparse.Namespace) -> int:
    record = index.describe(inside)
    if arguments.json:
        target = record["target"]
        record |= {"path": show.text(inside), "target": target and show.text(target)}
        show.document({_camel(name): value for name, value in record.items()})
        return 0
    show.line(inside or b".", f": record {record['record']} of {index.path}")
    for name, value in _explained(record):
        show.line(f"  {name:<10}", value)
    return 0


def _camel(name: str) -> str:
    """Spell a field as all documents do: `mtimeNs`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _explained(record: dict[str, Any]) -> list[tuple[str, str | bytes]]:
    mode = stat.filemode(record["mode"])[1:]
    lines: list[tuple[str, str | bytes]] = [
        ("kind", f"{_KINDS[record['kind']]}, {mode}, owner {record['uid']}:{record['gid']}"),
        ("size", show.exact(record["size"])),
        ("inode", f"{record['ino']} of device {record['dev']}"),
        ("modified", show.time(record["mtime_ns"])),
        ("changed", f"{show.time(record['ctime_ns'])} (ctime)"),
    ]
    if record["kind"] in ("reg", "dir"):
        lines.append(("digest", record["digest"] or "not known: not read since it was listed"))
    if record["target"] is not None:
        lines.append(("target", record["target"]))
    if record["kind"] == "dir":
        entries = f"{show.counted(record['count'], 'entry')}, from record {record['first']} on"
        fits = "the digest is of these" if record["summed"] else "the digest is not of these: it is taken again"
        lines.append(("entries", f"{entries}; {fits}" if record["count"] else "none"))
    flags = [text for flag, text in _FLAGS.items() if record[flag]]
    if flags:
        lines.append(("noted", "; ".join(flags)))
    lines.append(("checksum", f"{record['checksum']:08x}, {'right' if record['whole'] else 'wrong: it is read again'}"))
    lines.append(("on disk", _verdict(record)))
    return lines


_FLAGS = {
    "racy": "racy: changed so shortly before it was read that it is read again",
    "xattrs": "has extended attributes",
    "links": "has other names (hard links)",
    "sparse": "has holes",
}


def _verdict(record: dict[str, Any]) -> str:
    if record["differs"] == ["gone"]:
        return "gone"
    if record["differs"]:
        return f"{', '.join(record['differs'])} differ: the next hash looks into it"
    return (
        "the same; the next hash reads it all the same"
        if record["racy"]
        else "the same: the next hash does not read it"
    )


def _configure_archive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", metavar="ARCHIVE", help="a tar, plain or by gzip or zstd; a path or URL")
    parser.add_argument("--output", metavar="FILE", help="the index (default: ARCHIVE.sapwood); s3://…, gs://…, az://…")
    add_json(parser)


def _index(arguments: argparse.Namespace) -> int:
    from sapwood.cli.progress import progress
    from sapwood.seekindex import index_archive

    with progress("reading") as callback:
        made = index_archive(arguments.archive, arguments.output, progress=callback)
    if arguments.json:
        show.document(
            {
                "tree": made.tree,
                "map": made.map,
                "entries": made.entries,
                "bytes": made.bytes,
                "checkpoints": made.checkpoints,
                "size": made.size,
                "seconds": round(made.seconds, 6),
            }
        )
        return 0
    show.talk(f"archive: {show.counted(made.entries, 'entry')}, {show.exact(made.bytes)} in files")
    show.talk(f"index:   {show.exact(made.size)}, in {show.seconds(made.seconds)}")
    show.line(made.tree)
    return 0


class _Index(Command):
    """Two commands of one name: the archive's has no word before it."""

    __slots__ = ()

    def parser(self, name: str, summary: str) -> argparse.ArgumentParser:
        parser = super().parser(name, summary)
        parser.usage = "sapwood index ARCHIVE [--output FILE] [--json]\n       sapwood index ACTION …"
        return parser

    def main(self, name: str, summary: str, arguments: list[str]) -> int:
        from sapwood.errors import InvalidInputError

        word = next((word for word in arguments if not word.startswith("-")), None)
        if word is None and not {"-h", "--help"} & set(arguments):
            raise InvalidInputError(
                "index: name an archive, or what to do: verify or show",
                kind="bad-usage",
                hint="sapwood index --help",
            )
        if word is None or word in _ACTIONS:
            return super().main(name, summary, arguments)
        return Command(_configure_archive, _index, self.examples).main(name, summary, arguments)


COMMANDS = {
    "index": _Index(
        _configure,
        _run,
        """
        sapwood index bundle.tar.gz           lets ls, cat, mount … read single files of it, by bundle.tar.gz.sapwood
        sapwood index --output b https://…    reads it once; then: sapwood mount --seek-index b https://… /mnt/b
        sapwood index verify .                checks the state that is kept of this directory
        sapwood index show src/main.c         what is recorded of one file, and whether it still holds
        """,
    ),
}
