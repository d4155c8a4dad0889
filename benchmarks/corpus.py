"""The corpus: Debian's linux-source-6.1, unpacked, its .gitignore files removed (git must see what sapwood sees).

Made once into build/bench/; `git_directory` is a repository of the same tree whose .git lies outside of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).resolve().parent.parent / "build" / "bench"
_PACKAGE = "linux-source-6.1"
_PACKED = Path(f"/usr/src/{_PACKAGE}.tar.xz")


def corpus() -> Path:
    """Return the corpus, unpacking it if this is the first time."""
    place = BUILD / _PACKAGE
    if not place.exists():
        _need_package()
        say(f"unpacking {_PACKED}")
        unfinished = BUILD / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        subprocess.run(["tar", "-xf", _PACKED, "-C", unfinished, "--strip-components=1"], check=True)
        for ignoring in unfinished.rglob(".gitignore"):
            ignoring.unlink()
        unfinished.rename(place)
    return place


def git_directory() -> Path:
    """Return a repository in which the corpus is committed."""
    place = BUILD / f"{_PACKAGE}.git"
    if not place.exists():
        tree = corpus()
        say("committing it to git")
        unfinished = BUILD / "unfinished.git"
        shutil.rmtree(unfinished, ignore_errors=True)
        git: list[str | Path] = ["git", "--git-dir", unfinished, "--work-tree", tree]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "add", "--all"], check=True)
        names = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        subprocess.run([*git, *names, "commit", "--quiet", "--message", "corpus"], check=True)
        # It has packed what it will; no housekeeping starts in the middle of a measurement.
        subprocess.run([*git, "config", "gc.auto", "0"], check=True)
        unfinished.rename(place)
    return place


def package_version() -> str:
    """Return the version of the Debian package that the corpus is from."""
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", _PACKAGE], capture_output=True, text=True)
    return shown.stdout or "unknown"


def _need_package() -> None:
    if _PACKED.exists():
        return
    if os.getuid() != 0:
        raise SystemExit(f"bench: {_PACKED} is missing: apt-get install {_PACKAGE} (as root)")
    say(f"installing {_PACKAGE}")
    subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", _PACKAGE], check=True)


def say(words: str) -> None:
    print(f"bench: {words}", file=sys.stderr)
