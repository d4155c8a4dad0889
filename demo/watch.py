"""Running a command and noting when it said its first line and when it was done."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
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
    """Run `command` to its end; what it talks is shown if it fails, which ends the demo."""
    with tempfile.TemporaryFile("w+") as talk:
        began = time.perf_counter()
        with subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=talk,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                first = process.stdout.readline()
                first_line_s = time.perf_counter() - began
                rest = process.stdout.read()
            except BaseException:
                # Ctrl-C: nothing is left when it has ended, and that takes as long as it takes.
                process.terminate()
                process.wait()
                raise
        done_s = time.perf_counter() - began
        if process.returncode:
            talk.seek(0)
            sys.exit(
                f"demo: {' '.join(map(str, command))}: ended with code {process.returncode}\n{talk.read().rstrip()}"
            )
    return Watched(first + rest, first_line_s, done_s)
