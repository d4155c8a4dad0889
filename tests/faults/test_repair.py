"""What is damaged in a store is healed of what any other copy has; what nobody has is named; nothing sound is lost."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood._core.upkeep import read_toc
from sapwood.errors import CorruptError, InvalidInputError, NotFoundError
from sapwood.fetch import load_map
from sapwood.profile import Profile
from sapwood.store.local import LocalObjects
from sapwood.upkeep.optimize import optimize
from sapwood.upkeep.repair import Repaired, repair
from sapwood.upkeep.sources import open_source
from sapwood.upkeep.verify import verify
from tests.support.child import Killed, die, in_child
from tests.support.cli import Sapwood
from tests.support.damage import Damage, copy_of, flipped, harm
from tests.support.racing import race
from tests.support.trees import LARGE, differences, noise


@dataclass(frozen=True)
class Kept:
    """A store of two snapshots of a tree, a second store with the newer one, and the trees."""

    store: Path
    second: Path
    old: Path
    tree: Path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home = tmp_path_factory.mktemp("kept")
    tree = home / "tree"
    (tree / "folder").mkdir(parents=True)
    for number in range(40):
        (tree / "folder" / f"small-{number}").write_text(f"{number} " * 50)
    (tree / "large").write_bytes(noise(LARGE + 300_000, 1))
    store = open_store(str(home / "store"), create=True, cache_dir=home / "cache")
    store.push(tree, "main", index=home / "index")
    shutil.copytree(tree, home / "old")
    (tree / "folder" / "small-3").write_text("edited")
    store.push(tree, "main", index=home / "index")
    second = open_store(str(home / "second"), create=True, cache_dir=home / "cache")
    second.push(tree, "main", index=home / "index")
    return Kept(Path(store.url), Path(second.url), home / "old", tree)


def wiped(data: bytes) -> bytes:
    """Keep nothing of a pack but what it says that it holds."""
    toc, _ = read_toc(data, len(data))
    assert toc
    return bytes(toc.end) + data[toc.end :]


def mend(place: Path, *sources: Path) -> Repaired:
    return repair(open_store(str(place)), [open_source(str(source)) for source in sources])


def assert_whole(kept: Kept, place: Path, tmp_path: Path) -> None:
    store = open_store(str(place), cache_dir=tmp_path / "fresh")
    assert verify(store, read_data=100).damages == ()
    store.pull("main", tmp_path / "new")
    assert differences(kept.tree, tmp_path / "new") == []
    parent = store.snapshot("main").parent
    assert parent is not None
    store.pull(f"main@{parent}", tmp_path / "before")
    assert [path for path in differences(kept.old, tmp_path / "before") if "small" in str(path)] == []


DAMAGES: dict[str, Damage] = {
    "flipped at its head": flipped(20, 1),
    "flipped in the middle": lambda data: flipped(len(data) // 2, 4)(data),
    "flipped in its TOC": lambda data: flipped(len(data) - 60, 4)(data),
    "without its end": lambda data: data[:-40],
    "half of it": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "gone": lambda data: None,
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_pack_is_healed_of_a_directory_and_a_second_store(kept: Kept, tmp_path: Path, what: str) -> None:
    for number, pack in enumerate(sorted((kept.store / "packs").iterdir())):
        here = tmp_path / str(number)
        here.mkdir()
        place = copy_of(kept.store, here / "store")
        harm(place / "packs" / pack.name, DAMAGES[what])
        repaired = mend(place, kept.old, kept.tree, kept.second)
        pages_are_lost = bool(repaired.left)
        if pages_are_lost:
            # Pages of file maps are in no directory, and in another store they name other packs.
            assert what not in ("flipped in its TOC", "without its end")
            continue
        assert_whole(kept, place, here)
        assert f"packs/{pack.name}" in dict(repaired.healed)
        assert mend(place).healed == ()


def test_contents_are_healed_of_a_directory_alone(kept: Kept, tmp_path: Path) -> None:
    place = copy_of(kept.store, tmp_path / "store")
    largest = max((place / "packs").iterdir(), key=lambda path: path.stat().st_size)
    harm(largest, lambda data: flipped(len(data) // 3, 1)(flipped(len(data) // 2, 1)(data) or b""))
    assert mend(place, kept.old).left == ()
    assert_whole(kept, place, tmp_path)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A store of a tree that was laid out again, what it was before collected; its tree, and a tar of that."""
    home = tmp_path_factory.mktemp("cut")
    sizes = {b"small": 900_000, b"large": LARGE + 300_000}
    (home / "tree").mkdir()
    for number, (name, size) in enumerate(sizes.items()):
        (home / "tree" / name.decode()).write_bytes(noise(size, number))
    sapwood = Sapwood(home)
    sapwood.good("push", "tree", "main")
    store = open_store(str(sapwood.store))
    seen = store.read_ref("main")
    read = [(name, 0, [(70_000, 200_000), (500_000, 500_001)], [b"sh"]) for name in sizes]
    optimize(store, seen, Profile.of_run(store.snapshot("main").tree, "2026-01-01T00:00:00Z", read))
    for step in (["forget", "--keep-last", "1"], ["gc", "--grace", "0s"], ["gc", "--grace", "0s"]):
        sapwood.good(*step)
    # That of Python rounds times.
    subprocess.run(["tar", "--format=posix", "-cf", home / "tree.tar", "-C", home / "tree", "."], check=True)
    return Kept(sapwood.store, home / "tree.tar", home / "tree", home / "tree")


@pytest.mark.parametrize("of", ["directory", "tar"])
@pytest.mark.parametrize("what", ["flipped in the middle", "gone"])
def test_files_that_were_cut_are_healed_of_whole_ones(cut: Kept, tmp_path: Path, what: str, of: str) -> None:
    for number, pack in enumerate(sorted((cut.store / "packs").iterdir())):
        here = tmp_path / str(number)
        here.mkdir()
        place = copy_of(cut.store, here / "store")
        harm(place / "packs" / pack.name, DAMAGES[what])
        assert mend(place, cut.tree if of == "directory" else cut.second).left == ()
        store = open_store(str(place), cache_dir=here / "fresh")
        assert verify(store, read_data=100).damages == ()
        store.pull("main", here / "new")
        assert differences(cut.tree, here / "new") == []


def test_a_tar_gives_several_at_once_what_each_asks_for(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    contents = [noise(50_000, number) for number in range(40)]
    for number, content in enumerate(contents):
        (tmp_path / "tree" / str(number)).write_bytes(content)
    subprocess.run(["tar", "-cf", tmp_path / "tar", "-C", tmp_path / "tree", "."], check=True)
    source = open_source(str(tmp_path / "tar"))
    wanted = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents]
    source.look(dict.fromkeys(wanted, 50_000), [])
    given = race(8, lambda _: [source.read(digest, 50_000) for _ in range(20) for digest in wanted])
    assert given == [contents * 20] * 8


def test_a_page_of_files_that_were_cut_twice_is_told_again(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "large").write_bytes(noise(8_000_000, 7))
    run.good("push", "tree", "main")
    store = open_store(str(run.store))
    tree = store.snapshot("main").tree
    for begin in (100_000, 4_100_000):
        read = [(b"large", 0, [(at, at + 1) for at in range(begin, begin + 3_600_000, 1_200_000)], [b"sh"])]
        done = optimize(store, store.read_ref("main"), Profile.of_run(tree, "2026-01-01T00:00:00Z", read))
        assert not done.unchanged
    [frame] = load_map(store, store.snapshot("main"), pages=False).stored_pages()
    path = run.store / "packs" / frame.pack[:2] / frame.pack
    path = path if path.exists() else next(run.store.glob(f"packs/**/*{frame.pack}*"))
    data = bytearray(path.read_bytes())
    data[frame.offset + frame.length // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    assert mend(run.store, tmp_path / "tree").left == ()
    store = open_store(str(run.store), cache_dir=tmp_path / "fresh")
    assert verify(store, read_data=100).damages == ()


def test_a_chunk_that_another_pack_has_needs_no_other_copy(kept: Kept, tmp_path: Path) -> None:
    place = copy_of(kept.store, tmp_path / "store")
    # A machine that knew nothing of the store has sent all of it again.
    for fragment in (place / "index").iterdir():
        fragment.unlink()
    before = set((place / "packs").iterdir())
    open_store(str(place), cache_dir=tmp_path / "other").push(kept.tree, "again", index=tmp_path / "index")
    largest = max(before, key=lambda path: path.stat().st_size)
    harm(largest, lambda data: flipped(len(data) // 2, 1)(data))
    assert verify(open_store(str(place)), read_data=100).damages
    assert mend(place).left == ()
    assert_whole(kept, place, tmp_path)


def test_what_nobody_has_is_named_with_its_paths_and_the_rest_is_healed(kept: Kept, tmp_path: Path) -> None:
    place = copy_of(kept.store, tmp_path / "store")
    largest = max((place / "packs").iterdir(), key=lambda path: path.stat().st_size)
    harm(largest, wiped)
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(kept.old / "folder" / "small-7", some)
    left = mend(place, some).left
    assert left
    named = {path for damage in left for path in damage.paths}
    assert b"folder/small-7" not in named
    assert {ref for damage in left for ref in damage.refs} == {"main"}
    again = mend(place, some)
    assert (again.healed, again.left) == ((), left)
    # Another copy that turns up later heals the rest.
    assert mend(place, kept.old).left == ()
    assert_whole(kept, place, tmp_path)


@pytest.mark.parametrize("what", [wiped, lambda data: None])
@pytest.mark.parametrize("how", ["repaired", "put back"])
def test_a_reader_that_met_the_damage_reads_what_has_been_healed_since(
    kept: Kept, tmp_path: Path, what: Damage, how: str
) -> None:
    place = copy_of(kept.store, tmp_path / "store")
    largest = max((place / "packs").iterdir(), key=lambda path: path.stat().st_size)
    harm(largest, what)
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(kept.old / "folder" / "small-7", some)
    shutil.copy(kept.tree / "large", some)
    mend(place, some)
    reader = open_store(str(place), cache_dir=tmp_path / "cache")
    with pytest.raises((CorruptError, NotFoundError)):
        reader.pull("main", tmp_path / "out")
    if how == "repaired":
        assert mend(place, kept.old, kept.second).left == ()
    else:
        shutil.copy(kept.store / "packs" / largest.name, largest)
    reader.pull("main", tmp_path / "new")
    assert differences(kept.tree, tmp_path / "new") == []


@pytest.mark.parametrize("folder", ["maps", "snapshots", "refs", "index"])
@pytest.mark.parametrize("what", ["flipped at its head", "emptied", "gone"])
def test_maps_snapshots_refs_and_fragments_are_healed_of_the_packs(
    kept: Kept, tmp_path: Path, folder: str, what: str
) -> None:
    place = copy_of(kept.store, tmp_path / "store")
    for path in sorted((place / folder).iterdir()):
        harm(path, DAMAGES[what])
    repaired = mend(place)
    assert repaired.left == ()
    if folder == "refs" and what == "gone":
        # Nobody names what was lost; recover does that.
        return
    assert_whole(kept, place, tmp_path)


def test_a_place_that_is_neither_store_nor_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as refused:
        open_source(str(tmp_path / "nothing"))
    assert refused.value.kind == "not-a-store"


def test_the_command_says_what_it_healed_and_ends_with_5_if_something_is_left(kept: Kept, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    place = copy_of(kept.store, tmp_path / "copy")
    largest = max((place / "packs").iterdir(), key=lambda path: path.stat().st_size)
    harm(largest, wiped)
    said = run("repair", place)
    assert said.code == 5
    assert f"packs/{largest.name}" in said.out
    healed = run("repair", place, "--from", kept.old)
    assert healed.code == 0
    assert f"packs/{largest.name}: moved to packs/" in healed.out
    assert run("repair", place).out == ""


def count_requests(monkeypatch: pytest.MonkeyPatch, at: Callable[[int], None]) -> None:
    """Call `at` before and after each request that changes a local store: twice the number, and that plus one."""
    numbers = itertools.count()

    def counted(write: Callable[..., object]) -> Callable[..., object]:
        def wrapped(self: LocalObjects, key: str, *rest: object) -> object:
            number = next(numbers)
            at(2 * number)
            written = write(self, key, *rest)
            at(2 * number + 1)
            return written

        return wrapped

    for verb in ("put", "swap", "delete"):
        monkeypatch.setattr(LocalObjects, verb, counted(getattr(LocalObjects, verb)))


def test_killed_before_and_after_each_request_it_goes_on_when_it_is_run_again(kept: Kept, tmp_path: Path) -> None:
    whole = copy_of(kept.store, tmp_path / "damaged")
    packs = sorted((whole / "packs").iterdir(), key=lambda path: path.stat().st_size)
    harm(packs[-1], flipped(20, 1))
    harm(next((whole / "maps").iterdir()), flipped(20, 1))
    harm(next((whole / "index").iterdir()), flipped(20, 1))
    for number in range(200):
        here = tmp_path / str(number)
        here.mkdir()
        place = copy_of(whole, here / "store")

        def run(place: Path = place, number: int = number) -> None:
            with pytest.MonkeyPatch.context() as patch:
                count_requests(patch, lambda count: die() if count == number else None)
                mend(place, kept.old)

        try:
            in_child(run)
        except Killed:
            assert mend(place, kept.old).left == ()
            assert_whole(kept, place, here)
        else:
            break
        shutil.rmtree(here)
    assert 10 < number < 199
