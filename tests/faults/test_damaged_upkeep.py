"""Damage to what collections leave, redirects, records and leases: it is named or harms nobody, and nothing is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store
from sapwood.errors import CorruptError, FormatError, NotFoundError, SapwoodError
from sapwood.open import OpenStore
from sapwood.store.keys import lease_keys
from sapwood.upkeep.forget import forget
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from sapwood.upkeep.verify import verify
from tests.support.collecting import age
from tests.support.requests import Scene
from tests.support.trees import differences, noise

Change = Callable[[bytes], bytes | None]


class Moved:
    """A store whose ref names a tree of which most lies where two collections have moved it, and records of both."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.tree = home / "tree"
        self.tree.mkdir(parents=True)
        store = OpenStore.open(str(home / "store"), create=True, cache_dir=home / "cache")
        for round_, names in enumerate((("a", "b", "c", "d"), ("e", "f", "g", "h"))):
            for number, name in enumerate(names):
                (self.tree / name).write_bytes(noise(300_000 + number, 10 * round_ + number))
            store.push(self.tree, "main")
            for name in names[1:]:
                (self.tree / name).unlink()
            (self.tree / "edited").write_text(f"round {round_}")
            store.push(self.tree, "main")
            forget(store, Rules(last=1))
            age(home / "store")
            assert collect(store).moved == 1
        age(home / "store")
        assert collect(store).deleted > 0
        for key in lease_keys("0123456789abcdef"):
            store._collecting().put(key, b"")
        self.scene = Scene(home)

    def store(self) -> OpenStore:
        return open_store(str(self.home / "store"), cache_dir=self.home / "cache")

    def place(self, key: str) -> Path:
        return self.home / "store" / key

    def objects(self, pattern: str) -> list[str]:
        return sorted(path.relative_to(self.place("")).as_posix() for path in self.place("").glob(pattern))

    def collect(self) -> Any:
        """Collect; return what was done, or the error that the damage is. Nothing is under way any more then."""
        try:
            return collect(self.store())
        except (CorruptError, NotFoundError, FormatError) as error:
            self.scene.settle()
            return error

    def pull(self) -> SapwoodError | None:
        """Read everything: right, or an error."""
        shutil.rmtree(self.home / "pulled", ignore_errors=True)
        try:
            self.store().pull("main", self.home / "pulled")
        except (CorruptError, NotFoundError, FormatError) as error:
            return error
        assert differences(self.tree, self.home / "pulled") == []
        return None


@pytest.fixture
def moved(tmp_path: Path) -> Moved:
    return Moved(tmp_path / "home")


def damages(size: int) -> Iterator[Change]:
    """Bits flipped here and there; cut, short, empty, gone."""

    def flipped(at: int) -> Change:
        return lambda data: data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]

    yield from map(flipped, range(0, size, max(1, size // 16)))
    yield lambda data: data[: len(data) // 2]
    yield lambda data: data[:-1]
    yield lambda data: b""
    yield lambda data: None


def replaced_by(other: bytes) -> Change:
    return lambda _: other


def harm(path: Path, change: Change) -> None:
    data = change(path.read_bytes())
    seen = path.stat()
    path.unlink()
    if data is not None:
        path.write_bytes(data)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


@pytest.mark.parametrize("pattern", ["packs/*.moved", "gc/*", "leases/*"])
def test_damage_of_what_collections_leave_is_named_or_harms_nobody(moved: Moved, pattern: str) -> None:
    """Least of all what lives: whatever collections go by, when it is whole again everything is there."""
    keys = moved.objects(pattern)
    contents = {key: moved.place(key).read_bytes() for key in keys}
    cases = [(key, change) for key in keys for change in damages(len(contents[key]))]
    cases += [(key, replaced_by(contents[other])) for key in keys for other in keys if key != other]
    for key, change in cases:
        moved.scene.again()
        harm(moved.place(key), change)
        error = moved.pull()
        damaged = {damage.key for damage in verify(moved.store(), read_data=100).damages}
        if pattern.startswith("packs"):
            assert bool(damaged) == (error is not None)
            assert not damaged or any(damage.startswith(key.removesuffix(".moved")) for damage in damaged)
        else:
            assert error is None
            assert damaged <= {key}
        for _ in range(3):
            ended = moved.collect()
            assert not damaged or isinstance(ended, SapwoodError)
            age(moved.home / "store")
        moved.place(key).parent.mkdir(exist_ok=True)
        moved.place(key).unlink(missing_ok=True)
        moved.place(key).write_bytes(contents[key])
        assert moved.pull() is None
