"""Slim images: of another one what was read of it, and what people keep, as one layer that is entered anywhere.

Promise: what takes no room stays, for nobody records who looks it up: directories, links, devices, empty files; so do
all names of a file that stays, and what was only looked up, as programs ask whether a file is there, and since when.
What the image says is to be run is said unchanged. The same image, profile and patterns give the same image.
Not here: what was read (`coverage`), documents' way to a registry (`image.upload`).
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from sapwood.archive import write
from sapwood.archive.write import Choices, Written
from sapwood.context.ignore import Rules
from sapwood.coverage import Area, Layer, Seen, files_of, layers_with, packages_with
from sapwood.errors import InvalidInputError, NotFoundError, SapwoodError
from sapwood.image import Image, ImageName, open_image, read_config
from sapwood.image.manifest import Described
from sapwood.image.profiles import carry_profile, known_profile
from sapwood.image.rewriting import CONFIG, LAYER, MANIFEST
from sapwood.image.sending import send_archive
from sapwood.image.upload import open_write_place, require_unpinned
from sapwood.oci.program import Program, program_of
from sapwood.open import tree_of
from sapwood.profile import Profile
from sapwood.progress import OnProgress
from sapwood.store.archive import ArchiveTree
from sapwood.tarstream import write_stream
from sapwood.tree.tree import Tree

__all__ = ["Plan", "Slimmed", "plan", "require_other_name", "require_place", "slim"]

# Who starts a container reads them, not who runs in it.
_OF_THE_STARTER = (b"etc/passwd", b"etc/group")
_MOST_HOPS = 40
_TAG = "latest"


@dataclass(frozen=True)
class Plan:
    """What a slim image would have, and what not. Sizes in bytes."""

    image: Image
    opened: ArchiveTree
    runs: int
    files: list[Seen]
    """Of the image, in its order; those that stay count as read."""
    left_out: list[bytes]
    absent: int
    """Files of the profile that the image lacks."""
    unmatched: list[str]
    """Patterns that match nothing."""
    is_runnable: bool
    """What the image says is to be run was read, or says nothing."""
    packages: list[Area]
    layers: list[Layer]
    first: list[bytes]
    """What was read, in the order of reading."""

    @property
    def size(self) -> int:
        """Of the layers as they lie."""
        return sum(blob.size for blob in self.image.found.manifest.layers)

    def whole(self) -> Area:
        """Return the image as a sum."""
        area = Area(b"")
        for seen in self.files:
            area.add(seen)
        return area


@dataclass(frozen=True)
class Slimmed:
    """A slim image that was written; `name` is pinned. Sizes in bytes."""

    name: ImageName
    layer: Described
    tar_size: int
    without_profile: str
    """Why a profile that may lie beside the image does not lie beside this one; else empty."""
    requests: dict[str, int]
    seconds: float


def plan(
    source: ImageName, profile: Profile | None = None, keep: Sequence[str] = (), *, cache_dir: Path | None = None
) -> Plan:
    """Say what of an image `profile`, by default all that is known, and the patterns `keep` leave.

    Patterns are those of a `.dockerignore`: a directory stays with all that is in it.

    Raises:
        NotFoundError: `profile-missing`: nothing was recorded of it.
        InvalidInputError: `profile-foreign`: what was recorded is of another image; `bad-dockerignore`.
        SapwoodError: as `open_image`.
    """
    rules = Rules.parse("\n".join(keep), "--keep")
    image, opened = open_image(source, cache_dir=cache_dir)
    profile = profile or known_profile(image, opened.tree, cache_dir)
    if profile is None or not profile.parts:
        raise NotFoundError(
            f"{source}: nobody has recorded what is read of it, so nobody knows what can be left out",
            kind="profile-missing",
            hint=f"sapwood trace {source} -- CMD",
        )
    tree = tree_of(image, opened, pages=True)
    files, absent = files_of(tree, profile)
    names = len({part.path for part in profile.parts})
    if absent * 2 > names:
        raise InvalidInputError(
            f"{source}: of {names} files that were read it lacks {absent}: the profile is another image's",
            kind="profile-foreign",
            hint=f"sapwood trace {source} -- CMD",
        )
    kept, unmatched = _kept(tree, files, rules, profile.looked_up)
    seen = [Seen(one.path, one.size, one.read, max(one.runs, 1) if one.path in kept else 0) for one in files]
    _, config = read_config(image.name, cache_dir=cache_dir)
    return Plan(
        image=image,
        opened=opened,
        runs=profile.runs,
        files=seen,
        left_out=[one.path for one in seen if not one.runs],
        absent=absent,
        unmatched=unmatched,
        is_runnable=_is_runnable(config, tree, kept, str(source)),
        packages=packages_with(seen, tree),
        layers=layers_with(seen, tree, image),
        first=[path for path in profile.paths() if path in kept],
    )


def _kept(tree: Tree, files: list[Seen], rules: Rules, looked_up: frozenset[bytes]) -> tuple[set[bytes], list[str]]:
    """Return the files that stay, and the patterns by which none does."""
    matching = _Matching(rules)
    # Each by its first name; of that the content is.
    first = {one.path: one.path for one in files}
    sizes = {one.path: one.size for one in files}
    for path, item in tree.list():
        if not isinstance(item, Tree) and item.kind == "hardlink" and item.target:
            first[path] = item.target
    asked_for = looked_up.union(_OF_THE_STARTER)
    wanted = {
        first[one.path]
        for one in files
        if matching.keeps(one.path) or one.runs or one.path in asked_for or not sizes.get(first[one.path])
    }
    return {path for path, name in first.items() if name in wanted}, matching.unmatched()


class _Matching:
    """Patterns, and by which of them anything was kept."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._folders: dict[str, tuple[bool, ...]] = {"": (False,) * len(rules.rules)}
        self._used = [False] * len(rules.rules)

    def keeps(self, path: bytes) -> bool:
        if not self._rules.rules:
            return False
        text = path.decode("utf-8", "surrogateescape")
        matched = self._rules.matched(text, self._folder(text.rpartition("/")[0]))
        self._used = [was or now for was, now in zip(self._used, matched, strict=True)]
        return self._rules.decided(matched)

    def _folder(self, path: str) -> tuple[bool, ...]:
        if path not in self._folders:
            self._folders[path] = self._rules.matched(path, self._folder(path.rpartition("/")[0]))
        return self._folders[path]

    def unmatched(self) -> list[str]:
        return [rule.pattern for rule, used in zip(self._rules.rules, self._used, strict=True) if not used]


def _is_runnable(config: dict[str, Any], tree: Tree, kept: set[bytes], where: str) -> bool:
    """Say whether the program that the image itself says stays."""
    try:
        program = program_of(config, [], where)
    except InvalidInputError:
        return True  # it says nothing, or nothing that can be run
    found = next((path for name in _candidates(program) if (path := _resolved(tree, name)) is not None), None)
    return found in kept


def _candidates(program: Program) -> Iterator[bytes]:
    name = os.fsencode(program.command[0])
    if b"/" in name:
        yield os.path.join(os.fsencode(program.directory), name)
        return
    for folder in os.fsencode(program.environment["PATH"]).split(b":"):
        yield folder + b"/" + name


def _resolved(tree: Tree, path: bytes) -> bytes | None:
    """Return where a path leads, links followed within the image; None if there is no file."""
    todo = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
    at, hops = b"", 0
    while todo:
        part = todo.pop()
        if part == b"..":
            at = at.rpartition(b"/")[0]
            continue
        here = at + b"/" + part if at else part
        item = tree.find(here)
        if item is None:
            return None
        if not isinstance(item, Tree) and item.kind == "symlink":
            hops += 1
            if hops > _MOST_HOPS or not item.target:
                return None
            at = b"" if item.target.startswith(b"/") else at
            todo += [part for part in reversed(item.target.split(b"/")) if part not in (b"", b".")]
            continue
        at = here
    found = tree.find(at)
    return at if found is not None and not isinstance(found, Tree) else None


def require_other_name(source: ImageName, destination: ImageName) -> None:
    """Refuse to take an image its name away, but from who pins it.

    Raises:
        InvalidInputError: `bad-usage`.
    """
    where, other = ((one.transport, one.place, one.repository, one.tag or _TAG) for one in (source, destination))
    if where == other and not source.digest:
        raise InvalidInputError(
            f"{destination}: that is the image itself, which would lose its name to the slim one",
            kind="bad-usage",
            hint=f"sapwood slim {source} {replace(destination, tag=f'{where[-1]}-slim')}",
        )


def require_place(destination: ImageName) -> None:
    """Refuse what cannot be written to, before anything is made for it.

    Raises:
        InvalidInputError: `bad-address`: it is pinned, or for a platform; `not-supported`: no registry, no layout.
        DeniedError, UnavailableError: it may not, or cannot, be written.
    """
    require_unpinned(destination)
    with open_write_place(destination).upload():
        pass


def slim(planned: Plan, destination: ImageName, *, progress: OnProgress | None = None) -> Slimmed:
    """Write the image of a plan.

    Raises:
        CorruptError, NotFoundError: something of the image is damaged or missing.
        InvalidInputError: `image-refused`; as `require_place`.
        UnavailableError, DeniedError: a registry, or the disk.
    """
    started = time.monotonic()
    require_place(destination)
    place = open_write_place(destination)
    folder = tempfile.gettempdir()
    with write.spool(folder) as tar:
        write_stream(planned.image, planned.opened, tar, leaves_out=set(planned.left_out), progress=progress)
        tar.flush()
        make = partial(_convert, tar, planned, folder)
        blob, written = send_archive(place, make)
    _, said = read_config(planned.image.name)
    config = place.put(_encode(_config(said, planned, written)))
    layer = {"mediaType": LAYER["gzip"], "digest": blob.digest, "size": blob.size, "annotations": written.annotations}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size},
        "layers": [layer],
    }
    described, _ = place.put_document(_encode(manifest), MANIFEST, tag=destination.tag or _TAG, is_root=True)
    found = planned.image.found
    without_profile = ""
    if (source := found.artifacts()) is not None:
        try:
            carry_profile(source, found.described.digest, place, described)
        except SapwoodError as error:
            without_profile = str(error)
    return Slimmed(
        name=destination.pinned(described.digest),
        layer=blob,
        tar_size=written.tar_size,
        without_profile=without_profile,
        requests=place.requests.so_far(),
        seconds=time.monotonic() - started,
    )


def _convert(tar: IO[bytes], planned: Plan, folder: str, output: int) -> Written:
    tar.seek(0)
    choices = Choices(prioritize=planned.first)
    return write.convert(tar, planned.image.url, output, "the layer", choices, temporary=folder)


def _config(said: dict[str, Any], planned: Plan, written: Written) -> dict[str, Any]:
    """Return the configuration with one layer; what was done before is told as steps that left none."""
    steps = said.get("history")
    before = (
        [step | {"empty_layer": True} for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    )
    step = {"created_by": f"sapwood slim {planned.image.name}", "comment": f"what {planned.runs} runs read of it"}
    return said | {"rootfs": {"type": "layers", "diff_ids": [written.tar]}, "history": [*before, step]}


def _encode(said: dict[str, Any]) -> bytes:
    return json.dumps(said, separators=(",", ":")).encode()
