"""How long `sapwood --version` takes as a whole process."""

from __future__ import annotations

import sys

from benchmarks.measure import Case, Figure, in_turns
from benchmarks.sapwood import SAPWOOD

COMMANDS = "`sapwood --version` : `python -c pass`"


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    ours = Case("version", [SAPWOOD, "--version"])
    peer = Case("python", [sys.executable, "-c", "pass"])
    version, python = in_turns([ours, peer], 4 * rounds)
    return [Figure("start-up", str(version), str(python), version.median * 1000, 60, "ms")]
