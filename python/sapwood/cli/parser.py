"""The parser of a command's arguments: argparse, with the errors and the help of this program."""

from __future__ import annotations

import argparse
from typing import NoReturn

from sapwood.errors import InvalidInputError


def make(name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser without arguments yet."""
    lines = "".join(f"  {line.strip()}\n" for line in examples.strip().splitlines())
    return _Parser(
        prog=f"sapwood {name}",
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{self.prog[8:]}: {message}", kind="bad-usage", hint=f"{self.prog} --help")
