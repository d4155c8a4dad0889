"""How long a start takes, as a whole process."""

from __future__ import annotations

import sys

from benchmarks.measure import Case, Figure, at_most, in_turns
from benchmarks.sapwood import SAPWOOD

COMMANDS = (
    "`sapwood --version`, `python -c 'import sapwood'` and `python -c 'from sapwood import Index'`, which loads the"
    " core : `python -c pass`"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    version, imported, loaded, python = in_turns(
        [
            Case("version", [SAPWOOD, "--version"]),
            Case("import", [sys.executable, "-c", "import sapwood"]),
            Case("import Index", [sys.executable, "-c", "from sapwood import Index"]),
            Case("python", [sys.executable, "-c", "pass"]),
        ],
        4 * rounds,
    )
    return [
        at_most("start-up", version, python, 60),
        at_most("`import sapwood`", imported, python, 30),
        at_most("`from sapwood import Index`", loaded, python, 30),
    ]
