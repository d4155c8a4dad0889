"""Trees that are hard to keep, and a comparison of directories that forgives nothing.

Promise: `differences` of two directories is empty only if no system call that reads them could tell them apart, but for
inode numbers, access and change times. Paths are walked by descriptor, so none is too long.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

MIB = 1 << 20
LARGE = 2 * MIB
"""A blob of this size or more is cut into chunks."""

TIMES = {
    "now-ish": 1_709_208_000_123_456_789,
    "epoch": 0,
    "before-1970": -1,
    "long-before-1970": -(2**31) * 1_000_000_000 + 500_000_000,
    "far-future": 13_569_465_600_000_000_001,
}
"""Modification times in nanoseconds; ext4 keeps none outside 1901 to 2446."""

NAMES = (
    b"latin-\xe9",
    b"\xff\xfe",
    b"\xed\xb2\x80 a surrogate",
    b"new\nline",
    b"\x01\x1b[31m",
    b'"quoted" and \\ back',
    " \u20ac \U0001f333".encode(),
    b"-rf",
    b"...",
    b" ",
    b"n" * 255,
    b"\xe9" * 255,
)


def noise(size: int, seed: int = 0) -> bytes:
    """Return bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def write_sparse(path: Path, size: int, data: dict[int, bytes]) -> None:
    """Write a file of `size` bytes with `data` by offset and holes between."""
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, piece in data.items():
            file.seek(offset)
            file.write(piece)


def make_contents(root: Path) -> None:
    """Files about every size at which they are stored another way, and contents that are there twice."""
    root.mkdir()
    sizes = (0, 1, 511, 512, 513, 256 * 1024, LARGE - 1, LARGE, LARGE + 1, 9 * MIB + 12345)
    for size in sizes:
        (root / f"noise-{size}").write_bytes(noise(size, size))
    (root / "zeros-3MiB").write_bytes(bytes(3 * MIB))
    (root / "text").write_text("all work and no play\n" * 1000)
    (root / "twice-small").write_bytes(noise(513, 513))
    (root / "twice-large").write_bytes(noise(9 * MIB + 12345, 9 * MIB + 12345))
    many = root / "many"
    many.mkdir()
    for number in range(700):
        (many / f"file-{number:04}").write_text(f"content {number}\n" * (number % 7))


def make_sparse(root: Path) -> None:
    """Holes at the beginning, in the middle, at the end, everywhere; below and above the size of a chunk."""
    root.mkdir()
    block = noise(64 * 1024, 1)
    for name, size in (("small", 1 * MIB), ("large", 5 * MIB)):
        write_sparse(root / f"{name}-start", size, {size - len(block): block})
        write_sparse(root / f"{name}-middle", size, {0: block, size - len(block): block})
        write_sparse(root / f"{name}-end", size, {0: block})
        write_sparse(root / f"{name}-all", size, {})
        write_sparse(root / f"{name}-many", size, dict.fromkeys(range(0, size, 128 * 1024), block[:4096]))
        write_sparse(root / f"{name}-odd-end", size + 123, {0: block, size: b"odd"})


def make_names(root: Path) -> None:
    """Names that no terminal likes, and nesting."""
    root.mkdir()
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"named " + name)
    below = root / "deep"
    for level in range(80):
        below = below / f"level-{level}"
    below.mkdir(parents=True)
    (below / "leaf").write_text("deep")
    odd = Path(os.fsdecode(os.fsencode(root) + b"/dir-\xff"))
    odd.mkdir()
    os.symlink(b"\xfe\xff", os.fsencode(odd) + b"/link")


def make_links(root: Path) -> None:
    """Symbolic links to anything and nothing, hard links within and across directories, to links and FIFOs too."""
    (root / "a").mkdir(parents=True)
    (root / "z").mkdir()
    for name, target in (
        ("dangling", "nothing/here"),
        ("absolute", "/etc/hostname"),
        ("up", "../.."),
        ("self", "self"),
    ):
        (root / name).symlink_to(target)
    (root / "long").symlink_to("x" * 4000)
    (root / "a" / "one").write_text("several names")
    (root / "a" / "two").hardlink_to(root / "a" / "one")
    (root / "z" / "three").hardlink_to(root / "a" / "one")
    (root / "0-first").hardlink_to(root / "a" / "one")
    (root / "a" / "large").write_bytes(noise(LARGE + 100, 7))
    (root / "z" / "large").hardlink_to(root / "a" / "large")
    (root / "empty-1").touch()
    (root / "empty-2").hardlink_to(root / "empty-1")
    os.link(root / "dangling", root / "z" / "dangling", follow_symlinks=False)
    os.mkfifo(root / "fifo")
    (root / "z" / "fifo").hardlink_to(root / "fifo")


def make_modes(root: Path) -> None:
    """Every kind of permission, also such as forbid what is needed to restore them."""
    root.mkdir()
    # Of a file without permissions an ordinary user gets nothing.
    for mode in (
        0o000 if os.geteuid() == 0 else 0o600,
        0o400,
        0o444,
        0o644,
        0o711,
        0o755,
        0o777,
        0o4755,
        0o2755,
        0o1644,
        0o7777,
    ):
        file = root / f"file-{mode:04o}"
        file.write_text(f"{mode:o}")
        file.chmod(mode)
    for mode in (0o500, 0o555, 0o700, 0o1777, 0o2775):
        folder = root / f"dir-{mode:04o}"
        folder.mkdir()
        (folder / "inside").write_text("inside")
        folder.chmod(mode)
    (root / "empty").mkdir()


def make_times(root: Path) -> None:
    """Files, directories and links of many ages."""
    root.mkdir()
    for name, ns in TIMES.items():
        (root / name).write_text(name)
        (root / f"{name}-dir").mkdir()
        (root / f"{name}-link").symlink_to("somewhere")
        for path in (root / name, root / f"{name}-dir", root / f"{name}-link"):
            os.utime(path, ns=(ns, ns), follow_symlinks=False)


def make_xattrs(root: Path) -> None:
    """Extended attributes of an ordinary user."""
    root.mkdir()
    (root / "file").write_text("attributed")
    (root / "folder").mkdir()
    (root / "read-only").write_text("attributed")
    for path in (root, root / "file", root / "folder", root / "read-only"):
        os.setxattr(path, "user.empty", b"")
        os.setxattr(path, b"user.\xff\n", b"\0\xff" * 100)
        os.setxattr(path, "user.text", b"value")
    (root / "read-only").chmod(0o444)


def make_privileged(root: Path) -> None:
    """What only root can make: owners, devices, attributes of the system."""
    root.mkdir()
    owned = root / "owned"
    owned.write_text("of somebody else")
    os.chown(owned, 4_000_000_000, 12345)
    owned.chmod(0o6755)
    folder = root / "folder"
    folder.mkdir()
    os.chown(folder, 1000, 1001)
    link = root / "link"
    link.symlink_to("owned")
    os.chown(link, 1002, 1003, follow_symlinks=False)
    os.setxattr(link, "trusted.of-a-link", b"1", follow_symlinks=False)
    capable = root / "capable"
    capable.write_text("#!/bin/true")
    os.chown(capable, 1000, 1000)
    # CAP_NET_BIND_SERVICE, permitted and effective: struct vfs_cap_data of version 2.
    os.setxattr(capable, "security.capability", struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0))
    os.setxattr(folder, "trusted.secret", b"\0")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    (root / "disk-too").hardlink_to(root / "disk")
    os.chown(root / "null", 7, 8)


MAKERS: dict[str, Callable[[Path], None]] = {
    "contents": make_contents,
    "sparse": make_sparse,
    "names": make_names,
    "links": make_links,
    "modes": make_modes,
    "times": make_times,
    "xattrs": make_xattrs,
}
"""What an ordinary user can make."""


def make_hard(root: Path) -> Path:
    """Make a tree of all of them; as root with what only root can make."""
    root.mkdir()
    for name, make in MAKERS.items():
        make(root / name)
    if os.geteuid() == 0:
        make_privileged(root / "privileged")
    root.chmod(0o1751)
    os.utime(root, ns=(1, 1))
    return root


@dataclass(frozen=True)
class Facts:
    """What there is to know of one path."""

    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    size: int
    content: str
    """Digest of a file, target of a link."""
    device: int
    names: tuple[bytes, ...]
    """All paths of its inode, if it has several."""
    xattrs: tuple[tuple[bytes, bytes], ...]
    holes: tuple[tuple[int, int], ...]


def look(root: Path | str) -> dict[bytes, Facts]:
    """Return the facts of everything in a directory by path; its own are at `b"."`."""
    inodes: dict[tuple[int, int], list[bytes]] = {}
    found: dict[bytes, tuple[tuple[int, int], Facts]] = {}
    for path, inode, facts in _walk(root):
        found[path] = inode, facts
        inodes.setdefault(inode, []).append(path)
    out = {}
    for path, (inode, facts) in found.items():
        names = sorted(inodes[inode])
        out[path] = Facts(**{**_fields(facts), "names": tuple(names) if len(names) > 1 else ()})
    return out


def differences(a: Path | str, b: Path | str, *, but: frozenset[str] = frozenset()) -> list[str]:
    """Return a line for each thing that differs; facts named in `but` are not compared."""
    mine, theirs = look(a), look(b)
    lines = [f"only in {a}: {path!r}" for path in sorted(mine.keys() - theirs.keys())]
    lines += [f"only in {b}: {path!r}" for path in sorted(theirs.keys() - mine.keys())]
    for path in sorted(mine.keys() & theirs.keys()):
        old, new = _fields(mine[path]), _fields(theirs[path])
        lines += [
            f"{path!r}: {name}: {old[name]!r} != {new[name]!r}"
            for name in old
            if old[name] != new[name] and name not in but
        ]
    return lines


def _fields(facts: Facts) -> dict[str, object]:
    return {field.name: getattr(facts, field.name) for field in fields(facts)}


def _walk(root: Path | str) -> Iterator[tuple[bytes, tuple[int, int], Facts]]:
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield _facts(top, b".", b".")
    # A path with its open directory; each is closed when its entries have been seen.
    todo = [(b"", top)]
    while todo:
        folder, handle = todo.pop()
        try:
            for name in sorted(os.fsencode(entry) for entry in os.listdir(handle)):
                path = folder + b"/" + name if folder else name
                yield _facts(handle, name, path)
                if stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
                    todo.append((path, os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)))
        finally:
            os.close(handle)


def _facts(handle: int, name: bytes, path: bytes) -> tuple[bytes, tuple[int, int], Facts]:
    seen = os.stat(name, dir_fd=handle, follow_symlinks=False)
    mode, content, holes = seen.st_mode, "", ()
    if stat.S_ISREG(mode):
        content, holes = _content(handle, name, seen)
    elif stat.S_ISLNK(mode):
        content = repr(os.readlink(name, dir_fd=handle))
    here = f"/proc/self/fd/{handle}/".encode() + name
    attributes = sorted(os.fsencode(key) for key in os.listxattr(here, follow_symlinks=False))
    facts = Facts(
        mode=mode,
        owner=(seen.st_uid, seen.st_gid),
        mtime_ns=seen.st_mtime_ns,
        size=0 if stat.S_ISDIR(mode) else seen.st_size,
        content=content,
        device=seen.st_rdev,
        names=(),
        xattrs=tuple((key, os.getxattr(here, key, follow_symlinks=False)) for key in attributes),
        holes=holes,
    )
    return path, (seen.st_dev, seen.st_ino), facts


def _content(handle: int, name: bytes, seen: os.stat_result) -> tuple[str, tuple[tuple[int, int], ...]]:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=handle)
    try:
        holes = tuple(_holes(file, seen.st_size)) if seen.st_blocks * 512 < seen.st_size else ()
        os.lseek(file, 0, os.SEEK_SET)
        digest = hashlib.sha256()
        while piece := os.read(file, MIB):
            digest.update(piece)
        return digest.hexdigest(), holes
    finally:
        os.close(file)


def _holes(file: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size and (hole := os.lseek(file, at, os.SEEK_HOLE)) < size:
        try:
            at = os.lseek(file, hole, os.SEEK_DATA)
        except OSError:  # ENXIO: no data follows
            at = size
        yield hole, at - hole
