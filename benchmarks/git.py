"""The peer of the index: `git status`, as it comes and at its best."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.measure import Case


def status(name: str, directory: Path, tree: Path) -> Case:
    """Return a case: what changed in `tree`, of which `directory` is the repository. It is warm."""
    case = Case(name, ["git", "--git-dir", directory, "--work-tree", tree, "status"])
    # The first reads what has another time than the index says, the second writes the index, the third may trust it.
    for _ in range(3):
        case.run()
    return case


def with_untracked_cache(directory: Path, tree: Path) -> Path:
    """Return a repository that shares the objects of `directory` and has an untracked cache."""
    place = directory.with_name(f"{directory.stem}.untracked.git")
    shutil.rmtree(place, ignore_errors=True)
    git: list[str | Path] = ["git", "--git-dir", place, "--work-tree", tree]
    subprocess.run([*git, "init", "--quiet"], check=True)
    (place / "objects" / "info" / "alternates").write_text(f"{directory / 'objects'}\n", encoding="utf-8")
    for name in ("HEAD", "config", "index"):
        shutil.copy2(directory / name, place / name)
    shutil.copytree(directory / "refs", place / "refs", dirs_exist_ok=True)
    subprocess.run([*git, "config", "core.untrackedCache", "true"], check=True)
    subprocess.run([*git, "update-index", "--untracked-cache"], check=True)
    return place
