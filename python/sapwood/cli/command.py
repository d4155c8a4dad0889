"""One command: its examples, its arguments, and the function that runs it.

Promise: a call that cannot be right ends in the same two lines as any other mistake, and exit code 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from sapwood.errors import InvalidInputError


@dataclass(frozen=True)
class Command:
    """`configure` adds the arguments to a parser, `run` takes what was parsed and returns the exit code."""

    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    examples: str

    def parser(self, name: str, summary: str) -> argparse.ArgumentParser:
        """Return the parser of this command's arguments."""
        examples = "".join(f"  {line.strip()}\n" for line in self.examples.strip().splitlines())
        parser = _Parser(
            prog=f"sapwood {name}",
            description=summary[0].upper() + summary[1:] + ".",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.configure(parser)
        return parser

    def main(self, name: str, summary: str, arguments: list[str]) -> int:
        """Parse `arguments` and run."""
        return self.run(self.parser(name, summary).parse_args(arguments))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{self.prog[8:]}: {message}", kind="bad-usage", hint=f"{self.prog} --help")


def add_prefetch(parser: argparse.ArgumentParser) -> None:
    """Let people say that only what is read shall be fetched."""
    parser.add_argument(
        "--no-prefetch", dest="prefetch", action="store_false", help="fetch only what is read, not the rest behind it"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let the command report to machines: one JSON document on stdout."""
    parser.add_argument("--json", action="store_true", help="report as one JSON document on stdout")
