"""What may happen to a working directory: every edit, by name, and the few values from which its arguments come.

Promise: an edit is made by system calls on the tree alone, and one that makes no sense where it is tried leaves the
tree as far as it came; whoever draws edits (Hypothesis, a process beside a hash) needs to know none of them.
Not here: comparing what came out (`reapi_digest`, `facts`).
"""

from __future__ import annotations

import ctypes
import inspect
import mmap
import os
import random
import shutil
import socket
import stat
import time
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

# Few, so that edits meet; sorting by path and by (parent, name) differ; one is neither UTF-8 nor one line.
_NAMES = (b"a", b"b", b"a.b", b"\xff\n")
_PICKS = range(12)

VALUES: dict[str, Sequence[object]] = {
    # Of what is there when the edit is made, one by number.
    "file": _PICKS,
    "directory": _PICKS,
    "entry": _PICKS,
    "other": _PICKS,
    # A name in a directory by number: often there is something else.
    "place": tuple(product(_PICKS[:6], _NAMES)),
    "content": (b"", b"one", b"two", b"TWO", b"longer than that", bytes(100)),
    "size": (0, 1, 3, 4096, 100_000),
    "mode": (0o644, 0o755, 0o600, 0o654, 0o4711),
    "target": (b"a", b"b", b"../a", b"\xfe", b"x" * 70),
    "age_s": (-(10**6), -1, 0, 1, 10**9),
}
"""What each argument of an edit may be."""

_TYPES = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "entry": None, "other": None}
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_LIBC = ctypes.CDLL(None, use_errno=True)


def _write(place: bytes, content: bytes) -> None:
    # Neither through a symlink nor waiting for the reader of a FIFO.
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(handle, "wb") as written:
        written.write(content)


def _rewrite_and_hide(file: bytes, content: bytes) -> None:
    """The same size and the same modification time."""
    with open(file, "r+b") as written:
        before = os.fstat(written.fileno())
        written.write(_of_size(content, before.st_size))
        written.flush()
        os.utime(written.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))


def _append(file: bytes, content: bytes) -> None:
    with open(file, "ab") as written:
        written.write(content)


def _truncate(file: bytes, size: int) -> None:
    os.truncate(file, size)


def _write_mapped(file: bytes, content: bytes) -> None:
    with open(file, "r+b") as written, mmap.mmap(written.fileno(), 0) as mapped:
        content = content[: len(mapped)]
        mapped[: len(content)] = content


def _replace(place: bytes, content: bytes) -> None:
    """As editors save: a new file is renamed over the old one."""
    _write(_aside(place, b"new"), content)
    try:
        os.replace(_aside(place, b"new"), place)
    finally:
        _remove(_aside(place, b"new"))


def _replace_and_hide(file: bytes, content: bytes) -> None:
    """A new file of the old one's size, mode and modification time, probably of its inode number."""
    before = os.stat(file)
    os.unlink(file)
    _write(file, _of_size(content, before.st_size))
    os.chmod(file, stat.S_IMODE(before.st_mode))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _rename(entry: bytes, place: bytes) -> None:
    os.rename(entry, place)


def _exchange(entry: bytes, other: bytes) -> None:
    if _LIBC.renameat2(_AT_FDCWD, entry, _AT_FDCWD, other, _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


def _move_out(entry: bytes) -> None:
    """To a place outside the tree that keeps one thing."""
    _remove(_aside(entry, b"aside"))
    os.rename(entry, _aside(entry, b"aside"))


def _edit_outside(place: bytes, content: bytes) -> None:
    """Change files, in a directory that was moved out, which only their own times tell."""
    aside = _aside(place, b"aside")
    for name in os.listdir(aside):
        if stat.S_ISREG(_mode(os.path.join(aside, name))):
            _rewrite_and_hide(os.path.join(aside, name), content)


def _move_in(place: bytes) -> None:
    os.rename(_aside(place, b"aside"), place)


def _link(entry: bytes, place: bytes) -> None:
    os.link(entry, place, follow_symlinks=False)


def _symlink(place: bytes, target: bytes) -> None:
    """Also over what is no directory."""
    if not stat.S_ISDIR(_mode(place)):
        _remove(place)
    os.symlink(target, place)


def _mkdir(place: bytes) -> None:
    os.mkdir(place)


def _mkfifo(place: bytes) -> None:
    os.mkfifo(place)


def _listen(place: bytes) -> None:
    """Leave a socket, which no tree has."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)


def _remove(entry: bytes) -> None:
    if stat.S_ISDIR(_mode(entry)):
        shutil.rmtree(entry)
    elif _mode(entry):
        os.unlink(entry)


def _file_for_directory(directory: bytes, content: bytes) -> None:
    shutil.rmtree(directory)
    _write(directory, content)


def _directory_for_file(file: bytes, content: bytes) -> None:
    os.unlink(file)
    os.mkdir(file)
    _write(os.path.join(file, b"a"), content)


def _chmod(file: bytes, mode: int) -> None:
    os.chmod(file, mode)


def _chmod_directory(directory: bytes, mode: int) -> None:
    os.chmod(directory, mode | stat.S_IRWXU)


def _touch(entry: bytes, age_s: int) -> None:
    """Also the past and the future."""
    then = time.time_ns() - age_s * 10**9
    os.utime(entry, ns=(then, then), follow_symlinks=False)


def _attribute(file: bytes, content: bytes) -> None:
    os.setxattr(file, "user.sapwood", content)


def _of_size(content: bytes, size: int) -> bytes:
    return (content * (size // max(len(content), 1) + 1))[:size]


def _mode(path: bytes) -> int:
    """0 when there is nothing."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _aside(path: bytes, name: bytes) -> bytes:
    """A place beside the tree, on the same file system."""
    return path[: path.index(b"/root/") + 1] + name


_EDITS: dict[str, Callable[..., None]] = {
    edit.__name__.lstrip("_"): edit
    for edit in (
        _write,
        _rewrite_and_hide,
        _append,
        _truncate,
        _write_mapped,
        _replace,
        _replace_and_hide,
        _rename,
        _exchange,
        _move_out,
        _edit_outside,
        _move_in,
        _link,
        _symlink,
        _mkdir,
        _mkfifo,
        _listen,
        _remove,
        _file_for_directory,
        _directory_for_file,
        _chmod,
        _chmod_directory,
        _touch,
        _attribute,
    )
}

ARGUMENTS: dict[str, tuple[str, ...]] = {
    name: tuple(inspect.signature(edit).parameters) for name, edit in _EDITS.items()
}
"""What each edit needs, by its name: keys of `VALUES`."""

Edit = tuple[str, tuple[object, ...]]


def make(root: bytes, edit: Edit) -> bool:
    """Make an edit in the tree `root`, whose own name must be `root`; say whether it went to its end."""
    name, values = edit
    try:
        there = _entries(root)
        arguments = [_meant(there, kind, value) for kind, value in zip(ARGUMENTS[name], values, strict=True)]
        _EDITS[name](*arguments)
    except (OSError, LookupError, ValueError):  # it makes no sense here
        return False
    return True


def draw(dice: random.Random) -> Edit:
    """Return any edit."""
    name = dice.choice(tuple(_EDITS))
    return name, tuple(dice.choice(VALUES[kind]) for kind in ARGUMENTS[name])


def _entries(root: bytes) -> list[bytes]:
    """All paths, the root's first."""
    found = [root]
    for path in found:
        if stat.S_ISDIR(_mode(path)):
            found += sorted(os.path.join(path, name) for name in os.listdir(path))
    return found


def _meant(there: list[bytes], kind: str, value: Any) -> Any:
    """The argument that a value stands for in a tree of these paths."""
    if kind == "place":
        number, name = value
        folders = [path for path in there if stat.S_ISDIR(_mode(path))]
        return os.path.join(folders[number % len(folders)], name)
    if kind not in _TYPES:
        return value
    fitting = [path for path in there[1:] if _TYPES[kind] in (None, stat.S_IFMT(_mode(path)))]
    if not fitting:
        raise LookupError(kind)
    return fitting[value % len(fitting)]
