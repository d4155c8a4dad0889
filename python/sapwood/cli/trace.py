"""`sapwood trace`: a command runs on a mounted tree, or in an image, and what it reads is recorded as a profile.

Promise: as of `run`; and the profile is kept, added to what other runs read, or the reason is said. A command that
fails has read something, too; one that could not be started, or read and looked up nothing, is no run.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sapwood.cli import show
from sapwood.cli.command import Command, add_json, for_platform
from sapwood.cli.run import SCRATCH, add_running, command_of, require_no_image_words, run_mounted

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from sapwood.mount import Mount
    from sapwood.profile import Profile

# What a shell says of a command that it cannot start.
_NOT_STARTED = (126, 127)


def _configure(parser: argparse.ArgumentParser) -> None:
    add_running(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="keep the profile in FILE, added to what it has, and not in the store, or, of an image, on this machine",
    )
    where.add_argument(
        "--push",
        action="store_true",
        help="of an image: keep the profile beside it, in its registry or layout, where every machine finds it",
    )
    add_json(parser)


def _trace(arguments: argparse.Namespace) -> int:
    from sapwood.store.naming import names_image

    is_image = names_image(arguments.address)
    command = [] if is_image else command_of(arguments, "trace")
    if not is_image:
        require_no_image_words(arguments)
        if arguments.push:
            from sapwood.errors import InvalidInputError

            raise InvalidInputError(
                f"{arguments.address} is no image, and a store keeps its profiles", kind="bad-usage", hint="no --push"
            )
    if is_image:
        from sapwood.image import ImageName, read_config

        # What runs is what the profile is kept of, wherever the tag is moved to meanwhile.
        pinned, _ = read_config(ImageName.parse(for_platform(arguments.address, arguments)))
        arguments = argparse.Namespace(**vars(arguments) | {"address": str(pinned), "platform": None})
    _require_place(arguments, is_image=is_image)
    from sapwood.scratch import scratch

    with scratch(SCRATCH) as folder:
        traced = folder / "profile"
        if is_image:
            from sapwood.cli.image import run_image

            code = run_image(arguments, trace=os.fsdecode(traced), to_stderr=arguments.json)
        else:
            ran = run_mounted(
                lambda mount: _said_of(mount, command), arguments, trace=os.fsdecode(traced), to_stderr=arguments.json
            )
            assert isinstance(ran, int)  # for there was a command
            code = ran
        return _keep(arguments, traced, code)


def _said_of(mount: Mount | None, command: list[str]) -> list[str]:
    """Return the command; say where it runs, if that is not where `sapwood run` would run it."""
    if mount and mount.image:
        show.talk(f"{mount.address} is an image: {show.quoted(os.fsencode(command[0]))} runs on its tree, not in it")
    return command


def _require_place(arguments: argparse.Namespace, *, is_image: bool) -> None:
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
    if is_image:
        if arguments.push:
            from sapwood.image import ImageName
            from sapwood.image.profiles import require_place

            require_place(ImageName.parse(arguments.address))
        return  # else it is kept on this machine
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
    from sapwood.errors import SapwoodError, UnavailableError
    from sapwood.profile import read_profile
    from sapwood.store.naming import without_query

    try:
        if not traced.exists():
            raise UnavailableError(
                f"{without_query(arguments.address)}: the mount's server ended before it wrote what was read",
                kind="mount-died",
                hint="run it again; on a disk that is busy or full, with TMPDIR on another",
            )
        run = read_profile(traced)
        if code in _NOT_STARTED and (not run.parts or _is_of_sandbox(arguments.address, run)):
            return code
        whole = None
        if run.parts or run.looked_up:
            whole = _keep_in_file(arguments.out, run) if arguments.out else _keep_with_tree(arguments, run)
    except SapwoodError as error:
        from sapwood.cli.failure import report

        said = report(error)
        # That the command failed is worse news.
        return code or said
    _tell(arguments, run, whole, code)
    return code


def _keep_in_file(out: Path, run: Profile) -> Profile:
    from sapwood.profile import read_profile, write_profile

    whole = read_profile(out).merged(run) if out.exists() else run
    write_profile(out, whole)
    return whole


def _keep_with_tree(arguments: argparse.Namespace, run: Profile) -> Profile:
    from sapwood.image.profiles import keep_traced
    from sapwood.profile import keep_profile
    from sapwood.store import Address, open_store
    from sapwood.store.naming import names_image

    if arguments.push:
        return _push(arguments, run)
    if names_image(arguments.address):
        return keep_traced(run)
    parsed = Address.parse(arguments.address)
    return keep_profile(open_store(parsed.store_url), parsed.ref, run)


def _push(arguments: argparse.Namespace, run: Profile) -> Profile:
    from sapwood.image import ImageName, open_image
    from sapwood.image.profiles import push_profile

    image, _ = open_image(ImageName.parse(arguments.address), brings_pages=True)
    return push_profile(image, run)


def _is_of_sandbox(address: str, run: Profile) -> bool:
    """Say whether nobody read of an image but we and the sandbox, before its program would have run."""
    from sapwood.store.naming import names_image

    return names_image(address) and _programs_of(run) <= {b"bwrap", Path("/proc/self/comm").read_bytes().strip()}


def _programs_of(run: Profile) -> set[bytes]:
    """Return the names of who read."""
    return {reader for part in run.parts for reader in part.readers}


def _tell(arguments: argparse.Namespace, run: Profile, whole: Profile | None, code: int) -> None:
    from sapwood.store.naming import without_query

    programs = sorted(_programs_of(run))
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
                "runs": 0 if whole is None else whole.runs,
                "filesOfAllRuns": 0 if whole is None else len(whole.paths()),
            }
        )
        return
    if whole is None:
        show.talk(f"read:    nothing of {without_query(arguments.address)}, which is no run: no profile was kept")
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
        sapwood trace oci://docker.io/library/python:3.11 -- python3 -c 'import json'   in the image
        sapwood trace --push oci://registry.example/app:1   and every machine that mounts it fetches along that
        sapwood trace --out app.profile https://host/app.tar.gz -- {}/bin/app --help
        """,
    ),
}
