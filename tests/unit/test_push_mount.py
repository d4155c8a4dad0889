"""A push of a mount: what a push of the same directory would store, though only what was changed is read."""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store, pack
from sapwood.fetch import load_map
from sapwood.open import OpenStore
from sapwood.push import push
from tests.support import edits
from tests.support.mounting import mounted, pushed, shell
from tests.support.unmounting import take_away

TIERS = ["fuse", "native"]
ROUNDS, EDITS = 6, 12


def make_tree(root: Path) -> Path:
    """Make a tree of names that edits meet, with all that a file may have."""
    for folder in (root / "a" / "b", root / "b", root / "a.b" / "a" / "b"):
        folder.mkdir(parents=True)
    for number, folder in enumerate(sorted(path for path in root.rglob("*") if path.is_dir())):
        (folder / "one").write_text(f"one {number}")
        (folder / "a.b").is_dir() or (folder / "two").write_bytes(os.urandom(50_000))
    (root / "large").write_bytes(os.urandom(5_000_000))
    os.link(root / "large", root / "b" / "large too")
    os.link(root / "a" / "one", root / "a.b" / "same")
    (root / "link").symlink_to("a/one")
    os.setxattr(root / "a" / "two", "user.note", b"x")
    with (root / "b" / "sparse").open("wb") as sparse:
        sparse.truncate(3 << 20)
        sparse.seek(1 << 20)
        sparse.write(b"data" * 1000)
    return root


def described(store: OpenStore, ref: str) -> list[Any]:
    """All that a snapshot says of each entry, but for where contents lie."""
    file_map = load_map(store, store.snapshot(ref), pages=True)
    found, left = [], [b""]
    while left:
        path = left.pop()
        for entry in [file_map.lookup(b""), *file_map.list(path)] if not path else file_map.list(path):
            assert entry is not None
            chunks = [(digest, size) for _, _, digest, size in entry.chunks]
            facts = entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.links, entry.xattrs
            found.append((entry.path, entry.kind, entry.digest, entry.target, entry.device, facts, chunks))
            left += [entry.path] if entry.kind == "dir" and entry.path else []
    return sorted(found, key=lambda entry: entry[0])


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Push a directory as if it were no mount, to `whole` of the store at a URL."""
    numbers = iter(range(1000))

    def push_whole(url: str, root: Path) -> OpenStore:
        with monkeypatch.context() as context:
            # Who has another cache knows nothing of the mount.
            context.setenv("SAPWOOD_CACHE", str(tmp_path / "cache of another"))
            store = open_store(url)
            pushed = push(store, root, "whole", index=tmp_path / f"index {next(numbers)}")
            assert pushed.files_hashed == pushed.files
        return store

    return push_whole


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_was_changed_it_stores_what_a_push_of_the_directory_stores(
    tier: str, seed: int, tmp_path: Path, cache_dir: Path, whole: Any
) -> None:
    address, place = pushed(make_tree(tmp_path / "tree"), tmp_path / "store"), tmp_path / "root"
    store, dice = open_store(str(tmp_path / "store")), random.Random(seed)
    with mounted(address, place, cache_dir, tier=tier, writable=True):
        for _ in range(ROUNDS):
            made = [edit for _ in range(EDITS) if edits.make(os.fsencode(place), edit := edits.draw(dice))]
            now = push(store, place, "changed")
            assert now.tree == whole(str(tmp_path / "store"), place).snapshot("whole").tree, made
            assert described(store, "changed") == described(store, "whole"), made
        # With an index the mount itself is walked.
        push(store, place, "walked", index=tmp_path / "index")
    assert described(store, "walked") == described(store, "whole")


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("writable", [False, True])
def test_without_a_change_nothing_is_read_or_sent(tier: str, writable: bool, tmp_path: Path, cache_dir: Path) -> None:
    tree, place, stats = make_tree(tmp_path / "tree"), tmp_path / "mount", tmp_path / "stats"
    # The native tier shows no holes.
    (tree / "b" / "sparse").unlink()
    address = pushed(tree, tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    with mounted(address, place, cache_dir, tier=tier, writable=writable, prefetch=False, stats=str(stats)):
        again = store.push(place, "main")
        assert (again.unchanged, again.files_hashed, again.chunks_sent) == (True, 0, 0)
        other = store.push(place, "other")
        assert (other.files_hashed, other.chunks_sent) == (0, 0)
    assert store.snapshot("main").content == store.snapshot("other").content
    assert json.loads(stats.read_text())["files_read"] == 0


@pytest.mark.parametrize("tier", TIERS)
def test_only_what_was_changed_is_read(tier: str, tmp_path: Path, cache_dir: Path) -> None:
    tree, place, stats = make_tree(tmp_path / "tree"), tmp_path / "mount", tmp_path / "stats"
    address = pushed(tree, tmp_path / "store")
    store = open_store(str(tmp_path / "store"))
    with mounted(address, place, cache_dir, tier=tier, writable=True, prefetch=False, stats=str(stats)):
        # Names, modes, times and directories are changed without their contents.
        changes = "mv a renamed; chmod 600 large; touch -h b/one; chown 7 renamed/two; ln renamed/b/one d; rm -r a.b/a"
        assert shell(f"cd {place} && {changes} && echo new > new").returncode == 0
        changed = store.push(place, "main")
        assert (changed.files_hashed, changed.bytes_hashed) == (1, len("new\n"))
        assert changed.chunk_bytes_sent < 20_000  # the new file, and pages
        assert int(shell('du -s --block-size=1 "$SAPWOOD_CHANGES"').stdout.split()[0]) < 1_000_000
    assert json.loads(stats.read_text())["files_read"] == 0


def test_a_push_of_what_is_not_in_the_target_fetches_it_through_the_mount(tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(make_tree(tmp_path / "tree"), tmp_path / "store"), tmp_path / "mount"
    other = open_store(str(tmp_path / "other"), create=True)
    with mounted(address, place, cache_dir, writable=True, prefetch=False):
        (place / "new").write_text("new")
        sent = other.push(place, "main")
    assert sent.bytes_stored > 5_000_000
    other.pull("main", tmp_path / "pulled")
    (tmp_path / "tree" / "new").write_text("new")
    assert shell(f"diff -r --no-dereference {tmp_path}/tree {tmp_path}/pulled").returncode == 0


def test_options_say_what_is_left_out_of_a_mount_too(tmp_path: Path, cache_dir: Path) -> None:
    from sapwood import Options

    address, place = pushed(make_tree(tmp_path / "tree"), tmp_path / "store"), tmp_path / "mount"
    store = open_store(str(tmp_path / "store"))
    with mounted(address, place, cache_dir, writable=True):
        left = push(store, place, "part", options=Options(exclude=["large", "two"]))
    assert left.files_hashed == 0
    assert store.tree("part").find(b"large") is None
    assert store.tree("part").find(b"a/one") is not None


def test_what_was_changed_in_an_archive_is_pushed(tmp_path: Path, cache_dir: Path, whole: Any) -> None:
    pack.pack(make_tree(tmp_path / "tree"), str(tmp_path / "tree.tar.gz"))
    place, store = tmp_path / "mount", open_store(str(tmp_path / "store"), create=True)
    with mounted(str(tmp_path / "tree.tar.gz"), place, cache_dir, writable=True):
        (place / "new").write_text("new")
        first = store.push(place, "main")
        # All of it has to be read, for the store has nothing yet; then what is there is known.
        (place / "newer").write_text("newer")
        second = store.push(place, "main")
        whole(str(tmp_path / "store"), place)
    assert first.files_hashed > 10
    assert second.files_hashed == 2
    assert described(store, "main") == described(store, "whole")


def test_files_that_say_what_is_left_out_are_heeded(tmp_path: Path, cache_dir: Path, whole: Any) -> None:
    address, place = pushed(make_tree(tmp_path / "tree"), tmp_path / "store"), tmp_path / "mount"
    store = open_store(str(tmp_path / "store"))
    with mounted(address, place, cache_dir, writable=True):
        (place / "a" / ".sapwoodignore").write_text("one\n.sapwoodignore\n")
        (place / "a" / "new").write_text("new")
        left = push(store, place, "part")
        whole(str(tmp_path / "store"), place)
    assert left.files_hashed == 1
    assert described(store, "part") == described(store, "whole")
    assert store.tree("part").find(b"a/one") is None
    assert store.tree("part").find(b"a/new") is not None


def test_a_part_of_a_mount_is_a_directory_like_any_other(tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(make_tree(tmp_path / "tree"), tmp_path / "store"), tmp_path / "mount"
    store = open_store(str(tmp_path / "store"))
    with mounted(address, place, cache_dir, writable=True):
        part = store.push(place / "a", "part")
    assert part.tree == store.tree("main").find_tree(b"a").digest  # type: ignore[union-attr]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("below", ["", "a"])
def test_what_is_mounted_over_a_mount_or_in_it_is_pushed(
    below: str, tier: str, tmp_path: Path, cache_dir: Path, whole: Any
) -> None:
    address, place = pushed(make_tree(tmp_path / "tree"), tmp_path / "store"), tmp_path / "mount"
    store = open_store(str(tmp_path / "store"))
    with mounted(address, place, cache_dir, tier=tier, writable=True):
        assert shell(f"mount -t tmpfs none {place / below}").returncode == 0
        try:
            (place / below / "f").write_text("of another")
            store.push(place, "main")
            whole(str(tmp_path / "store"), place)
        finally:
            take_away(place / below)
    assert store.tree("main").find(os.fsencode(Path(below, "f"))) is not None
    assert described(store, "main") == described(store, "whole")


@pytest.mark.parametrize("tier", TIERS)
def test_attributes_that_the_kernel_uses_itself_are_kept(
    tier: str, tmp_path: Path, cache_dir: Path, whole: Any
) -> None:
    address, place = pushed(make_tree(tmp_path / "tree"), tmp_path / "store"), tmp_path / "mount"
    store, name = open_store(str(tmp_path / "store")), "trusted.overlay.opaque"
    with mounted(address, place, cache_dir, tier=tier, writable=True):
        for changed in ("a", "a/one", "large"):
            os.setxattr(place / changed, name, b"y")
        (place / "b" / "one").chmod(0o600)
        store.push(place, "main")
        whole(str(tmp_path / "store"), place)
    kept = {entry[0] for entry in described(store, "main") if name.encode() in dict(entry[5][-1])}
    assert kept == {b"a", b"a/one", b"large"}
    assert described(store, "main") == described(store, "whole")
    # Of a tree that has them only a look at the mount tells what it shows.
    with mounted(address, tmp_path / "again", cache_dir, tier=tier, writable=True):
        (tmp_path / "again" / "new").write_text("new")
        store.push(tmp_path / "again", "main")
        whole(str(tmp_path / "store"), tmp_path / "again")
    assert described(store, "main") == described(store, "whole")


def test_a_push_goes_on_while_files_of_the_mount_come_and_go(tmp_path: Path, cache_dir: Path, whole: Any) -> None:
    address, place = pushed(make_tree(tmp_path / "tree"), tmp_path / "store"), tmp_path / "mount"
    store, stop = open_store(str(tmp_path / "store")), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for number in range(100):
                (place / "a" / f"temporary {number}").write_text("soon gone")
            for number in range(100):
                (place / "a" / f"temporary {number}").unlink()

    with mounted(address, place, cache_dir, writable=True):
        busy = threading.Thread(target=come_and_go)
        busy.start()
        try:
            for _ in range(20):
                store.push(place, "main")
        finally:
            stop.set()
            busy.join()
        store.push(place, "main")
        whole(str(tmp_path / "store"), place)
    assert described(store, "main") == described(store, "whole")
