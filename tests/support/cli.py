"""The command `sapwood` as a process of its own, with a cache and a default store of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Said:
    """What a finished command left: exit code, data, talk."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document it printed."""
        return json.loads(self.out)


def document_of(process: subprocess.Popen[str]) -> Any:
    """Return the JSON document that a process which goes on has printed."""
    assert process.stdout is not None
    lines = ""
    for line in process.stdout:
        lines += line
        if line == "}\n":
            return json.loads(lines)
    raise AssertionError(f"it ended, and said: {lines}")


class Sapwood:
    """Runs commands whose state lies below `home`, in the working directory `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cache = home / "cache"
        self.store = home / "store"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        return {**os.environ, "SAPWOOD_CACHE": str(self.cache), "SAPWOOD_STORE": str(self.store), "NO_COLOR": "1"}

    def command(self, *words: str | Path) -> list[str]:
        """Return the command line of `sapwood WORDS…`."""
        return [sys.executable, "-m", "sapwood", *map(str, words)]

    def __call__(self, *words: str | Path) -> Said:
        """Run `sapwood WORDS…` to its end."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=200,
        )
        out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
        return Said(done.returncode, out, err)

    def without_powers(self) -> Sapwood:
        """Return one whose commands heed permissions, as those of an ordinary user do, even if we are root."""
        return _Powerless(self.home) if os.getuid() == 0 else self

    def good(self, *words: str | Path) -> Said:
        """Run a command that must succeed."""
        said = self(*words)
        assert said.code == 0, said
        return said


class _Powerless(Sapwood):
    def command(self, *words: str | Path) -> list[str]:
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *super().command(*words)]
