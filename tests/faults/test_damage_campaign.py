"""An object of every kind removed, emptied, exchanged with another, one bit flipped in every class of fields.

After each every finished snapshot reads back byte for byte, or `verify` names the damage; then `repair` heals it of the
directories that were pushed, or of a second store, and finds nothing to do when it is run again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood._core.upkeep import read_toc
from sapwood.errors import FormatError, SapwoodError
from sapwood.store.keys import lock_key
from sapwood.store.record import encode
from sapwood.upkeep.forget import forget
from sapwood.upkeep.gc import collect
from sapwood.upkeep.recover import open_damaged
from sapwood.upkeep.repair import repair
from sapwood.upkeep.retention import Rules
from sapwood.upkeep.sources import open_source
from sapwood.upkeep.verify import verify
from tests.support.collecting import age, change, make_tree
from tests.support.damage import Damage, copy_of, flipped, harm
from tests.support.trees import differences

KINDS = {
    "pack": "packs/*.tar.zst",
    "redirect": "packs/*.moved",
    "map": "maps/*",
    "snapshot": "snapshots/*",
    "ref": "refs/*.ref",
    "fragment": "index/*",
    "record": "gc/*",
    "identity": "sapwood.json",
    "lock": "locks/*",
}


@dataclass(frozen=True)
class Kept:
    """A store with histories, a moved pack and a record, another one, and the trees by their pinned addresses."""

    store: Path
    second: Path
    trees: dict[str, Path]

    def objects(self, kind: str) -> list[Path]:
        """Return objects of one kind: the smallest and the largest, of packs one between too."""
        found = sorted(self.store.glob(KINDS[kind]), key=lambda path: (path.stat().st_size, path.name))
        assert found, kind
        return sorted({found[0], found[len(found) // 2 if kind == "pack" else 0], found[-1]})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home = tmp_path_factory.mktemp("kept")
    tree = home / "tree"
    make_tree(tree, 1, files=8)
    store = open_store(str(home / "store"), create=True, cache_dir=home / "cache")
    second = open_store(str(home / "second"), create=True, cache_dir=home / "cache")
    trees: dict[str, Path] = {}

    def push(source: Path, ref: str) -> None:
        snapshot = store.push(source, ref, index=home / f"index-{ref}").snapshot
        trees[f"{ref}@{snapshot}"] = home / f"{ref}-{len(trees)}"
        shutil.copytree(source, trees[f"{ref}@{snapshot}"], symlinks=True)
        second.push(source, f"copy/{ref}", index=home / f"second-{ref}")

    store.push(tree, "main", index=home / "index-main")
    change(tree, 2, 4)
    push(tree, "main")
    forget(store, Rules(last=1))
    age(Path(store.url), 2 * 86_400 * 10**9)
    assert collect(store).moved
    (tree / "small").write_text("small\n" * 10)
    push(tree, "main")
    push(tree / "folder-1", "other")
    (tree / "folder-1" / "another").write_text("another")
    push(tree / "folder-1", "other")
    for number in (1, 2):  # as where refs move under a lock
        fields = {"user": "ann", "host": "here", "nonce": f"{number:016x}", "free": True}
        store._writing().put(lock_key(number), encode(fields))
    assert verify(store, read_data=100).damages == ()
    return Kept(Path(store.url), Path(second.url), trees)


def fields(kind: str, data: bytes) -> list[int]:
    """Return a place in each class of fields that an object of a kind has."""
    if kind == "pack":
        toc, _ = read_toc(data, len(data))
        assert toc
        frames = [0, 5, 30, toc.end // 3, toc.end // 2, toc.end - 1]
        ends = [toc.end + 6, toc.end + 20, toc.end + 30, toc.end + 40, (toc.end + len(data)) // 2]
        footer = [len(data) - 56 + at for at in (0, 4, 8, 16, 24, 32, 40, 48, 55)]
        return [*frames, *ends, *footer]
    if kind in ("snapshot", "ref", "record", "identity", "lock"):
        text = data.decode()
        values = json.loads(text)
        return [*(text.index(f'"{name}":') + len(name) + 4 for name in values), 0, 3, len(data) - 1]
    steps = 9
    return [number * (len(data) - 1) // steps for number in range(steps + 1)]


def damages(kind: str, victim: Path, others: list[Path]) -> Iterator[tuple[str, dict[Path, Damage]]]:
    data = victim.read_bytes()
    for at in fields(kind, data):
        yield f"flipped at {at}", {victim: flipped(at, 1)}
    yield "emptied", {victim: lambda _: b""}
    yield "gone", {victim: lambda _: None}
    for other in others:
        if other < victim:
            theirs = other.read_bytes()
            yield f"exchanged with {other.name}", {victim: lambda _, theirs=theirs: theirs, other: lambda _: data}


def assert_reads_back(kept: Kept, place: Path, scratch: Path) -> None:
    """Every finished snapshot is there."""
    scratch.mkdir()
    store = open_store(str(place), cache_dir=scratch / "cache")
    for number, (address, tree) in enumerate(kept.trees.items()):
        store.pull(address, scratch / str(number))
        assert differences(tree, scratch / str(number)) == []


# But for packs everything is healed of the store itself.
@pytest.mark.parametrize(("kind", "copies"), [("pack", "second store"), *((kind, "directories") for kind in KINDS)])
def test_damage_is_harmless_or_named_and_then_healed(kept: Kept, tmp_path: Path, kind: str, copies: str) -> None:
    sources = [kept.second] if copies == "second store" else list(kept.trees.values())
    victims = kept.objects(kind)
    for victim in victims:
        for what, changes in damages(kind, victim, victims):
            case = f"{victim.name} {what}"
            here = tmp_path / "here"
            place = copy_of(kept.store, here / "store")
            for path, damage in changes.items():
                harm(place / path.relative_to(kept.store), damage)
            try:
                named = bool(verify(open_store(str(place)), read_data=100).damages)
            except SapwoodError as error:
                assert kind == "identity", case
                named = True
                if isinstance(error, FormatError):  # the format of the future is nothing to heal
                    shutil.rmtree(here)
                    continue
            if not named:
                assert_reads_back(kept, place, here / "unnamed")
                shutil.rmtree(here)
                continue
            store, _ = open_damaged(str(place))
            left = repair(store, [open_source(str(source)) for source in sources]).left
            newer = [damage for damage in left if "format" in damage.found]
            assert left == tuple(newer), case
            if not newer:
                assert verify(open_store(str(place)), read_data=100).damages == (), case
                assert_reads_back(kept, place, here / "healed")
                assert repair(open_store(str(place))).healed == (), case
            shutil.rmtree(here)
