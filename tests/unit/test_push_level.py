"""How well a push compresses, and what lies together: one way for who pushes, another for who reads."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from sapwood import hash_tree, open_store
from sapwood.errors import InvalidInputError
from sapwood.fetch import load_map
from tests.support.cli import Sapwood

WORDS = ["frame", "chunk", "tree", "index", "mount", "push", "pull", "ref", "store", "page", "queue", "link"]


def text(seed: int, size: int) -> bytes:
    choice = random.Random(seed)
    return " ".join(choice.choices(WORDS, k=size // 5)).encode()[:size]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for directory in ("tree/a", "tree/b"):
        (tmp_path / directory).mkdir(parents=True)
        for number in range(24):
            for at, suffix in enumerate(("py", "so.1", "txt")):
                file = tmp_path / directory / f"{number:02}.{suffix}"
                file.write_bytes(text(number * 3 + at + 100 * len(directory), 9_000) + directory.encode())
    return tmp_path / "tree"


@pytest.mark.parametrize("source", ["directory", "tar"])
def test_a_higher_level_stores_less_of_the_same_tree(source: str, tree: Path, tmp_path: Path) -> None:
    if source == "tar":
        subprocess.run(["tar", "-cf", tmp_path / "tree.tar", "-C", tree, "."], check=True)
    stored = {}
    for level in (1, None, 19):
        store = open_store(f"{tmp_path}/{level}", create=True)
        if source == "tar":
            pushed = store.push_tar(tmp_path / "tree.tar", "main", level=level)
        else:
            pushed = store.push(tree, "main", level=level)
            assert pushed.tree == hash_tree(tree).digest
        stored[level] = pushed.bytes_stored
        store.pull("main", tmp_path / f"out-{level}")
        assert hash_tree(tmp_path / f"out-{level}").digest == pushed.tree
    assert stored[19] < stored[None] < stored[1]


def test_files_of_one_directory_and_suffix_lie_together(tree: Path, tmp_path: Path) -> None:
    store = open_store(f"{tmp_path}/store", create=True)
    store.push(tree, "main")
    file_map = load_map(store, store.snapshot("main"), pages=True)
    holds: dict[tuple[str, int], set[tuple[bytes, bytes]]] = {}
    for directory in (b"a", b"b"):
        for entry in file_map.list(directory):
            (frame, *_), *_ = entry.chunks
            suffix = b".so" if b".so" in entry.name else entry.name[2:]
            holds.setdefault((frame.pack, frame.offset), set()).add((directory, suffix))
    assert len(holds) >= 6
    assert all(len(kinds) == 1 for kinds in holds.values())


@pytest.mark.parametrize("level", ["0", "20", "-1", "fast", "3.5", "٣"])
def test_a_level_that_is_none_is_refused_before_a_store_is_made(level: str, tree: Path, tmp_path: Path) -> None:
    said = Sapwood(tmp_path)("push", f"--level={level}", tree, f"{tmp_path}/store#main")
    assert said.code == 2
    assert level in said.err
    assert not (tmp_path / "store").exists()


def test_a_level_of_the_library_is_checked_too(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="23 is no level") as refused:
        open_store(f"{tmp_path}/store", create=True).push(tree, "main", level=23)
    assert refused.value.kind == "bad-argument"
