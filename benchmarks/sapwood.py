"""The command that is measured, and places that are its own for each measurement."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.corpus import BUILD

SAPWOOD = Path(sys.executable).with_name("sapwood")


def place(name: str) -> Path:
    """Return a path below the build directory at which nothing lies."""
    path = BUILD / "work" / name
    clear(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def clear(*paths: Path) -> None:
    """Remove what lies there."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def with_cache(cache: Path) -> dict[str, str]:
    """Return the environment of a sapwood whose state lies in `cache`."""
    return {"SAPWOOD_CACHE": str(cache)}


def index_file(cache: Path) -> Path:
    """Return the one index in `cache`."""
    [found] = cache.glob("index/*.index")
    return found
