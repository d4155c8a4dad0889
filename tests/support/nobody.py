"""Python and `sapwood` as an ordinary user, whoever runs the tests.

As root a new process imports what it needs (the interpreter may lie where others cannot look), then becomes nobody.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cli import Said, Sapwood

NOBODY = 65534

# setuid leaves a process that cannot be looked into, not even by itself through /proc; a login would not.
_BECOME = """
import ctypes, importlib, os, pkgutil, sys
sys.path.insert(0, {here!r})
import sapwood, tests.support.trees
for found in pkgutil.walk_packages(sapwood.__path__, "sapwood."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
import rich.console, rich.progress
import encodings.idna, pickle
{first}
if os.geteuid() == 0:
    os.chdir("/")
    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""

_MAIN = "from sapwood.cli.main import main; sys.exit(main(sys.argv[1:]))"


def as_nobody(program: str, *arguments: str | Path, first: str = "") -> Said:
    """Run a Python program with `sys.argv[1:]` as `arguments`; `first` before that, as whoever we are."""
    done = subprocess.run(
        _command(program, *arguments, first=first), stdin=subprocess.DEVNULL, capture_output=True, timeout=250
    )
    out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
    return Said(done.returncode, out, err)


def _command(program: str, *arguments: str | Path, first: str = "") -> list[str]:
    here = str(Path(__file__).parents[2])
    code = _BECOME.format(here=here, nobody=NOBODY, first=first) + program
    return [sys.executable, "-c", code, *map(str, arguments)]


class NobodysSapwood(Sapwood):
    """As `Sapwood`, run by nobody; `home` must be one of nobody's."""

    def command(self, *words: str | Path) -> list[str]:
        return _command(_MAIN, *words)


def sapwood_as_nobody(*words: str | Path) -> Said:
    """Run `sapwood WORDS…`."""
    return as_nobody(_MAIN, *words)


@contextmanager
def nobodys_directory() -> Iterator[Path]:
    """A directory of nobody's that everybody can reach; pytest's own is closed to others."""
    place = Path(tempfile.mkdtemp(prefix="sapwood-test-", dir="/tmp"))
    try:
        place.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(place, NOBODY, NOBODY)
        yield place
    finally:
        shutil.rmtree(place)


@contextmanager
def fuse_for_users() -> Iterator[None]:
    """/dev/fuse as udev leaves it: open to all. Containers and small systems often have it closed.

    One at a time on this machine: whoever ends leaves it as it was found.
    """
    claimed = os.open("/dev", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(claimed, fcntl.LOCK_EX)
        mode = os.stat("/dev/fuse").st_mode
        os.chmod("/dev/fuse", 0o666)
        try:
            yield
        finally:
            os.chmod("/dev/fuse", mode)
    finally:
        os.close(claimed)
