"""Whatever happens to an object of a store, `verify` names it, with the refs and paths that need it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import InvalidInputError, SapwoodError
from sapwood.store.redirects import HOPS
from sapwood.upkeep.gc import collect
from sapwood.upkeep.verify import Verified, verify
from tests.support.cli import Sapwood
from tests.support.damage import copy_of, damages, flipped, harm
from tests.support.trees import LARGE, noise


@dataclass(frozen=True)
class Kept:
    """A store with two refs, one with a history, and what lies in it."""

    store: Path
    tree: Path

    def objects(self, folder: str) -> list[Path]:
        return sorted((self.store / folder).iterdir())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home = tmp_path_factory.mktemp("kept")
    tree = home / "tree"
    (tree / "folder").mkdir(parents=True)
    for number in range(30):
        (tree / "folder" / f"small-{number}").write_text(f"{number} " * 50)
    (tree / "large").write_bytes(noise(LARGE + 300_000, 1))
    store = open_store(str(home / "store"), create=True, cache_dir=home / "cache")
    store.push(tree, "main", index=home / "index")
    (tree / "folder" / "small-3").write_text("edited")
    store.push(tree, "main", index=home / "index")
    store.push(tree / "folder", "other", index=home / "index2")
    return Kept(Path(store.url), tree)


def look(place: Path, read_data: float = 100) -> Verified:
    return verify(open_store(str(place)), read_data=read_data)


def test_a_whole_store_has_no_damage(kept: Kept) -> None:
    verified = look(kept.store)
    assert verified.damages == ()
    assert (verified.refs, verified.snapshots) == (2, 3)
    assert verified.packs == verified.packs_read == len(kept.objects("packs"))
    assert verified.bytes_read == sum(path.stat().st_size for path in kept.objects("packs"))
    assert verified.fragments == len(kept.objects("index"))


def test_without_data_no_pack_is_read_whole(kept: Kept) -> None:
    verified = look(kept.store, 0)
    assert (verified.damages, verified.packs_read, verified.bytes_read) == ((), 0, 0)


def says_the_same(place: Path, folder: str, name: str) -> bool:
    """Say whether a fence index still has its text: of a frame of zstd not every bit matters."""
    if folder != "maps" or not (place / folder / name).exists():
        return False
    read = subprocess.run(["zstd", "-dcq", place / folder / name], capture_output=True, check=False)
    return read.returncode == 0 and hashlib.sha256(read.stdout).hexdigest() == name.partition(".")[0]


@pytest.mark.parametrize(("folder", "flips"), [("packs", 40), ("maps", 25), ("snapshots", 80), ("index", 25)])
def test_every_damage_of_every_object_is_found_under_its_key(
    kept: Kept, tmp_path: Path, folder: str, flips: int
) -> None:
    for number, victim in enumerate(kept.objects(folder)):
        for what, change in damages(victim.stat().st_size, flips=flips if number == 0 else 3):
            place = copy_of(kept.store, tmp_path / "store")
            harm(place / folder / victim.name, change)
            found = {damage.key for damage in look(place).damages}
            harmless = (folder == "index" and what == "gone") or says_the_same(place, folder, victim.name)
            assert (f"{folder}/{victim.name}" in found) != harmless, (victim.name, what, found)
            shutil.rmtree(place)


def test_a_flipped_bit_of_a_ref_is_found_unless_it_names_nothing(kept: Kept, tmp_path: Path) -> None:
    ref = kept.objects("refs")[0]
    fields = ref.read_bytes()
    for at in range(len(fields)):
        place = copy_of(kept.store, tmp_path / "store")
        harm(place / "refs" / ref.name, flipped(at, 1))
        damages = look(place, 0).damages
        if not damages:
            # Counter and nonce make states of a ref differ and say nothing of what it names.
            before, after = json.loads(fields), json.loads((place / "refs" / ref.name).read_bytes())
            assert {name for name in before if before[name] != after[name]} <= {"counter", "nonce"}
        else:
            assert all("main" in damage.refs for damage in damages)
        shutil.rmtree(place)


def test_an_object_that_took_the_place_of_another_is_found(kept: Kept, tmp_path: Path) -> None:
    for folder in ("packs", "maps", "snapshots", "index"):
        first, second = kept.objects(folder)[:2]
        place = copy_of(kept.store, tmp_path / folder)
        harm(place / folder / first.name, lambda _, other=second: other.read_bytes())
        assert f"{folder}/{first.name}" in {damage.key for damage in look(place).damages}


def test_a_damaged_identity_is_said_before_anything_else(kept: Kept, tmp_path: Path) -> None:
    for number, at in enumerate((0, 3, 12, 40)):
        place = copy_of(kept.store, tmp_path / str(number))
        harm(place / "sapwood.json", flipped(at, 0x40))
        with pytest.raises(SapwoodError, match=r"sapwood\.json"):
            look(place)


def test_damage_names_the_refs_and_the_paths_that_need_it(kept: Kept, tmp_path: Path) -> None:
    for pack in kept.objects("packs"):
        place = copy_of(kept.store, tmp_path / pack.name)
        harm(place / "packs" / pack.name, lambda _: None)
        [damage] = [damage for damage in look(place, 0).damages if damage.key == f"packs/{pack.name}"]
        assert damage.refs <= {"main", "other"}
        assert damage.refs
        assert damage.paths
        assert len(damage.paths) <= 10


def test_a_truncated_pack_is_found_without_reading_it(kept: Kept, tmp_path: Path) -> None:
    for pack in kept.objects("packs"):
        place = copy_of(kept.store, tmp_path / pack.name)
        harm(place / "packs" / pack.name, lambda data: data[:-1])
        assert f"packs/{pack.name}" in {damage.key for damage in look(place, 0).damages}


def test_the_command_ends_with_5_and_names_what_is_damaged(kept: Kept, tmp_path: Path) -> None:
    sapwood = Sapwood(tmp_path)
    whole = sapwood("verify", kept.store, "--read-data", "100%", "--json")
    assert (whole.code, whole.document["damages"]) == (0, [])
    place = copy_of(kept.store, tmp_path / "copy")
    harm(place / "packs" / kept.objects("packs")[0].name, lambda _: None)
    damaged = sapwood("verify", place)
    assert damaged.code == 5
    assert f"packs/{kept.objects('packs')[0].name}" in damaged.out
    assert re.search("needed by: (main|other)", damaged.out)
    assert sapwood("verify", place, "--read-data", "120").code == 2


def test_a_place_without_listings_is_refused(kept: Kept) -> None:
    with pytest.raises(InvalidInputError):
        verify(open_store(str(kept.store / "packs")))


def test_more_packs_may_have_moved_than_redirects_are_followed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    for number in range(2 * HOPS + 3):
        tree = tmp_path / f"tree-{number}"
        tree.mkdir()
        (tree / "kept").write_bytes(noise(10_000, 2 * number))
        (tree / "dropped").write_bytes(noise(300_000, 2 * number + 1))
        store.push(tree, f"ref-{number}")
        (tree / "dropped").unlink()
        store.push(tree, f"ref-{number}")
        store.cut_ref(store.read_ref(f"ref-{number}"), [])
    assert collect(store, grace_s=0).moved == 2 * HOPS + 3
    assert look(tmp_path / "store").damages == ()
