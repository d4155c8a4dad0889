"""Outputs: taken from where a builder made them into a store.

Invariant: only declared paths come out, and no way to them or link in them leads out of what was built; no time, owner
or odd mode of this machine comes along. Not here: results (`results`), the builder (`local`), using outputs (`kept`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from sapwood.build.action import ENVIRONMENT
from sapwood.build.derivation import Derivation
from sapwood.build.inputs import Node
from sapwood.build.results import Result, ref_of
from sapwood.build.sandbox import PLACE
from sapwood.errors import ConflictError, InvalidInputError
from sapwood.progress import OnProgress
from sapwood.push import Pushed, push
from sapwood.store.ref import Ref
from sapwood.store.store import Store
from sapwood.tree.index import Index

__all__ = ["collect", "store_outputs"]

_TIME_NS = int(ENVIRONMENT["SOURCE_DATE_EPOCH"]) * 10**9
_TRIES = 5
# As many links as the kernel follows for one name.
_HOPS = 40
# Of the path of a directory; what is in it has a name of 255 bytes, and no path has more than 4,095.
_LONGEST = 3800
_LITTLE = 1 << 20
"""What is less is sent without looking for what the store may have of it."""


def collect(one: Derivation, built: Path, place: Path) -> int:
    """Move what a builder has made below `built` to `place`, which is made; return the bytes of its files.

    Raises:
        InvalidInputError: `output-missing`; `output-leaves-tree`; `output-unusable`: a device, say.
    """
    place.mkdir()
    for path in one.outputs:
        *above, _ = path.split("/")
        way = built
        for name in above:
            way = way / name
            if not stat.S_ISDIR(_lstat(one, way, path).st_mode):
                raise _leaves(one, path, "what it lies in is no directory")
        _lstat(one, built / path, path)
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        os.rename(built / path, place / path)
    return _make_plain(one, os.fsencode(place))


def _lstat(one: Derivation, place: Path, path: str) -> os.stat_result:
    try:
        return place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInputError(
            f"derivation {one.name}: its command has not made {path}",
            kind="output-missing",
            hint=f"outputs are relative to {PLACE}, where the command runs",
        ) from None


def _make_plain(one: Derivation, root: bytes) -> int:
    """Give all below `root` plain modes and times, and refuse what cannot be stored; return the bytes of its files."""
    total, todo, folders, links = 0, [root], [], []
    times = (_TIME_NS, _TIME_NS)
    while todo:
        folder = todo.pop()
        if len(folder) > _LONGEST:
            raise InvalidInputError(
                f"derivation {one.name}: output {os.fsdecode(folder[len(root) + 1 :])[:100]}… is deeper than it can be"
                " stored",
                kind="output-unusable",
                hint="let the command remove it",
            )
        folders.append(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                kind, mode = stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode)
                plain = 0o755 if mode & 0o100 or kind == stat.S_IFDIR else 0o644
                if kind == stat.S_IFLNK:
                    links.append(entry.path[len(root) + 1 :])
                elif mode != plain and kind in (stat.S_IFREG, stat.S_IFDIR):
                    os.chmod(entry.path, plain)
                if kind == stat.S_IFDIR:
                    todo.append(entry.path)
                    continue
                if kind == stat.S_IFREG:
                    total += found.st_size
                elif kind != stat.S_IFLNK:
                    raise InvalidInputError(
                        f"derivation {one.name}: output {os.fsdecode(entry.path[len(root) + 1 :])} is no file,"
                        " directory or symlink",
                        kind="output-unusable",
                        hint="let the command remove it",
                    )
                os.utime(entry.path, ns=times, follow_symlinks=False)
    for folder in folders:
        os.utime(folder, ns=times)
    # When none is closed to us any more.
    for link in links:
        _check_link(one, root, link)
    return total


def _check_link(one: Derivation, root: bytes, path: bytes) -> None:
    """Refuse a link that leads out of what was built: it would lead elsewhere wherever it is used."""
    shown, target = os.fsdecode(path), os.readlink(os.path.join(root, path))
    if not _is_utf8(target):
        raise InvalidInputError(
            f"derivation {one.name}: output {shown} is a link to what is not UTF-8", kind="output-unusable"
        )
    way, is_outside = _follow(root, path)
    if is_outside:
        found = os.path.normpath(b"/" + b"/".join(way))
        if (found + b"/").startswith((os.fsencode(PLACE) + b"/", b"/tmp/", b"/proc/")):
            raise _leaves(one, shown, f"it is a link to {os.fsdecode(target)}, which is gone after the build")
        return
    # What it leads to must come along, too.
    inside = b"/".join(way)
    if not any(inside == output or inside.startswith(output + b"/") for output in map(os.fsencode, one.outputs)):
        raise _leaves(one, shown, f"it is a link to {os.fsdecode(target)}, which is no output")


def _follow(root: bytes, path: bytes) -> tuple[list[bytes], bool]:
    """Return where a link below `root` leads, as the kernel would go, links on the way and all: there, or outside.

    What is there no more is gone through as if they were directories. Of the machine no link is looked at.
    """
    *way, name = path.split(b"/")
    todo, is_outside, hops = [name], False, 0
    while todo:
        name = todo.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            if not way and not is_outside:
                return [b".."], False
            del way[-1:]
            continue
        way.append(name)
        if is_outside or hops == _HOPS:
            continue
        try:
            target = os.readlink(os.path.join(root, *way))
        except OSError:
            continue
        hops += 1
        if target.startswith(b"/"):
            way, is_outside = [], True
        else:
            del way[-1]
        todo += reversed(target.split(b"/"))
    return way, is_outside


def _is_utf8(target: bytes) -> bool:
    try:
        target.decode()
    except UnicodeDecodeError:
        return False
    return True


def _leaves(one: Derivation, path: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"derivation {one.name}: output {path} leads out of what was built: {why}",
        kind="output-leaves-tree",
        hint="let the command remove it",
    )


def store_outputs(
    one: Derivation,
    action: str,
    place: Path,
    store: Store,
    index: Path,
    seconds: float,
    log: bytes,
    size: int,
    *,
    anew: bool = False,
    progress: OnProgress | None = None,
) -> Result:
    """Push what `collect` took to `place`, `size` bytes, and return the result, which names it.

    With `anew` nothing is taken for stored because an earlier push to the same ref stored it: it may be gone.

    Raises:
        SapwoodError: as `sapwood.push.push`.
    """
    if anew and isinstance(state := store.ref_state(ref_of(one.name)), Ref):
        store.remove_ref(state)
    pushed = _push(store, place, ref_of(one.name), index, size, progress)
    told = Index(place, index)
    outputs: dict[str, Node] = {}
    result = Result(action, outputs, store.url, ref_of(one.name), pushed.snapshot, seconds, log)
    for path in one.outputs:
        entry = told.recorded(path.encode())
        assert entry is not None  # it was pushed just now
        outputs[path] = Node(
            entry.kind,
            entry.digest or "",
            entry.size,
            executable=entry.kind == "reg" and bool(entry.mode & 0o100),
            target=entry.target or b"",
            origin=result,
            path=path.encode(),
        )
    return result


def _push(store: Store, place: Path, ref: str, index: Path, size: int, progress: OnProgress | None) -> Pushed:
    thorough = size > _LITTLE
    for _ in range(_TRIES - 1):
        with contextlib.suppress(ConflictError):  # somebody else builds the same name
            return push(store, place, ref, index=index, thorough=thorough, progress=progress)
    return push(store, place, ref, index=index, thorough=thorough, progress=progress)
