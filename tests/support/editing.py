"""A process that edits a tree without rest, and can be stopped at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROGRAM = """
import os, random, sys
sys.path.insert(0, sys.argv[3])
from tests.support.edits import draw, make
root, dice = os.fsencode(sys.argv[1]), random.Random(int(sys.argv[2]))
print("begins", flush=True)
while True:
    make(root, draw(dice))
"""


class Editor:
    """Makes edits drawn with a seed; see `edits`."""

    def __init__(self, process: int) -> None:
        self._process = process

    def pause(self) -> None:
        """Stop it wherever it is, perhaps within a write; when this returns it edits nothing."""
        os.kill(self._process, signal.SIGSTOP)
        _, status = os.waitpid(self._process, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the editor ended"

    def resume(self) -> None:
        os.kill(self._process, signal.SIGCONT)


@contextmanager
def editing(root: Path, seed: int) -> Iterator[Editor]:
    """Edit the tree `root`, whose own name must be `root`, until the end of the context."""
    here = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", _PROGRAM, str(root), str(seed), here]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "begins\n"
            yield Editor(process.pid)
        finally:
            process.kill()
