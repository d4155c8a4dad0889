"""Running a command and noting when it said its first line and when it was done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Watched:
    """What a command printed, and seconds from its start."""

    output: str
    first_line_s: float
    done_s: float


def watched(command: Sequence[str | Path], environment: Mapping[str, str]) -> Watched:
    """Run `command` to its end; one that fails ends the demo with its own words on stderr."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        first_line_s = time.perf_counter() - began
        rest = process.stdout.read()
    if process.returncode:
        sys.exit(f"demo: {' '.join(map(str, command))}: ended with code {process.returncode}")
    return Watched(first + rest, first_line_s, time.perf_counter() - began)
