"""Copies from store to store: what arrives, and how little is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.open import OpenStore
from sapwood.upkeep.copy import Copied, copy
from sapwood.upkeep.verify import verify
from tests.support.cli import Sapwood
from tests.support.trees import MIB, differences, noise


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    (root / "empty").mkdir()
    for number in range(300):
        (root / "folder" / f"small-{number}").write_bytes(noise(number * 20, number))
    (root / "large").write_bytes(noise(5 * MIB, 7))
    (root / "nothing").touch()
    (root / "linked").hardlink_to(root / "folder" / "small-9")
    (root / "symbolic").symlink_to(os.fsdecode(b"folder/small-\xff"))
    (root / os.fsdecode(b"odd \xff\n")).write_text("odd")
    os.mkfifo(root / "fifo")
    os.setxattr(root / "large", "user.note", b"\0\xff")
    os.chmod(root / "large", 0o4751)
    os.utime(root / "folder", ns=(1, 123456789_987654321))
    return root


@pytest.fixture
def source(tmp_path: Path, tree: Path) -> OpenStore:
    store = open_store(str(tmp_path / "source"), create=True, cache_dir=tmp_path / "source-cache")
    store.push(tree, "main")
    return store


@pytest.fixture
def target(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "target"), create=True, cache_dir=tmp_path / "target-cache")


def copied(source: OpenStore, target: OpenStore, ref: str = "main", *, to: str = "main") -> Copied:
    return copy(source, source.snapshot(ref), target, to)


def assert_sound(store: OpenStore) -> None:
    assert verify(store, read_data=100).damages == ()


def frames_of(store: OpenStore, ref: str = "main") -> set[bytes]:
    """The stored bytes of all frames of contents."""
    from sapwood.fetch import load_map

    found = set()
    folders = [b""]
    file_map = load_map(store, store.snapshot(ref), pages=True)
    while folders:
        for entry in file_map.list(folders.pop()):
            if entry.kind == "dir":
                folders.append(entry.path)
            for frame, *_ in entry.chunks:
                [stored] = store.read_ranges(frame.pack, [(frame.offset, frame.length)])
                found.add(stored)
    return found


def test_a_copied_tree_is_the_same_in_everything_and_stands_by_itself(
    source: OpenStore, target: OpenStore, tree: Path, tmp_path: Path
) -> None:
    done = copied(source, target)
    assert (done.unchanged, done.ref, done.tree) == (False, "main", source.snapshot("main").tree)
    os.rename(source.url, tmp_path / "gone")
    assert_sound(target)
    target.pull("main", tmp_path / "pulled")
    assert differences(tree, tmp_path / "pulled") == []


def test_a_copy_says_of_the_tree_what_the_original_says(source: OpenStore, target: OpenStore, tree: Path) -> None:
    first = copied(source, target)
    (tree / "new").write_text("new")
    source.push(tree, "main")
    second = copied(source, target)
    here, there = source.snapshot("main"), target.snapshot("main")
    words = ("tree", "entries", "bytes", "created", "user", "host", "source")
    assert [getattr(here, word) for word in words] == [getattr(there, word) for word in words]
    assert (there.digest, there.parent) == (second.snapshot, first.snapshot)


def test_frames_go_as_they_are(source: OpenStore, target: OpenStore) -> None:
    copied(source, target)
    assert frames_of(source) == frames_of(target)


def test_copied_again_nothing_moves(source: OpenStore, target: OpenStore, tmp_path: Path) -> None:
    copied(source, target)
    before = sorted(Path(target.url).rglob("*"))
    for cache in ("target-cache", "another"):
        again = copied(source, open_store(target.url, cache_dir=tmp_path / cache))
        assert (again.unchanged, again.chunks_sent, again.packs_sent, again.bytes_stored) == (True, 0, 0, 0)
    assert sorted(Path(target.url).rglob("*")) == before


def test_what_the_other_store_has_is_not_sent_whoever_put_it(
    source: OpenStore, target: OpenStore, tree: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    part.mkdir()
    for number in range(0, 300, 2):
        (part / f"other-{number}").write_bytes(noise(number * 20, number))
    (part / "same").write_bytes((tree / "large").read_bytes())
    target.push(part, "other")
    lacking = sum(number * 20 for number in range(1, 300, 2)) + len("odd")
    done = copied(source, open_store(target.url, cache_dir=tmp_path / "fresh"))
    assert done.chunk_bytes_sent == lacking
    assert_sound(target)
    target.pull("main", tmp_path / "pulled")
    assert differences(tree, tmp_path / "pulled") == []
    # And so for a ref that this machine has seen last.
    (tree / "more").write_bytes(noise(1000, 77))
    source.push(tree, "main")
    target.push(tree, "third")
    assert copied(source, target).chunk_bytes_sent == 0


def test_a_push_goes_on_from_a_copy(source: OpenStore, target: OpenStore, tree: Path) -> None:
    copied(source, target)
    (tree / "folder" / "small-1").write_text("edited")
    pushed = target.push(tree, "main")
    assert pushed.chunk_bytes_sent < 100_000
    assert_sound(target)


def test_into_its_own_store_nothing_is_copied_but_the_name(source: OpenStore) -> None:
    done = copied(source, source, to="other/name")
    assert (done.unchanged, done.chunks_sent) == (False, 0)
    assert_sound(source)


def test_a_tree_of_many_packs_and_pages_is_copied(source: OpenStore, target: OpenStore, tmp_path: Path) -> None:
    many = tmp_path / "many"
    for folder in range(40):
        (many / f"folder-{folder}").mkdir(parents=True)
        for number in range(150):
            (many / f"folder-{folder}" / f"a-file-with-a-long-name-{number}").write_text(f"{folder} {number % 50}\n")
    for number in range(20):
        (many / f"large-{number}").write_bytes(noise(2 * MIB, 1000 + number))
    source.push(many, "many")
    done = copied(source, target, "many")
    assert done.packs_sent >= 4
    assert_sound(target)
    target.pull("main", tmp_path / "pulled")
    assert differences(many, tmp_path / "pulled") == []
    assert copied(source, target, "many").unchanged


def test_an_empty_tree_is_copied(source: OpenStore, target: OpenStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    source.push(tmp_path / "empty", "empty")
    assert copied(source, target, "empty").entries == 1
    assert copied(source, target, "empty").unchanged
    assert_sound(target)


def test_memory_does_not_grow_with_what_is_copied(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    for number in range(150):
        (tmp_path / "tree" / f"large-{number}").write_bytes(noise(2 * MIB, number))
    run.good("push", "tree", "main")
    most_kb = peak_kb(run, "cp", "main", "other")
    # Six packs, what is being fetched, and Python.
    assert most_kb < 256_000
    assert verify(open_store(str(tmp_path / "other"))).damages == ()


def peak_kb(run: Sapwood, *words: str) -> int:
    """Return how much memory `sapwood WORDS…` has at most, in kB."""
    code = (
        "import sys; from sapwood.cli.main import main; assert main(sys.argv[1:]) == 0;"
        "[line] = [line for line in open('/proc/self/status') if line.startswith('VmHWM')];"
        "print(line.split()[1], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=run.home,
        env=run.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr.split()[-1])
