"""Timing an expression inside a running Python process: what a program that has sapwood loaded waits for.

    python -m benchmarks.running SETUP FRESH TIMED

executes SETUP, then for each line on stdin executes FRESH, evaluates TIMED and prints, as a line of JSON, the seconds
that TIMED took, the peak of memory in bytes so far, and what came out as text. It ends when stdin does.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class Asked:
    """A case as `measure.Case` is, in a process that is running already; made by `running`."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.result = ""
        self._process = process

    def prepare(self) -> None:
        """Nothing: FRESH is executed in the process."""

    def run(self) -> tuple[float, int]:
        """Evaluate the expression once; `result` is what came out."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"bench: {self.name}: the process ended with code {self._process.wait()}")
        spent, peak, self.result = json.loads(answer)
        return spent, peak


@contextmanager
def running(
    name: str, setup: str, timed: str, *, fresh: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[Asked]:
    """Give the case for the life of the context."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.running", setup, fresh, timed],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield Asked(name, process)
    finally:
        process.communicate()


def main() -> None:
    """Answer until stdin ends."""
    setup, fresh, timed = sys.argv[1:]
    scope: dict[str, object] = {}
    exec(setup, scope)
    prepared, expression = compile(fresh, "FRESH", "exec"), compile(timed, "TIMED", "eval")
    for _ in sys.stdin:
        exec(prepared, scope)
        began = time.perf_counter()
        result = eval(expression, scope)
        spent = time.perf_counter() - began
        print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, str(result)]), flush=True)


if __name__ == "__main__":
    main()
