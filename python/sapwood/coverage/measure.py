"""A tree and its profile, put beside each other: each file with how much of it was read.

Invariant: sums of an area are those of the files in it; of a file never more counts as read than it has.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import dataclass, field

from sapwood.address import open_address
from sapwood.coverage.packages import packages_of
from sapwood.errors import InvalidInputError, NotFoundError
from sapwood.image import Image, read_config
from sapwood.image.profiles import known_profile
from sapwood.open import tree_of
from sapwood.profile import Profile, find_profile
from sapwood.store.address import Address
from sapwood.store.naming import without_query
from sapwood.store.store import Store
from sapwood.tree.tree import Tree

__all__ = ["Area", "Coverage", "Layer", "Seen", "files_of", "layers_with", "measure", "packages_with"]


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
class Layer:
    """A layer of an image: what is seen of it, as a sum, and how many `bytes` it has that layers above hide.

    Files without bytes are of no layer. `made_by` is the command that made it, as the image says, or empty.
    """

    digest: str
    made_by: str
    seen: Area
    hidden: int


@dataclass(frozen=True)
class Coverage:
    """What `runs` runs read of a tree. `files` are in the order of the tree, `absent` names of the profile it lacks."""

    tree: str
    runs: int
    files: list[Seen]
    absent: int
    packages: list[Area] | None
    """By bytes never read, most first; the one without a name has what belongs to none. None where not asked for."""
    layers: list[Layer] | None = None
    """Of an image, the lowest first. None where not asked for."""

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


def measure(
    address: str, profile: Profile | None = None, *, by_package: bool = False, by_layer: bool = False
) -> Coverage:
    """Compare the tree of an address with `profile`, by default that of its store, or of an image what is known here.

    Raises:
        NotFoundError: `profile-missing`: nothing was recorded of it.
        InvalidInputError: `bad-usage`: `by_layer`, and it is no image.
        SapwoodError: as `open_address`, `load_map`, `find_profile` and `read_config`.
    """
    store, snapshot = open_address(address)
    if by_layer and not isinstance(store, Image):
        raise InvalidInputError(
            f"{without_query(address)}: no image, so it has no layers", kind="bad-usage", hint="--by directory"
        )
    if profile is None and isinstance(store, Store):
        profile = find_profile(store, Address.parse(address).ref, snapshot.tree)
    elif profile is None and isinstance(store, Image):
        profile = known_profile(store, snapshot.tree)
    if profile is None:
        raise NotFoundError(
            f"{address}: nobody has recorded what is read of it",
            kind="profile-missing",
            hint=f"sapwood trace {address} -- CMD",
        )
    tree = tree_of(store, snapshot, pages=True)
    files, absent = files_of(tree, profile)
    packages = packages_with(files, tree) if by_package else None
    layers = layers_with(files, tree, store) if by_layer and isinstance(store, Image) else None
    return Coverage(snapshot.tree, profile.runs, files, absent, packages, layers)


def files_of(tree: Tree, profile: Profile) -> tuple[list[Seen], int]:
    """Return the files of a tree, in its order, and how many of the profile it lacks."""
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


def layers_with(files: Iterable[Seen], tree: Tree, image: Image) -> list[Layer]:
    """Return the layers of an image with what is seen of each; errors as `read_config`."""
    packs = {
        path: item.entry.chunks[0][0].pack
        for path, item in tree.list()
        if not isinstance(item, Tree) and item.kind == "reg" and item.size
    }
    areas: dict[str, Area] = {pack: Area(b"") for _, pack in image.layers}
    for seen in files:
        if (area := areas.get(packs.get(seen.path, ""))) is not None:
            area.add(seen)
    layers = []
    made_by = _made_by(image)
    for number, (digest, pack) in enumerate(image.layers):
        # Of two layers that are the same the first stands for both.
        area = areas.pop(pack, Area(b""))
        made = made_by[number] if number < len(made_by) else ""
        layers.append(Layer(digest, made, area, image.layer_bytes[number] - area.bytes))
    return layers


def _made_by(image: Image) -> list[str]:
    """Return for each layer the command that made it, as far as the image's configuration says."""
    _, config = read_config(image.name)
    history = config.get("history")
    steps = history if isinstance(history, list) else []
    made = [step for step in steps if isinstance(step, dict) and not step.get("empty_layer")]
    if len(made) != len(image.layers):
        return []
    return [" ".join(str(step.get("created_by", "")).split()) for step in made]


def packages_with(files: Iterable[Seen], tree: Tree) -> list[Area]:
    """Return the packages of a tree that files belong to, that with most bytes never read first."""
    owner = packages_of(tree)
    areas: dict[str | None, Area] = {}
    for seen in files:
        name = owner(seen.path)
        areas.setdefault(name, Area((name or "").encode("utf-8", "surrogateescape"))).add(seen)
    return sorted(areas.values(), key=lambda area: (-area.bytes_never, area.name))
