"""The input of the demo: a Python environment as people have them, with numpy and pandas.

Made once for each requirements file and interpreter and kept in build/demo; then only the programs in it change.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_REQUIREMENTS = _ROOT / "requirements" / "demo.txt"
# By what they import. The first needs a part of the environment, as most jobs do, and is the one that is edited; the
# second needs most of it.
PROGRAMS = {"numpy": "report.py", "pandas": "frames.py"}


def made(below: Path) -> Path:
    """Return an environment below `below`, making it if this is the first time."""
    recipe = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    place = below / f"environment-{recipe}"
    if not place.exists():
        unfinished = below / "environment-unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", unfinished], check=True)
        pip: list[str | Path] = [unfinished / "bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", "--require-hashes", "--only-binary=:all:", "-r", _REQUIREMENTS], check=True)
        # Scripts in bin/ name the place they were made at, as in any environment that was copied; the demo needs none.
        unfinished.rename(place)
    for program in PROGRAMS.values():
        shutil.copyfile(Path(__file__).with_name(program), place / program)
    return place


def edit(place: Path) -> None:
    """Change one file of the environment, as a developer would."""
    program = place / "report.py"
    program.write_text(program.read_text(encoding="utf-8").replace("first edition", "second edition"), encoding="utf-8")
