"""Trees that are mounted one after the other look alike to a stat: no index takes one for the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.tree import Index
from tests.support.mounting import mounted, pushed

LONG_AGO = 1_500_000_000
TIERS = [{"tier": "fuse", "passthrough": False}, {"tier": "fuse", "passthrough": True}, {"tier": "native"}]


def make_tree(root: Path, word: str) -> Path:
    """Make a tree that has the same stats whatever the word of one letter is."""
    (root / "sub" / "deep").mkdir(parents=True)
    for folder in (root, root / "sub", root / "sub" / "deep"):
        (folder / "same").write_text("same")
        (folder / "file").write_text(word * 4)
        (folder / "link").symlink_to(word)
    # What it leaves out is another file in each tree.
    (root / "sub" / ".sapwoodignore").write_text(f"only {word}\n")
    for letter in "AB":
        (root / "sub" / f"only {letter}").write_text("same")
    for path in [root, *root.rglob("*")]:
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    return root


def ask(*words: str | Path) -> dict[str, object]:
    """Run a command; the test's own process never touches a mount."""
    command = [sys.executable, "-m", "sapwood", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("where", [".", "sub", ".."])
@pytest.mark.parametrize("named", [False, True], ids=["default", "named"])
@pytest.mark.parametrize(
    "options", [*TIERS, {"tier": "libfuse"}], ids=lambda options: "-".join(map(str, options.values()))
)
def test_a_hash_of_a_mount_is_that_of_the_tree_mounted_now(
    options: dict[str, object], named: bool, where: str, tmp_path: Path, cache_dir: Path
) -> None:
    words = ["--index", str(tmp_path / "index")] if named else []
    (tmp_path / "around").mkdir()
    for word in "AB":
        make_tree(tmp_path / word / "mnt", word)
        address = pushed(tmp_path / word / "mnt", tmp_path / f"store {word}")
        place = tmp_path / "around" / "mnt"
        with mounted(address, place, cache_dir, **options):
            hashed = ask("hash", *words, os.path.normpath(place / where))
        place.rmdir()
        plain = Path(os.path.normpath(tmp_path / word / "mnt" / where))
        assert hashed["digest"] == Index(plain, tmp_path / "other index").hash().digest


@pytest.mark.parametrize("options", TIERS, ids=lambda options: "-".join(map(str, options.values())))
def test_a_push_of_a_part_of_a_mount_stores_the_tree_mounted_now(
    options: dict[str, object], tmp_path: Path, cache_dir: Path
) -> None:
    place, store = tmp_path / "mnt", tmp_path / "of parts"
    open_store(str(store), create=True)
    for word in "AB":
        address = pushed(make_tree(tmp_path / word, word), tmp_path / f"store {word}")
        with mounted(address, place, cache_dir, **options):
            ask("push", place / "sub", f"{store}#part")
        place.rmdir()
        open_store(str(store)).pull("part", tmp_path / f"pulled {word}")
        assert (tmp_path / f"pulled {word}" / "deep" / "file").read_text() == word * 4


@pytest.mark.parametrize("options", TIERS, ids=lambda options: "-".join(map(str, options.values())))
def test_status_of_a_mount_names_what_another_tree_has_otherwise(
    options: dict[str, object], tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mnt"
    for word in "AB":
        address = pushed(make_tree(tmp_path / word, word), tmp_path / f"store {word}")
        with mounted(address, place, cache_dir, **options):
            if word == "A":
                ask("hash", place)
            else:
                assert {"file", "link", "sub/file", "sub/deep/file"} <= set(ask("status", place)["changed"])  # type: ignore[call-overload]
        place.rmdir()
