"""Fixtures of the suites that meet other programs: those in Go, hard trees, and archives of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import Sapwood
from tests.support.trees import make_hard

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Programs:
    """What `scripts/build-interop.sh` built of tests/interop/go."""

    place: Path

    def __call__(self, name: str, *words: str | Path, stdin: str = "") -> str:
        """Run one that must succeed; return its stdout."""
        done = self.run(name, *words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, name: str, *words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one to its end."""
        return subprocess.run(
            [self.place / name, *words], input=stdin, capture_output=True, encoding="utf-8", timeout=200, check=False
        )


@pytest.fixture(scope="session")
def programs() -> Programs:
    """The programs in Go; without Go the tests fail, they skip nothing."""
    built = subprocess.run([ROOT / "scripts" / "build-interop.sh"], capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.fail(built.stderr, pytrace=False)
    return Programs(ROOT / "build" / "interop")


@pytest.fixture(scope="session")
def sapwood(tmp_path_factory: pytest.TempPathFactory) -> Sapwood:
    """The command, with one cache for the session."""
    return Sapwood(tmp_path_factory.mktemp("sapwood"))


@pytest.fixture(scope="session")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of everything that is hard to keep."""
    return _make(tmp_path_factory.mktemp("hard") / "tree")


@pytest.fixture(scope="session")
def spelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hard tree without what Go's JSON cannot spell: names, targets and attributes that are not UTF-8."""
    root = _make(tmp_path_factory.mktemp("spelled") / "tree")
    for folder, names, others in os.walk(os.fsencode(root), topdown=False):
        for name in (*names, *others):
            path = os.fsdecode(folder + b"/" + name)
            if not _is_utf8(name) or (os.path.islink(path) and not _is_utf8(os.fsencode(os.readlink(path)))):
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
                continue
            for attribute in os.listxattr(path, follow_symlinks=False):
                if not _is_utf8(os.fsencode(attribute)):
                    os.removexattr(path, attribute, follow_symlinks=False)
    return root


def _make(root: Path) -> Path:
    make_hard(root)
    if os.geteuid() != 0:
        without_what_users_cannot_unpack(root)
    return root


def without_what_users_cannot_unpack(root: Path) -> None:
    """Take away what programs forbid themselves, before they are done with it, if they are not root's."""
    for name in ("modes/dir-0500", "modes/dir-0555"):
        (root / name).chmod(0o700)
        shutil.rmtree(root / name)
    (root / "xattrs" / "read-only").unlink()


def _is_utf8(name: bytes) -> bool:
    try:
        return name.decode() is not None
    except UnicodeDecodeError:
        return False
