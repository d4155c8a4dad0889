"""`sapwood coverage`: what of a tree is ever read, and what a slimmer one would leave out."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import Command, add_json, add_platform, for_platform

if TYPE_CHECKING:
    from sapwood.coverage import Area, Coverage, Layer

# What is shown of a tree has at least this share of its bytes.
_LEAST = 0.01
# Of the command that made a layer, in characters.
_MOST_OF_A_COMMAND = 60


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="which tree")
    parser.add_argument(
        "--profile",
        metavar="FILE",
        help="what was read, from `trace --out` (default: what the store has, or, of an image, this machine)",
    )
    parser.add_argument(
        "--by",
        choices=("directory", "layer", "package"),
        default="directory",
        help="what to sum up by: directories, layers of an image, or packages of dpkg, apk, rpm, pip and npm",
    )
    parser.add_argument("--depth", type=int, default=4, metavar="N", help="how deep directories are shown (default 4)")
    parser.add_argument("--html", type=Path, metavar="OUT", help="draw it as one page that needs nothing else, too")
    parser.add_argument(
        "--drop-list", action="store_true", help="print the files that were never read instead, one a line"
    )
    add_platform(parser)
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    from sapwood.coverage import measure
    from sapwood.errors import InvalidInputError
    from sapwood.profile import read_profile
    from sapwood.store.naming import without_query

    if arguments.depth < 0:
        raise InvalidInputError(f"--depth {arguments.depth}: no depth", kind="bad-usage", hint="--depth 4")
    profile = None if arguments.profile is None else read_profile(arguments.profile)
    address = for_platform(arguments.address, arguments)
    found = measure(address, profile, by_package=arguments.by == "package", by_layer=arguments.by == "layer")
    if arguments.html is not None:
        _draw(arguments.html, found, without_query(arguments.address))
    if arguments.json:
        show.document(_document(arguments, found))
    elif arguments.drop_list:
        for path in found.never_read():
            show.line(path)
    else:
        _show(arguments, found)
    return 0


def _draw(out: Path, found: Coverage, address: str) -> None:
    from sapwood.coverage import treemap
    from sapwood.errors import UnavailableError

    try:
        out.write_text(treemap(found, f"What is read of {address}"), encoding="utf-8", errors="replace")
    except OSError as error:
        raise UnavailableError(f"cannot write {out}: {error.strerror}", kind="io") from error


def _document(arguments: argparse.Namespace, found: Coverage) -> dict[str, object]:
    from sapwood.store.naming import without_query

    root = found.root()
    return {
        "address": without_query(arguments.address),
        "tree": found.tree,
        "runs": found.runs,
        **_sums(root),
        "absent": found.absent,
        "directories": [
            {"path": show.text(path), **_sums(area)} for path, area in _directories(root, arguments.depth, 0)
        ],
        "packages": None
        if found.packages is None
        else [{"name": show.text(area.name) or None, **_sums(area)} for area in found.packages],
        "layers": None if found.layers is None else [_layer(layer) for layer in found.layers],
        "neverRead": [show.text(path) for path in found.never_read()] if arguments.drop_list else None,
    }


def _layer(layer: Layer) -> dict[str, object]:
    return {"digest": layer.digest, "madeBy": layer.made_by or None, **_sums(layer.seen), "bytesHidden": layer.hidden}


def _sums(area: Area) -> dict[str, object]:
    return {
        "files": area.files,
        "filesRead": area.files_read,
        "bytes": area.bytes,
        "bytesRead": area.bytes_read,
        "bytesNeverRead": area.bytes_never,
    }


def _show(arguments: argparse.Namespace, found: Coverage) -> None:
    root = found.root()
    show.talk(f"runs:    {found.runs:,}")
    show.talk(f"read:    {show.exact(root.bytes_read)} of {show.exact(root.bytes)}, of {root.files_read:,} files")
    show.talk(
        f"never:   {show.exact(root.bytes_never)} of {show.counted(root.files - root.files_read, 'file')}"
        " that could be left out, if nothing but these runs counts"
    )
    if found.absent:
        show.talk(f"gone:    {show.counted(found.absent, 'file')} that earlier trees had")
    if found.layers is not None:
        _show_layers(found.layers)
        return
    show.line(f"{'read':>10} {'there':>10} {'never read':>11}")
    rows: Iterable[tuple[bytes, Area]]
    if found.packages is not None:
        rows = [(area.name or b"(no package)", area) for area in found.packages]
    else:
        rows = _directories(root, arguments.depth, root.bytes * _LEAST)
    for path, area in rows:
        show.line(
            f"{show.human(area.bytes_read):>10} {show.human(area.bytes):>10} {_percent(area):>11}  ", path or b"."
        )


def _show_layers(layers: list[Layer]) -> None:
    show.line(f"{'read':>10} {'there':>10} {'never read':>11} {'hidden':>10}")
    for layer in layers:
        sums = f"{show.human(layer.seen.bytes_read):>10} {show.human(layer.seen.bytes):>10} {_percent(layer.seen):>11}"
        made = layer.made_by if len(layer.made_by) <= _MOST_OF_A_COMMAND else f"{layer.made_by[:_MOST_OF_A_COMMAND]}…"
        show.line(f"{sums} {show.human(layer.hidden):>10}  {layer.digest[:19]}  ", made.encode("utf-8", "replace"))


def _percent(area: Area) -> str:
    return f"{100 * area.bytes_never / area.bytes:.0f} %" if area.bytes else "-"


def _directories(root: Area, depth: int, least: float) -> Iterable[tuple[bytes, Area]]:
    """Yield the directories down to a depth that have as many bytes, each before what is in it, the largest first."""
    todo = [(b"", root, 0)]
    while todo:
        path, area, level = todo.pop()
        yield path, area
        if level < depth:
            below = [part for part in area.areas.values() if part.areas and part.bytes >= least]
            for part in sorted(below, key=lambda part: (part.bytes, part.name)):
                todo.append((path + b"/" + part.name if path else part.name, part, level + 1))


COMMANDS = {
    "coverage": Command(
        _configure,
        _run,
        """
        sapwood coverage main                        what directories hold, and what of it was ever read
        sapwood coverage --by package --html map.html s3://bucket/trees#image
        sapwood coverage --by layer oci://docker.io/library/python:3.11
        sapwood coverage --drop-list main            what a slimmer tree would leave out
        """,
    ),
}
