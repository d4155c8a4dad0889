"""Of a store that lost everything but its packs every tree, ref, snapshot and pinned address comes back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood._core.upkeep import Rebuild, read_toc
from sapwood.digests import PackName, TreeDigest
from sapwood.errors import CorruptError, InvalidInputError
from sapwood.open import OpenStore
from sapwood.store import Store
from sapwood.upkeep.outline import read_outline
from sapwood.upkeep.recover import recover
from sapwood.upkeep.verify import verify
from tests.support.cli import Sapwood
from tests.support.damage import flipped, harm
from tests.support.snapshots import digest
from tests.support.trees import LARGE, differences, noise

FOLDERS = ("maps", "snapshots", "refs", "index", "sapwood.json")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "folder" / "deep").mkdir(parents=True)
    for number in range(300):
        (root / "folder" / f"small-{number}").write_text(f"{number} " * 50)
    (root / "large").write_bytes(noise(LARGE + 300_000, 1))
    (root / "empty").touch()
    (root / os.fsdecode(b"odd \xff\n")).symlink_to("large")
    (root / "again").hardlink_to(root / "large")
    (root / "folder" / "small-7").chmod(0o4751)
    os.utime(root / "folder" / "small-8", ns=(0, 1_000_000_001))
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture
def store(tmp_path: Path, tree: Path) -> OpenStore:
    """A store with several refs, one with a history."""
    made = open_store(str(tmp_path / "store"), create=True)
    made.push(tree, "main")
    shutil.copytree(tree / "folder", tmp_path / "old", symlinks=True)
    made.push(tmp_path / "old", "team/other")
    (tree / "folder" / "small-3").write_text("edited")
    made.push(tree, "main")
    (tree / "new").write_text("new")
    made.push(tree, "main")
    return made


def objects(store: OpenStore, *folders: str) -> dict[str, bytes]:
    """Return the bytes of all objects of some kinds, uncompressed or not, as they are."""
    root = Path(store.url)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def lose(store: OpenStore, *names: str) -> None:
    for name in names:
        path = Path(store.url) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_maps_and_snapshots_come_back_byte_for_byte_from_packs_alone(
    store: OpenStore, tree: Path, tmp_path: Path
) -> None:
    before = objects(store, "maps", "snapshots")
    refs = {ref.name: (ref.snapshot, ref.counter) for ref in store.refs()}
    lose(store, *FOLDERS)
    recovered = recover(store.url)
    assert (recovered.unreadable, recovered.lost) == ((), ())
    assert objects(store, "maps", "snapshots") == before
    again = open_store(store.url)
    assert {ref.name: (ref.snapshot, ref.counter) for ref in again.refs()} == refs
    assert verify(again, read_data=100).damages == ()
    again.pull("main", tmp_path / "new")
    assert differences(tree, tmp_path / "new") == []
    again.pull("team/other", tmp_path / "other")
    assert differences(tmp_path / "old", tmp_path / "other") == []
    for number, pinned in enumerate(before):
        if pinned.startswith("snapshots/"):
            hexed = Path(pinned).name.removesuffix(".json")
            again.pull(f"main@sha256:{hexed}", tmp_path / f"pinned-{number}")


def test_what_is_pushed_on_top_sends_no_content_again(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    lose(store, *FOLDERS)
    recover(store.url)
    pushed = open_store(store.url, cache_dir=tmp_path / "fresh").push(tree, "elsewhere", index=tmp_path / "index")
    assert pushed.bytes_reused == pushed.bytes


@pytest.mark.parametrize("lost", FOLDERS)
def test_one_kind_of_object_is_made_again_and_the_others_are_left_alone(
    store: OpenStore, tree: Path, tmp_path: Path, lost: str
) -> None:
    # Without sapwood.json refs move to where they are, so that nobody believes what he saw of the store.
    others = (name for name in FOLDERS if name not in (lost, "index", "refs" if lost == "sapwood.json" else lost))
    before = objects(store, *others)
    lose(store, lost)
    assert recover(store.url).made
    assert before.items() <= objects(store, *FOLDERS).items()
    assert verify(open_store(store.url), read_data=100).damages == ()
    open_store(store.url).pull("main", tmp_path / "new")
    assert differences(tree, tmp_path / "new") == []
    assert recover(store.url).made == ()


def test_a_machine_that_saw_the_store_believes_its_new_identity(tmp_path: Path, tree: Path) -> None:
    url = str(tmp_path / "week")
    Store.open(url, create=True, grace_s=604_800)
    open_store(url).push(tree, "main")
    kept = open_store(url).snapshot("main")
    (Path(url) / "sapwood.json").unlink()
    recover(url, grace_s=7200)
    assert open_store(url).snapshot("main") == kept
    for number in range(2):  # the second time it has seen the ref
        (tree / "new").write_text(str(number))
        warm = OpenStore.open(url, ref="main")
        warm.push(tree, "main")
        assert (warm.id, warm.grace_s) == (open_store(url).id, 7200)


def test_a_grace_that_nobody_gave_is_said(store: OpenStore, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    for command in ("recover", "repair"):
        lose(store, "sapwood.json")
        assert "has a grace of 1d now" in run.good(command, store.url).err
        lose(store, "sapwood.json")
        assert "grace" not in run.good(command, store.url, "--grace", "7d").err
        assert open_store(store.url).grace_s == 604_800
        refused = run(command, store.url, "--grace", "0")
        assert (refused.code, "hint: " in refused.err) == (2, True)


@pytest.mark.parametrize("folder", ["maps", "snapshots", "refs", "index"])
def test_what_is_damaged_is_made_again_as_if_it_were_lost(store: OpenStore, folder: str) -> None:
    before = objects(store, "maps", "snapshots")
    for path in (Path(store.url) / folder).rglob("*.*"):
        if path.is_file():
            harm(path, flipped(20, 0x10))
    assert recover(store.url).made
    assert verify(open_store(store.url), read_data=100).damages == ()
    assert objects(store, "maps", "snapshots") == before


def test_of_a_sound_store_nothing_is_made(store: OpenStore) -> None:
    recover(store.url)
    before = objects(store, *FOLDERS)
    assert recover(store.url).made == ()
    assert objects(store, *FOLDERS) == before


def test_a_pack_that_lost_its_end_is_told_and_the_rest_comes_back(store: OpenStore) -> None:
    first = store.snapshot("team/other").packs[0]
    lose(store, *FOLDERS)
    harm(Path(store.url) / "packs" / f"{first}.tar.zst", lambda data: data[:-1])
    recovered = recover(store.url)
    assert any(first in line for line in recovered.unreadable)


@pytest.mark.parametrize("line", [b"no JSON", b'{"format":1,"push":"no hex"}', b'{"format":1,"push":"00112233445566"}'])
def test_an_outline_that_is_none_is_told(store: OpenStore, line: bytes) -> None:
    rebuild = Rebuild("0123456789abcdef", "7" * 64)
    rebuild.make(0, 9, 512 + (len(line) + 511) // 512 * 512, [(512, digest(TreeDigest, line), line)], "outline")
    made = rebuild.finish()
    assert made is not None
    store.put_pack(PackName(made[0]), made[1])
    with pytest.raises(CorruptError) as wrong:
        read_outline(store, PackName(made[0]), read_toc(made[1], len(made[1]))[0].held("outline")[0])
    assert wrong.value.kind == "outline-corrupt"
    assert any(made[0][:12] in found for found in recover(store.url).unreadable)


def test_a_place_without_packs_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInputError) as refused:
        recover(str(tmp_path / "folder"))
    assert refused.value.kind == "not-a-store"


def test_the_command_says_what_it_made(store: OpenStore, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    recover(store.url)
    lose(store, "refs")
    said = run("recover", store.url)
    assert (said.code, said.out.split()) == (0, ["refs/main.ref", "refs/team/other.ref"])
    assert run("recover", store.url).out == ""
    harm(next((Path(store.url) / "packs").iterdir()), lambda data: data[:-1])
    assert run("recover", store.url).code == 5
