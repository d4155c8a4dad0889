"""Push and pull: what went in comes out, and only what is new goes in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from sapwood import hash_tree, open_store
from sapwood.digests import hex_of
from sapwood.errors import NotFoundError
from sapwood.fetch import load_map
from sapwood.open import OpenStore
from tests.support import trees
from tests.support.nobody import NOBODY, as_nobody, nobodys_directory
from tests.support.reapi_digest import tree_digest
from tests.support.trees import LARGE, MIB, differences, noise

MAKERS = {
    **trees.MAKERS,
    "all": trees.make_hard,
    **({"privileged": trees.make_privileged} if os.geteuid() == 0 else {}),
}


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A tree whose file map has several pages."""
    root = tmp_path / "project"
    for folder in range(40):
        (root / f"folder-{folder}").mkdir(parents=True)
        for file in range(60):
            (root / f"folder-{folder}" / f"a-file-with-some-name-{file}").write_text(f"{folder} {file}")
    (root / "large").write_bytes(noise(9 * MIB))
    return root


def pages(store: OpenStore, ref: str) -> set[tuple[object, ...]]:
    """Return what tells each page of a ref's file map from others."""
    return {(page.pack, page.offset) for page in load_map(store, store.snapshot(ref), pages=False).pages()}


def objects(store: OpenStore) -> set[str]:
    """Return the paths of all objects."""
    return {str(path) for path in Path(store.url).rglob("*") if path.is_file()}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_a_tree_comes_back_with_everything_that_can_be_seen_of_it(
    store: OpenStore, tmp_path: Path, make: object
) -> None:
    assert callable(make)
    make(tmp_path / "in")
    pushed = store.push(tmp_path / "in", "main")
    pulled = store.pull("main", tmp_path / "out")
    assert differences(tmp_path / "in", tmp_path / "out") == []
    assert pulled.notes == ()
    assert pushed.tree == pulled.tree == hash_tree(tmp_path / "in").digest == hash_tree(tmp_path / "out").digest
    assert pushed.tree == tree_digest(tmp_path / "in")


def test_an_ordinary_user_gets_back_all_that_such_a_user_can_make() -> None:
    with nobodys_directory() as place:
        done = as_nobody(
            "os.environ['SAPWOOD_CACHE'] = sys.argv[1] + '/cache'\n"
            "from pathlib import Path; from tests.support.trees import make_hard, differences\n"
            "place = Path(sys.argv[1]); make_hard(place / 'in')\n"
            "store = sapwood.open_store(str(place / 'store'), create=True)\n"
            "store.push(place / 'in', 'main'); pulled = store.pull('main', place / 'out')\n"
            "assert pulled.notes == (), pulled\n"
            "for line in differences(place / 'in', place / 'out'): print(line)\n",
            place,
        )
        assert (done.code, done.out) == (0, ""), done.err


def test_an_ordinary_user_gets_all_but_owners_devices_and_attributes_of_roots_tree_and_is_told() -> None:
    with nobodys_directory() as place:
        trees.make_hard(place / "in")
        open_store(str(place / "store"), create=True).push(place / "in", "main")
        done = as_nobody(
            "os.environ['SAPWOOD_CACHE'] = sys.argv[1] + '/cache'\n"
            "pulled = sapwood.open_store(sys.argv[1] + '/store').pull('main', sys.argv[1] + '/out')\n"
            "for note in pulled.notes: print(note)\n",
            place,
        )
        assert done.code == 0, done.err
        # Only root can make what an ordinary user cannot: without it the tree has nothing to lose.
        by_root = os.geteuid() == 0
        lost = {b"privileged/null", b"privileged/disk", b"privileged/disk-too"} if by_root else set()
        bare = {b"privileged/link", b"privileged/capable", b"privileged/folder"} if by_root else set()
        for name in (path.rsplit(b"/")[-1].decode() for path in lost | bare):
            assert f"/privileged/{name}: " in done.out
        assert len(done.out.splitlines()) == len(lost | bare)
        mine, theirs = trees.look(place / "in"), trees.look(place / "out")
        assert mine.keys() - theirs.keys() == lost
        user = (NOBODY, NOBODY) if by_root else (os.geteuid(), os.getegid())
        assert all(facts.owner == user for facts in theirs.values())
        found = differences(place / "in", place / "out", but=frozenset({"owner"}))
        explained = [f"only in {place / 'in'}: {path!r}" for path in lost] + [f"{path!r}: xattrs: " for path in bare]
        assert [line for line in found if not line.startswith(tuple(explained))] == []


@pytest.mark.parametrize("with_index", [True, False])
def test_a_second_push_of_the_same_tree_sends_and_writes_nothing(
    store: OpenStore, project: Path, tmp_path: Path, with_index: bool
) -> None:
    first = store.push(project, "main")
    before = objects(store)
    again = store.push(project, "main", index=None if with_index else tmp_path / "another.index")
    assert again.unchanged
    assert (again.chunks_sent, again.packs_sent, again.bytes_stored) == (0, 0, 0)
    assert (again.snapshot, again.tree) == (first.snapshot, first.tree)
    assert objects(store) == before


def test_another_ref_to_the_same_tree_costs_a_snapshot_and_what_it_can_be_made_of_again(
    store: OpenStore, project: Path
) -> None:
    store.push(project, "main")
    before = objects(store)
    store.push(project, "other")
    assert {Path(path).parent.name for path in objects(store) - before} == {"packs", "maps", "snapshots", "refs"}
    assert pages(store, "main") == pages(store, "other")


def test_one_edit_sends_one_chunk_and_the_pages_that_it_changed(store: OpenStore, project: Path) -> None:
    store.push(project, "main")
    old = pages(store, "main")
    (project / "folder-7" / "a-file-with-some-name-30").write_text("edited")
    pushed = store.push(project, "main")
    new = pages(store, "main") - old
    # Those written within the clock's grain of the first push are read again, too.
    assert pushed.files_hashed < 60
    assert pushed.chunks_sent == 1 + len(new)
    # That of the file, those of its directory and the root's entries.
    assert len(new) <= 3 < len(old)


def test_an_edit_in_a_large_file_sends_the_chunks_around_it(store: OpenStore, project: Path) -> None:
    store.push(project, "main")
    old = pages(store, "main")
    with open(project / "large", "r+b") as file:
        file.seek(4 * MIB)
        file.write(b"edited")
    pushed = store.push(project, "main")
    assert pushed.chunks_sent - len(pages(store, "main") - old) <= 2
    assert pushed.chunk_bytes_sent <= 2 * LARGE + len(pages(store, "main") - old) * MIB


def test_moved_and_copied_files_send_no_content(store: OpenStore, project: Path, tmp_path: Path) -> None:
    store.push(project, "main")
    old = pages(store, "main")
    (project / "folder-1").rename(project / "moved")
    (project / "large").rename(project / "moved" / "larger")
    shutil.copytree(project / "folder-2", project / "copy")
    pushed = store.push(project, "main")
    assert pushed.chunks_sent == len(pages(store, "main") - old)
    store.pull("main", tmp_path / "out")
    assert differences(project, tmp_path / "out") == []


def test_what_one_machine_sent_no_other_sends_again(store: OpenStore, project: Path, tmp_path: Path) -> None:
    store.push(project, "main")
    elsewhere = open_store(store.url, cache_dir=tmp_path / "another-cache")
    pushed = elsewhere.push(project, "other", index=tmp_path / "another.index")
    # The pack holds the outline.
    assert (pushed.chunks_sent, pushed.packs_sent) == (0, 1)


def test_a_push_says_what_is_in_the_snapshot(store: OpenStore, project: Path) -> None:
    first = store.push(project, "main")
    (project / "large").unlink()
    second = store.push(project, "main")
    snapshot = store.snapshot("main")
    assert snapshot.parent == first.snapshot
    assert (snapshot.digest, snapshot.tree) == (second.snapshot, second.tree)
    assert (
        (snapshot.entries, snapshot.bytes)
        == (second.entries, second.bytes)
        == (1 + 40 + 40 * 60, first.bytes - 9 * MIB)
    )
    packs = {path.name.split(".")[0] for path in (Path(store.url) / "packs").iterdir()}
    assert set(snapshot.packs) <= packs
    assert (Path(store.url) / "maps" / f"{hex_of(snapshot.map)}.jsonl.zst").exists()
    # Of a pinned ref it is the older tree that comes.
    assert store.tree(f"main@{first.snapshot}").find(b"large")
    assert store.tree("main").find(b"large") is None


@pytest.mark.parametrize(("levels", "width"), [(20, 240), (1500, 1)])
def test_nesting_beyond_what_the_kernel_takes_in_a_path_or_opens_at_a_time_comes_back(
    store: OpenStore, tmp_path: Path, levels: int, width: int
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    handle = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("x" * width, dir_fd=handle)
        below = os.open("x" * width, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.symlink("somewhere", "link", dir_fd=handle)
    os.mkfifo("fifo", dir_fd=handle)
    file = os.open("leaf", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=handle)
    os.write(file, b"deep")
    os.setxattr(file, "user.deep", b"1")
    os.close(file)
    os.link("leaf", "again", src_dir_fd=handle, dst_dir_fd=handle)
    os.close(handle)
    try:
        store.push(root, "main")
        store.pull("main", tmp_path / "out")
        assert differences(root, tmp_path / "out") == []
        # A pull that fails must be able to clear it away again.
        leaf = store.tree("main").lookup(b"x" * width + (b"/" + b"x" * width) * (levels - 1) + b"/again")
        pack = Path(store.url) / "packs" / f"{leaf.entry.chunks[0][0].pack}.tar.zst"
        pack.rename(tmp_path / "pack")
        with pytest.raises(NotFoundError):
            store.pull("main", tmp_path / "again")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "pack", "store"]
    finally:
        # Deeper than pytest's own clean-up can go.
        subprocess.run(["rm", "-rf", root, tmp_path / "out"], check=True)
