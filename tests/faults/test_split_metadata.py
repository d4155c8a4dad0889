"""Split metadata of a tar lives as long as its tree, wherever that goes; where it is damaged, that is said."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood._core.filemap import Frame
from sapwood.digests import MapDigest
from sapwood.errors import CorruptError
from sapwood.fetch import load_map
from sapwood.open import OpenStore
from sapwood.push import push_archive
from sapwood.tarsource import open_source
from sapwood.tarstream import write_tar
from sapwood.upkeep.copy import copy
from sapwood.upkeep.forget import forget
from sapwood.upkeep.gc import collect
from sapwood.upkeep.recover import recover
from sapwood.upkeep.repair import repair
from sapwood.upkeep.retention import Rules
from sapwood.upkeep.sources import open_source as open_heal
from sapwood.upkeep.stats import stats, stats_of
from sapwood.upkeep.verify import verify
from tests.support.cli import Sapwood
from tests.support.collecting import age
from tests.support.damage import copy_of, flipped, harm
from tests.support.objects import put_named
from tests.support.tars import a_tar
from tests.support.trees import LARGE, noise

FILES = [(f"dir-{number // 50}/{number}", noise(3000, number)) for number in range(400)]
OLD = a_tar(*FILES, ("large", noise(2 * LARGE, 1)), ("replaced", b"first"), ("replaced", b"second"))
NEW = a_tar(*FILES[:40], ("large", noise(LARGE, 2))) + noise(700_000, 3)


def push(store: OpenStore, tar: bytes, place: Path, ref: str = "main") -> None:
    place.write_bytes(tar)
    with open_source(place) as source:
        push_archive(store, source, ref)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which ref `main` named one tar and then another, of which little is the same."""
    home = tmp_path_factory.mktemp("kept")
    store = open_store(str(home / "store"), create=True, cache_dir=home / "cache")
    push(store, OLD, home / "a.tar")
    push(store, NEW, home / "a.tar")
    return Path(store.url)


@pytest.fixture
def store(kept: Path, tmp_path: Path) -> OpenStore:
    return open_store(str(copy_of(kept, tmp_path / "store")))


def tar_of(store: OpenStore, ref: str = "main") -> bytes:
    out = io.BytesIO()
    assert write_tar(store, store.snapshot(ref), out).exact
    return out.getvalue()


def assert_both(store: OpenStore) -> None:
    snapshot = store.snapshot("main")
    assert tar_of(store) == NEW
    assert tar_of(store, f"main@{snapshot.parent}") == OLD
    assert verify(store, read_data=100).damages == ()


def splits(store: OpenStore, ref: str = "main") -> list[Frame]:
    file_map = load_map(store, store.snapshot(ref), pages=False)
    return file_map.stored_pages()[len(file_map.pages()) :]


def pack_of(store: OpenStore, frame: Frame) -> Path:
    return Path(store.url) / "packs" / f"{frame.pack}.tar.zst"


def damage(store: OpenStore, frame: Frame) -> None:
    harm(pack_of(store, frame), flipped(frame.offset + frame.length // 2, 0x55))


def test_it_is_whole_and_counted_as_pages(store: OpenStore) -> None:
    assert_both(store)
    file_map = load_map(store, store.snapshot("main"), pages=False)
    assert stats_of(store, store.snapshot("main")).pages == len(set(file_map.stored_pages()))
    assert len(file_map.stored_pages()) > len(file_map.pages()) + 3
    assert stats(store).pages > len(file_map.stored_pages())


def test_a_collection_keeps_it_and_moves_it(store: OpenStore) -> None:
    forget(store, Rules(last=1))
    before = splits(store)
    moved = 0
    for _ in range(3):
        age(Path(store.url))
        moved += collect(store).moved
    assert moved > 0
    assert any(not pack_of(store, frame).exists() for frame in before)
    assert tar_of(store) == NEW
    assert verify(store, read_data=100).damages == ()
    # Of what was forgotten nothing is left, and the same tar is stored again, and given back.
    push(store, OLD, Path(store.url) / "a.tar")
    assert tar_of(store) == OLD


def test_it_is_copied_and_the_copy_copied_sends_nothing(store: OpenStore, tmp_path: Path) -> None:
    target = open_store(str(tmp_path / "target"), create=True, cache_dir=tmp_path / "target-cache")
    first = copy(store, store.snapshot("main"), target, "main")
    again = copy(store, store.snapshot("main"), target, "main")
    assert (first.unchanged, again.unchanged, again.bytes_stored) == (False, True, 0)
    assert tar_of(target) == NEW
    assert verify(target, read_data=100).damages == ()
    elsewhere = open_store(str(tmp_path / "target"), cache_dir=tmp_path / "other-cache")
    third = copy(store, store.snapshot("main"), elsewhere, "main")
    assert third.unchanged
    # A tree without it is another thing in the store.
    store.pull("main", tmp_path / "out")
    store.push(tmp_path / "out", "plain")
    plain = copy(store, store.snapshot("plain"), target, "main")
    assert (plain.unchanged, plain.tree) == (False, first.tree)


def test_a_pull_and_a_push_of_the_tree_know_nothing_of_it(store: OpenStore, tmp_path: Path) -> None:
    store.pull("main", tmp_path / "out")
    pushed = store.push(tmp_path / "out", "plain")
    assert pushed.tree == store.snapshot("main").tree
    assert splits(store, "plain") == []


@pytest.mark.parametrize("lost", ["maps", "maps snapshots", "maps snapshots refs index sapwood.json"])
def test_it_is_recovered_from_packs_alone_byte_for_byte(store: OpenStore, lost: str) -> None:
    root = Path(store.url)
    before = {path.name: path.read_bytes() for folder in ("maps", "snapshots") for path in (root / folder).iterdir()}
    for name in lost.split():
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
    done = recover(store.url)
    assert (done.unreadable, done.lost) == ((), ())
    after = {path.name: path.read_bytes() for folder in ("maps", "snapshots") for path in (root / folder).iterdir()}
    assert after == before
    assert_both(open_store(store.url))


def test_a_damaged_page_of_it_is_named_and_no_wrong_tar_ends_well(store: OpenStore, tmp_path: Path) -> None:
    frame = splits(store)[2]
    damage(store, frame)
    for read_data in (0, 100):
        damages = verify(store, read_data=read_data).damages
        assert [found.key for found in damages] == [f"packs/{frame.pack}.tar.zst"]
        assert damages[0].refs == {"main"}
        assert read_data or "a page of split metadata of file map" in damages[0].found
    run = Sapwood(tmp_path)
    said = run("tar", f"{store.url}#main", "-o", "back.tar")
    assert (said.code, said.out, frame.pack in said.err) == (5, "", True)
    assert not (tmp_path / "back.tar").exists()
    to_stdout = subprocess.run(run.command("tar", f"{store.url}#main"), env=run.environment, capture_output=True)
    assert to_stdout.returncode == 5
    # All else is read as ever.
    run.good("pull", f"{store.url}#main", "out")


def test_a_damaged_page_of_it_is_healed_of_another_store(store: OpenStore, kept: Path, tmp_path: Path) -> None:
    for frame in splits(store)[1:4]:
        damage(store, frame)
    healed = repair(store, [open_heal(str(kept))])
    assert healed.left == ()
    assert_both(open_store(store.url, cache_dir=tmp_path / "fresh"))


@pytest.mark.parametrize("whole_packs", [False, True])
def test_what_is_lost_of_a_tar_is_healed_of_the_tar(store: OpenStore, tmp_path: Path, whole_packs: bool) -> None:
    for frame in splits(store):
        if whole_packs:
            pack_of(store, frame).unlink(missing_ok=True)
        else:
            damage(store, frame)
    tars = [tmp_path / "old.tar.gz", tmp_path / "new.tar"]
    tars[0].write_bytes(gzip.compress(OLD))
    tars[1].write_bytes(NEW)
    assert repair(store, [open_heal(str(tars[0]))]).left != ()
    healed = repair(store, [open_heal(str(tar)) for tar in tars])
    assert healed.left == ()
    assert_both(open_store(store.url, cache_dir=tmp_path / "fresh"))


def test_what_nobody_has_is_left_and_said(store: OpenStore) -> None:
    frame = splits(store)[2]
    damage(store, frame)
    left = repair(store, []).left
    assert [found.key for found in left] == [f"packs/{frame.pack}.tar.zst"]
    with pytest.raises(CorruptError):
        tar_of(store)


def test_a_stream_that_is_not_the_one_that_was_pushed_is_never_said_to_be_it(store: OpenStore, tmp_path: Path) -> None:
    """As if a tar had been pushed by a program that is wrong: all pages are whole, and do not tell the stream."""
    root, snapshot = Path(store.url), store.snapshot("main")
    path = root / "maps" / f"{snapshot.map.removeprefix('sha256:')}.jsonl.zst"
    text = subprocess.run(["zstd", "-dcq", path], capture_output=True, check=True).stdout
    wrong = text.replace(json.loads(text.partition(b"\n")[0])["tar"].encode(), b"sha256:" + b"0" * 64)
    (tmp_path / "wrong").write_bytes(wrong)
    stored = subprocess.run(["zstd", "-cq", tmp_path / "wrong"], capture_output=True, check=True).stdout
    name = put_named(root, "maps", ".jsonl.zst", stored, of=wrong)
    lying = replace(snapshot, map=MapDigest(f"sha256:{name}"), parent=snapshot.digest)
    store.write_snapshot(lying)
    store.move_ref("main", lying.digest, store.read_ref("main"))
    with pytest.raises(CorruptError, match="hashes to") as refused:
        tar_of(store)
    assert refused.value.kind == "damaged"
    run = Sapwood(tmp_path)
    assert run("tar", f"{store.url}#main", "-o", "back.tar").code == 5
    assert not (tmp_path / "back.tar").exists()
