"""The words of the command line that say which server builds, and how it is reached."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sapwood.build.remote import Executor

__all__ = ["add_executor", "executor_of"]


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Add `--executor` and what goes with it."""
    parser.add_argument(
        "--executor",
        metavar="URL",
        help="let a server of the Remote Execution API build: grpc://HOST:PORT, or grpcs://",
    )
    parser.add_argument("--cas", metavar="URL", help="where it reads and stores blobs (default: at the same address)")
    parser.add_argument("--instance", metavar="NAME", default="", help="which of its instances (default: the unnamed)")
    parser.add_argument(
        "--complete",
        choices=["background", "never"],
        help="send also what no builder reads, behind what is waited for, or never (default: background)",
    )
    parser.add_argument("--token-file", metavar="FILE", help="send the bearer token in FILE with each call")
    parser.add_argument("--tls-ca", metavar="FILE", help="trust these certificates, not the system's")


def executor_of(arguments: argparse.Namespace) -> Executor | None:
    """Return the server that is named; None: it is built here.

    Raises:
        InvalidInputError: `bad-usage`: something is said of a server, and none is named; `bad-token`.
        NotFoundError: `path-missing`.
        UnavailableError: `grpc-missing`.
    """
    from sapwood.errors import InvalidInputError, NotFoundError, UnavailableError

    if arguments.executor is None:
        for option in ("cas", "instance", "complete", "token_file", "tls_ca"):
            if getattr(arguments, option):
                raise InvalidInputError(
                    f"--{option.replace('_', '-')} says something of a server, and none is given",
                    kind="bad-usage",
                    hint="--executor grpc://HOST:PORT",
                )
        return None
    try:
        from sapwood.build.remote import Executor
        from sapwood.reapi.channel import read_token
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"{error.name} is not installed", kind="grpc-missing", hint="pip install 'sapwood[build]'"
        ) from error
    try:
        ca = Path(arguments.tls_ca).read_bytes() if arguments.tls_ca else None
    except OSError as error:
        raise NotFoundError(f"{arguments.tls_ca}: {error.strerror}", kind="path-missing") from error
    token = read_token(arguments.token_file) if arguments.token_file else None
    complete = arguments.complete != "never"
    return Executor(arguments.executor, arguments.cas, arguments.instance, token, ca, complete)
