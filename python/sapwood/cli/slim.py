"""`sapwood slim`: of an image one that has only what was read of it, and what people keep."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sapwood.cli import show
from sapwood.cli.command import Command, add_json, add_platform, for_platform
from sapwood.cli.progress import progress

if TYPE_CHECKING:
    from sapwood.coverage import Area
    from sapwood.oci.slim import Plan, Slimmed

# Of the packages of which most is left out so many are shown.
_SHOWN = 20


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="which image")
    parser.add_argument("out", metavar="OUT", nargs="?", help="where to: oci://HOST/REPOSITORY:TAG, or oci:DIR:TAG")
    parser.add_argument(
        "--keep",
        metavar="PATTERN",
        action="append",
        default=[],
        help="keep what matches, though nobody read it, as in a .dockerignore: etc/ssl, **/*.pem, !**/test",
    )
    parser.add_argument(
        "--profile",
        metavar="FILE",
        help="what was read, from `trace --out` (default: what this machine and others know)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be left out")
    parser.add_argument("--drop-list", action="store_true", help="print the files that are left out, one a line")
    add_platform(parser)
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    from sapwood.errors import InvalidInputError
    from sapwood.image import ImageName
    from sapwood.oci.slim import plan, require_other_name, slim
    from sapwood.profile import read_profile

    if arguments.out is None and not arguments.dry_run:
        raise InvalidInputError(
            f"{arguments.image}: where to was not said",
            kind="bad-usage",
            hint=f"sapwood slim {arguments.image} oci:DIR",
        )
    source = ImageName.parse(for_platform(arguments.image, arguments))
    destination = None if arguments.out is None else ImageName.parse(arguments.out)
    if destination is not None:
        require_other_name(source, destination)
    planned = plan(source, None if arguments.profile is None else read_profile(arguments.profile), arguments.keep)
    made = None
    if destination is not None and not arguments.dry_run:
        with progress("slimming") as callback:
            made = slim(planned, destination, progress=callback)
    if arguments.json:
        show.document(_document(arguments, planned, made))
        return 0
    _tell(planned, made)
    if arguments.drop_list:
        for path in planned.left_out:
            show.line(path)
    elif made is not None:
        show.line(str(made.name))
    return 0


def _document(arguments: argparse.Namespace, planned: Plan, made: Slimmed | None) -> dict[str, object]:
    return {
        "image": str(planned.image.name),
        "out": None if made is None else str(made.name),
        "runs": planned.runs,
        "absent": planned.absent,
        "unmatched": planned.unmatched,
        "runnable": planned.is_runnable,
        **_sums(planned.whole()),
        "layers": [
            {"digest": layer.digest, "madeBy": layer.made_by or None, **_sums(layer.seen), "bytesHidden": layer.hidden}
            for layer in planned.layers
        ],
        "packages": [{"name": show.text(area.name) or None, **_sums(area)} for area in planned.packages],
        "leftOut": [show.text(path) for path in planned.left_out] if arguments.drop_list else None,
        "size": planned.size,
        "sizeOut": None if made is None else made.layer.size,
        "seconds": None if made is None else round(made.seconds, 6),
        **show.requests({} if made is None else made.requests),
    }


def _sums(area: Area) -> dict[str, object]:
    return {
        "files": area.files,
        "filesLeftOut": area.files - area.files_read,
        "bytes": area.bytes,
        "bytesLeftOut": area.bytes_never,
    }


def _tell(planned: Plan, made: Slimmed | None) -> None:
    whole = planned.whole()
    out = whole.files - whole.files_read
    show.talk(f"left out: {show.exact(whole.bytes_never)} of {show.exact(whole.bytes)}, {show.counted(out, 'file')}")
    for layer in planned.layers:
        hidden = f", {show.human(layer.hidden)} hidden" if layer.hidden else ""
        share = f"{show.human(layer.seen.bytes_never)} of {show.human(layer.seen.bytes)}{hidden}"
        show.talk(f"  {layer.digest[:19]}  {share}  {show.quoted(layer.made_by[:60].encode('utf-8', 'replace'))}")
    areas = [area for area in planned.packages if area.bytes_never]
    for area in areas[:_SHOWN]:
        share = f"{show.human(area.bytes_never):>9} of {show.human(area.bytes):>9}"
        show.talk(f"  {share}  {show.quoted(area.name or b'(no package)')}")
    if len(areas) > _SHOWN:
        show.talk(f"  … and of {show.counted(len(areas) - _SHOWN, 'package')} more")
    for pattern in planned.unmatched:
        show.talk(f"--keep {show.quoted(pattern.encode('utf-8', 'surrogateescape'))} matches nothing")
    if planned.absent:
        show.talk(f"gone:     {show.counted(planned.absent, 'file')} that the profile names")
    if not planned.is_runnable:
        show.talk("what the image itself runs was never read: it was traced with another command")
    if made is not None and made.without_profile:
        show.talk(f"without its profile: {made.without_profile}")
    if made is not None:
        show.talk(
            f"layers:   {show.exact(planned.size)}, now {show.exact(made.layer.size)}, in {show.seconds(made.seconds)}"
        )


COMMANDS = {
    "slim": Command(
        _configure,
        _run,
        """
        sapwood trace oci://docker.io/library/python:3.11 -- python3 -c 'import ssl'
        sapwood slim --dry-run oci://docker.io/library/python:3.11          what would be left out, by layer and package
        sapwood slim --keep etc/ssl --keep '**/*.pem' oci://docker.io/library/python:3.11 oci://registry.example/python:slim
        sapwood slim --dry-run --drop-list oci:layout:app                   the files that would be
        """,
    ),
}
