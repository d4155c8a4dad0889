"""What goes to stdout and is no text: an archive, a tar.

Promise: it is alone there, and a terminal gets none of it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    import argparse


def require_one_stdout(arguments: argparse.Namespace, out: str, what: str) -> None:
    """Refuse to mix `what` with a report, and to send it to a terminal, if `out` is `-`, stdout.

    Raises:
        InvalidInputError: `bad-usage`.
    """
    from sapwood.errors import InvalidInputError

    if out != "-":
        return
    if arguments.json:
        raise InvalidInputError(
            f"stdout takes the {what} or the report, not both", kind="bad-usage", hint=f"name a file for the {what}"
        )
    if sys.stdout.isatty():
        raise InvalidInputError(
            f"the {what} is nothing for a terminal", kind="bad-usage", hint="name a file, or send stdout to one"
        )
    sys.stdout.flush()
