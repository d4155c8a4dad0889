"""Tree V: an interpreter of its own with numpy, pandas, scipy and scikit-learn, as one tree that runs from anywhere.

The interpreter that runs this is copied: its program, its libraries, its headers; then what is pinned in
requirements/environment.txt is installed into the copy, and everything is compiled, so that a run compiles nothing.
Made once for each requirements file, interpreter and program, and kept in build/bench, with archives of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.corpus import BUILD, say

_ROOT = Path(__file__).resolve().parent.parent
_REQUIREMENTS = _ROOT / "requirements" / "environment.txt"
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# What others have installed beside the interpreter, and what only serves to link it into a program.
_NOT_COPIED = shutil.ignore_patterns("site-packages", "dist-packages", "config-*", "__pycache__")
_PROGRAM = Path(__file__).with_name("workload.py")


def made() -> Path:
    """Return the tree, making it if this is the first time."""
    recipe = hashlib.sha256(_REQUIREMENTS.read_bytes() + _PROGRAM.read_bytes() + sys.version.encode())
    place = BUILD / f"tree-v-{recipe.hexdigest()[:12]}"
    if not place.exists():
        say("making an interpreter with numpy, pandas, scipy and scikit-learn")
        unfinished = BUILD / "unfinished-tree-v"
        shutil.rmtree(unfinished, ignore_errors=True)
        _copy_interpreter(unfinished)
        python: list[str | Path] = [unfinished / "bin" / _PYTHON, "-m"]
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        pip += ["--python", python[0], "install", "--require-hashes", "--only-binary=:all:", "--no-compile"]
        subprocess.run([*pip, "-r", _REQUIREMENTS], check=True, env=environment(unfinished))
        # Some of what serves tests is no Python on purpose.
        compiling = [*python, "compileall", "-q", "-q", unfinished / "lib"]
        subprocess.run(compiling, env=environment(unfinished), stderr=subprocess.DEVNULL)
        shutil.copyfile(_PROGRAM, unfinished / _PROGRAM.name)
        unfinished.rename(place)
    return place


def packed(tree: Path, level: int) -> Path:
    """Return the tree as a tar, compressed by zstd at a level, making it if this is the first time."""
    archive = tree.with_name(f"{tree.name}-{level}.tar.zst")
    if not archive.exists():
        say(f"packing it by zstd -{level}")
        unfinished = BUILD / "unfinished.tar.zst"
        script = 'tar -cf - --sort=name -C "$1" . | zstd -q -f -T0 "-$2" -o "$3"'
        subprocess.run(["bash", "-o", "pipefail", "-c", script, "bash", tree, str(level), unfinished], check=True)
        unfinished.rename(archive)
    return archive


def workload(tree: str | Path) -> list[str]:
    """Return the command that runs the workload in a tree; `{}` of `sapwood run` is a tree too."""
    found = [f"{name}={value}" for name, value in _places(tree).items()]
    return ["env", *found, f"{tree}/bin/{_PYTHON}", f"{tree}/{_PROGRAM.name}"]


def environment(tree: Path) -> dict[str, str]:
    """Return the environment in which the interpreter of a tree runs."""
    return {**os.environ, **_places(tree)}


def _places(tree: str | Path) -> dict[str, str]:
    # A program that was linked with a shared library of Python looks for it where that was installed.
    return {"LD_LIBRARY_PATH": f"{tree}/lib", "PYTHONPATH": ""}


def _copy_interpreter(place: Path) -> None:
    base = Path(sys.base_prefix)
    (place / "bin").mkdir(parents=True)
    program = place / "bin" / _PYTHON
    shutil.copy2((base / "bin" / _PYTHON).resolve(), program)
    library = Path(sysconfig.get_path("stdlib", vars=_base(base)))
    shutil.copytree(library, place / "lib" / _PYTHON, ignore=_NOT_COPIED)
    # Python's tests of itself, 2,000 files, which packages of it leave out.
    shutil.rmtree(place / "lib" / _PYTHON / "test", ignore_errors=True)
    shutil.copytree(sysconfig.get_path("include", vars=_base(base)), place / "include" / _PYTHON)
    for shared in Path(sysconfig.get_config_var("LIBDIR")).glob(f"lib{_PYTHON}*.so*"):
        shutil.copy2(shared, place / "lib" / shared.name, follow_symlinks=False)


def _base(base: Path) -> dict[str, str]:
    return {"base": str(base), "installed_base": str(base), "platbase": str(base), "installed_platbase": str(base)}
