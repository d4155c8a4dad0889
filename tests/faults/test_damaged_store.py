"""Whatever happens to an object of a store, who reads it gets exactly the right bytes or an error that names it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sapwood import open_store, open_tree
from sapwood.errors import CorruptError, FormatError, InvalidInputError, NotFoundError, SapwoodError
from sapwood.fetch import load_map
from sapwood.upkeep.repair import repair
from sapwood.upkeep.sources import open_source
from tests.support.trees import LARGE, differences, noise, write_sparse

Damage = Callable[[bytes], bytes | None]


@dataclass(frozen=True)
class Kept:
    """A store, the trees that its refs name, and its objects by what they are."""

    store: Path
    trees: dict[str, Path]
    objects: dict[str, Path]
    others: dict[str, Path]
    """Of each kind another object, that of the other ref."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home = tmp_path_factory.mktemp("kept")
    store = open_store(str(home / "store"), create=True, cache_dir=home / "cache")
    trees, found = {}, []
    before: set[Path] = set()
    for seed, ref in enumerate(("main", "other")):
        root = trees[ref] = home / ref
        (root / "folder").mkdir(parents=True)
        for number in range(40):
            (root / "folder" / f"small-{number}").write_text(f"{ref} {number} " * 50)
        (root / "folder" / "again").hardlink_to(root / "folder" / "small-1")
        (root / "large").write_bytes(noise(LARGE + 300_000, seed))
        write_sparse(root / "sparse", LARGE + 100_000, {LARGE: noise(70_000, seed + 10)})
        store.push(root, ref, index=home / "index")
        snapshot = store.snapshot(ref)
        page = load_map(store, snapshot, pages=False).pages()[0].pack
        now = {path for path in Path(store.url).rglob("*") if path.is_file()}
        new, before = now - before, now
        [pages] = [path for path in new if path.name.startswith(page)]
        [data] = [path for path in new if path.parent.name == "packs" and path != pages]
        named = {"data pack": data, "page pack": pages}
        for folder in ("maps", "snapshots", "refs", "index"):
            [named[folder]] = [path for path in new if path.parent.name == folder]
        found.append({**named, "identity": Path(store.url) / "sapwood.json"})
    another = open_store(str(home / "another"), create=True, cache_dir=home / "cache")
    found[1]["identity"] = Path(another.url) / "sapwood.json"
    return Kept(Path(store.url), trees, *found)


NAMES = {
    "data pack": "pack |packs/",
    "page pack": "pack |packs/",
    "maps": "file map ",
    "snapshots": "snapshot ",
    "refs": "ref main|snapshot ",
    "identity": "sapwood.json|not a store",
}
"""What an error says of each kind of object, at least."""


def flipped(at: int, bits: int) -> Damage:
    return lambda data: data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def cut(length: int) -> Damage:
    return lambda data: data[:length]


def damages(size: int) -> Iterator[tuple[str, Damage]]:
    """Each way in which an object of `size` bytes is damaged; small ones are flipped at every byte."""
    places = range(size)
    if size > 300:
        # The head of the first frame, the first frames, the middle, TOC and footer.
        places = [*range(0, 24, 3), *range(24, min(size, 6000), size // 15 if size < 6000 else 599), size // 2,
                  *range(max(24, size - 120), size, 17), size - 1]  # fmt: skip
    for at in places:
        yield f"flipped at {at}", flipped(at, (0x01, 0x20, 0x80, 0xFF)[at % 4])
    for length in (0, size // 10, size // 2, size * 9 // 10, size - 1):
        yield f"cut at {length}", cut(length)
    yield "longer by a byte", lambda data: data + b"\0"
    yield "zeros", lambda data: bytes(len(data))
    yield "gone", lambda data: None


def assert_right_or_named(kept: Kept, kind: str, place: Path, tmp_path: Path, right: set[str]) -> str | None:
    """Read everything; return the kind of the error, if there was one."""
    out = tmp_path / "out"
    errors = []
    try:
        tree = open_tree(f"{place}#main")
        for path, item in tree.list():
            if item.kind in ("reg", "hardlink"):
                given = b"".join(tree.read_blob(path))
                wanted = {(kept.trees[ref] / os.fsdecode(path)).read_bytes() for ref in right}
                assert given in wanted
    except SapwoodError as error:
        errors.append(error)
    try:
        open_store(str(place)).pull("main", out)
    except SapwoodError as error:
        errors.append(error)
        assert os.listdir(tmp_path) == ["store"], "a pull that fails leaves nothing"
    else:
        assert [] in [differences(kept.trees[ref], out) for ref in right]
        shutil.rmtree(out)
    for error in errors:
        assert isinstance(error, (CorruptError, NotFoundError, InvalidInputError, FormatError)), repr(error)
        assert str(place) in str(error), error
        assert any(name in str(error) for name in NAMES[kind].split("|")), error
    return errors[0].kind if errors else None


def damaged(kept: Kept, path: Path, tmp_path: Path, change: Damage) -> Path:
    """Return a copy of the store in which one object is changed."""
    place = tmp_path / "store"
    shutil.copytree(kept.store, place, copy_function=os.link)
    victim = place / path.relative_to(kept.store)
    data = change(victim.read_bytes())
    victim.unlink()
    if data is not None:
        victim.write_bytes(data)
    return place


@pytest.mark.parametrize("kind", NAMES)
def test_a_damaged_object_gives_the_right_bytes_or_is_named(kept: Kept, tmp_path: Path, kind: str) -> None:
    outcomes = set()
    for number, (what, change) in enumerate(damages(kept.objects[kind].stat().st_size)):
        here = tmp_path / str(number)
        here.mkdir()
        place = damaged(kept, kept.objects[kind], here, change)
        outcome = assert_right_or_named(kept, kind, place, here, {"main"})
        assert outcome or what not in ("gone", "zeros", "cut at 0"), what
        outcomes.add(outcome)
        shutil.rmtree(here)
    assert len(outcomes) > 1 or kind == "snapshots", outcomes


@pytest.mark.parametrize("kind", NAMES)
def test_another_object_of_its_kind_is_not_taken_for_it(kept: Kept, tmp_path: Path, kind: str) -> None:
    place = damaged(kept, kept.objects[kind], tmp_path, lambda _: kept.others[kind].read_bytes())
    # A ref names what it names, and a store's own name says nothing of its trees.
    right = {"refs": "other"}.get(kind, "main")
    outcome = assert_right_or_named(kept, kind, place, tmp_path, {right})
    assert (outcome is None) == (kind in ("refs", "identity"))


def test_a_damaged_fragment_stops_a_push_and_is_named_and_no_reader_needs_it(kept: Kept, tmp_path: Path) -> None:
    fragment = kept.objects["index"]
    for number, (what, change) in enumerate(damages(fragment.stat().st_size)):
        here = tmp_path / str(number)
        here.mkdir()
        place = damaged(kept, fragment, here, change)
        store = open_store(str(place), cache_dir=here / "cache")
        before = {path for path in place.rglob("*") if path.is_file()}
        if what == "gone":
            # It is only known what was listed elsewhere: the rest is sent again.
            store.push(kept.trees["main"], "new", index=here / "index")
        else:
            with pytest.raises(CorruptError) as named:
                store.push(kept.trees["main"], "new", index=here / "index")
            assert named.value.kind == "fragment-corrupt"
            assert f"index/{fragment.name}" in str(named.value)
            assert {path for path in place.rglob("*") if path.is_file()} == before
            # Where the file map before explains everything, none is needed.
            assert store.push(kept.trees["main"], "main", index=here / "index").chunks_sent == 0
        store.pull("main", here / "out")
        assert differences(kept.trees["main"], here / "out") == []
        shutil.rmtree(here)


def test_the_remedy_for_a_damaged_fragment_is_one(kept: Kept, tmp_path: Path) -> None:
    place = damaged(kept, kept.objects["index"], tmp_path, lambda data: data[:-1])
    store = open_store(str(place))
    with pytest.raises(CorruptError) as named:
        store.push(kept.trees["main"], "new")
    assert named.value.hint == (
        f"remove index/{kept.objects['index'].name} from the store; pushes then send what it listed again"
    )
    (place / "index" / kept.objects["index"].name).unlink()
    store.push(kept.trees["main"], "new")
    store.pull("new", tmp_path / "out")
    assert differences(kept.trees["main"], tmp_path / "out") == []


@pytest.mark.parametrize("kind", ["data pack", "page pack", "maps"])
def test_damage_is_named_by_store_and_key_and_its_remedy_is_one(kept: Kept, tmp_path: Path, kind: str) -> None:
    place = damaged(kept, kept.objects[kind], tmp_path, lambda data: bytes(len(data)))
    key = kept.objects[kind].relative_to(kept.store)
    store = open_store(str(place), cache_dir=tmp_path / "cache")
    with pytest.raises(CorruptError) as named:
        store.pull("main", tmp_path / "out")
    assert str(named.value).startswith(f"{place}: {key}: ")
    assert named.value.hint is not None
    assert named.value.hint.startswith(f"sapwood repair {place}, --from a directory ")
    assert repair(store, [open_source(str(kept.trees["main"]))]).left == ()
    store.pull("main", tmp_path / "out")
    assert differences(kept.trees["main"], tmp_path / "out") == []


def test_a_ref_whose_snapshot_is_damaged_can_be_pushed_again(kept: Kept, tmp_path: Path) -> None:
    place = damaged(kept, kept.objects["snapshots"], tmp_path, lambda data: data[:-1])
    store = open_store(str(place))
    store.push(kept.trees["main"], "main")
    store.pull("main", tmp_path / "out")
    assert differences(kept.trees["main"], tmp_path / "out") == []


@pytest.mark.parametrize("ref", ["main", "new"])
def test_a_push_from_elsewhere_onto_lost_packs_sends_again_what_they_held(tmp_path: Path, ref: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_text("content")
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(tree, "main")
    for pack in (tmp_path / "store" / "packs").iterdir():
        pack.unlink()
    elsewhere = open_store(store.url, cache_dir=tmp_path / "elsewhere")
    assert not elsewhere.push(tree, ref, index=tmp_path / "index").unchanged
    store.pull(ref, tmp_path / "copy")
    assert (tmp_path / "copy" / "a").read_text() == "content"
