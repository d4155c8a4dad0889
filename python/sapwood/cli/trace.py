"""`sapwood trace`: a command runs on a mounted tree, and what it reads is recorded as a profile.

Promise: as of `run`; and the profile is kept, added to what other runs read, or the reason is said. A command that
fails has read something, too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from sapwood.cli import show
from sapwood.cli.command import Command, add_json
from sapwood.cli.run import add_running, command_of, run_mounted

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from sapwood.profile import Profile


def _configure(parser: argparse.ArgumentParser) -> None:
    add_running(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="keep the profile in FILE, added to what it has, and not in the store: for archives and what is read-only",
    )
    add_json(parser)


def _trace(arguments: argparse.Namespace) -> int:
    command = command_of(arguments, "trace")
    _require_place(arguments)
    with tempfile.TemporaryDirectory(prefix="sapwood-trace-") as scratch:
        traced = Path(scratch) / "profile"
        code = run_mounted(command, arguments, trace=os.fsdecode(traced), to_stderr=arguments.json)
        return _keep(arguments, traced, code)


def _require_place(arguments: argparse.Namespace) -> None:
    """Refuse to run anything whose profile could not be kept."""
    from sapwood.errors import InvalidInputError
    from sapwood.profile import read_profile
    from sapwood.store import Address, open_store
    from sapwood.store.naming import may_name_archive, without_query

    if arguments.out is not None:
        _require_writable(arguments.out.parent)
        if arguments.out.exists():
            read_profile(arguments.out)
        return
    if may_name_archive(arguments.address):
        raise InvalidInputError(
            f"{without_query(arguments.address)}: an archive keeps no profile",
            kind="bad-usage",
            hint="name a file for it: --out FILE",
        )
    open_store(Address.parse(arguments.address).store_url).require_writable()


def _require_writable(directory: Path) -> None:
    from sapwood.errors import DeniedError, NotFoundError

    if not directory.is_dir():
        raise NotFoundError(f"{directory} is missing", kind="path-missing", hint=f"mkdir -p {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise DeniedError(f"cannot write to {directory}", kind="path-denied")


def _keep(arguments: argparse.Namespace, traced: Path, code: int) -> int:
    from sapwood.errors import SapwoodError
    from sapwood.profile import read_profile

    try:
        run = read_profile(traced)
        whole = _keep_in_file(arguments.out, run) if arguments.out else _keep_in_store(arguments.address, run)
    except SapwoodError as error:
        from sapwood.cli.failure import report

        # That the command failed is worse news.
        return code or report(error)
    _tell(arguments, run, whole, code)
    return code


def _keep_in_file(out: Path, run: Profile) -> Profile:
    from sapwood.profile import read_profile, write_profile

    whole = read_profile(out).merged(run) if out.exists() else run
    write_profile(out, whole)
    return whole


def _keep_in_store(address: str, run: Profile) -> Profile:
    from sapwood.profile import keep_profile
    from sapwood.store import Address, open_store

    parsed = Address.parse(address)
    return keep_profile(open_store(parsed.store_url), parsed.ref, run)


def _tell(arguments: argparse.Namespace, run: Profile, whole: Profile, code: int) -> None:
    from sapwood.store.naming import without_query

    programs = sorted({reader for part in run.parts for reader in part.readers})
    count = sum(part.bytes for part in run.parts)
    if arguments.json:
        show.document(
            {
                "address": without_query(arguments.address),
                "tree": run.tree,
                "out": None if arguments.out is None else show.text(bytes(arguments.out)),
                "code": code,
                "files": len(run.paths()),
                "parts": len(run.parts),
                "bytes": count,
                "programs": [show.text(program) for program in programs],
                "runs": whole.runs,
                "filesOfAllRuns": len(whole.paths()),
            }
        )
        return
    by = ", ".join(show.quoted(program) for program in programs) or "nobody"
    show.talk(f"read:    {show.exact(count)} of {show.counted(len(run.paths()), 'file')}, by {by}")
    show.talk(f"profile: {show.counted(len(whole.paths()), 'file')} of {show.counted(whole.runs, 'run')}")


COMMANDS = {
    "trace": Command(
        _configure,
        _trace,
        """
        sapwood trace s3://bucket/trees#venv -- {}/bin/python -c 'import numpy'
        sapwood trace --out app.profile https://host/app.tar.gz -- {}/bin/app --help
        """,
    ),
}
