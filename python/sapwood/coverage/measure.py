"""A tree and its profile, put beside each other: each file with how much of it was read.

Invariant: sums of an area are those of the files in it; of a file never more counts as read than it has.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sapwood.coverage.packages import packages_of
from sapwood.errors import NotFoundError
from sapwood.open import tree_of
from sapwood.profile import Profile, find_profile
from sapwood.store.address import Address, open_address
from sapwood.store.store import Store
from sapwood.tree.tree import Tree

__all__ = ["Area", "Coverage", "Seen", "measure"]


@dataclass(frozen=True)
class Seen:
    """A file: its size, how many of its bytes were asked for, in how many runs any were. A hard link has no bytes."""

    path: bytes
    size: int
    read: int
    runs: int


@dataclass
class Area:
    """A directory with all below it, or a package: files, and how many of them were ever read; sizes in bytes."""

    name: builtins.bytes
    files: int = 0
    files_read: int = 0
    bytes: int = 0
    bytes_read: int = 0
    bytes_never: int = 0
    """Of files no byte of which was read."""
    areas: dict[builtins.bytes, Area] = field(default_factory=dict)
    """What is in it, by name: directories and files."""

    def add(self, seen: Seen) -> None:
        """Count a file."""
        self.files += 1
        self.files_read += seen.runs > 0
        self.bytes += seen.size
        self.bytes_read += seen.read
        self.bytes_never += 0 if seen.runs else seen.size


@dataclass(frozen=True)
class Coverage:
    """What `runs` runs read of a tree. `files` are in the order of the tree, `absent` names of the profile it lacks."""

    tree: str
    runs: int
    files: list[Seen]
    absent: int
    packages: list[Area] | None
    """By bytes never read, most first; the one without a name has what belongs to none. None where not asked for."""

    def root(self) -> Area:
        """Return the tree as nested areas."""
        root = Area(b"")
        for seen in self.files:
            area = root
            area.add(seen)
            for part in seen.path.split(b"/"):
                area = area.areas.setdefault(part, Area(part))
                area.add(seen)
        return root

    def never_read(self) -> list[bytes]:
        """Return the files that a slimmer tree would leave out."""
        return [seen.path for seen in self.files if not seen.runs]


def measure(address: str, profile: Profile | None = None, *, by_package: bool = False) -> Coverage:
    """Compare the tree of an address with `profile`, by default that of its store.

    Raises:
        NotFoundError: `profile-missing`: nothing was recorded of it.
        SapwoodError: as `open_address`, `load_map` and `find_profile`.
    """
    store, snapshot = open_address(address)
    if profile is None and isinstance(store, Store):
        profile = find_profile(store, Address.parse(address).ref, snapshot.tree)
    if profile is None:
        raise NotFoundError(
            f"{address}: nobody has recorded what is read of it",
            kind="profile-missing",
            hint=f"sapwood trace {address} -- CMD",
        )
    tree = tree_of(store, snapshot, pages=True)
    files, absent = _files(tree, profile)
    packages = _by_package(files, packages_of(tree)) if by_package else None
    return Coverage(snapshot.tree, profile.runs, files, absent, packages)


def _files(tree: Tree, profile: Profile) -> tuple[list[Seen], int]:
    read: dict[bytes, tuple[int, int]] = {}
    for part in profile.parts:
        count, runs = read.get(part.path, (0, 0))
        read[part.path] = (count + part.bytes, max(runs, part.runs))
    files, found = list[Seen](), set[bytes]()
    for path, item in tree.list():
        if item.kind == "reg":
            count, runs = read.get(path, (0, 0))
            files.append(Seen(path, item.size, min(count, item.size), runs))
            found.add(path)
        elif item.kind == "hardlink":
            assert not isinstance(item, Tree)
            files.append(Seen(path, 0, 0, read.get(item.target or b"", (0, 0))[1]))
    return files, len(read.keys() - found)


def _by_package(files: Iterable[Seen], owner: Callable[[bytes], str | None]) -> list[Area]:
    areas: dict[str | None, Area] = {}
    for seen in files:
        name = owner(seen.path)
        areas.setdefault(name, Area((name or "").encode("utf-8", "surrogateescape"))).add(seen)
    return sorted(areas.values(), key=lambda area: (-area.bytes_never, area.name))
