"""Asking the watcher of a directory.

Promise: `ask` gives the watcher's answer or None, whatever state it is in; it never waits longer than 2 s without a
sign of life. The protocol: docs/watch.md, "The socket". Not here: the watcher (`sapwood.watch`).
What a watched `sapwood hash` waits for: import only what it needs (docs/decisions/0008-start-up.md).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Iterator
    from typing import Any

    from sapwood.tree.options import Options

__all__ = ["VERSION", "ask", "connect", "lines", "meaning", "peer", "short"]

VERSION = 1

_PATIENCE_S = 2.0
_PIECE = 1 << 16
# `socket` imports ten modules to wrap what `_socket` has; and that has no name for the peer's credentials.
_SOL_SOCKET, _SO_PEERCRED = 1, 17


def ask(
    path: str,
    what: str,
    root: str,
    index: str,
    options: Options,
    working: Callable[[int, int, int, int], None] | None,
) -> list[Any] | None:
    """Ask the watcher with the socket `path` for `what` of the directory `root` with its state at `index`; None: scan.

    `working` is called with files done, files in all, bytes done, bytes in all.
    """
    for line in _answer(path, what, root, index, options):
        if "working" not in line:
            answer: list[Any] | None = line.get(what)
            return answer
        if working is not None:
            working(*line["working"])
    return None


def _answer(path: str, what: str, root: str, index: str, options: Options) -> Iterator[dict[str, Any]]:
    """The lines of the answer, for as long as there is no trouble: whoever asks has another way."""
    import json

    try:
        seen = os.stat(root)
        tree = {
            "root": os.path.realpath(root),
            "index": os.path.abspath(index),
            "dev": seen.st_dev,
            "ino": seen.st_ino,
            "mounts": os.stat("/proc/self/ns/mnt").st_ino,
            "options": meaning(options),
        }
        connection = connect(path)
        try:
            skip = options.skip_unreadable
            request = {"version": VERSION, "do": what, "tree": tree, "skipUnreadable": skip}
            connection.sendall(json.dumps(request).encode() + b"\n")
            for line in lines(connection):
                yield json.loads(line)
        finally:
            connection.close()
    except (OSError, ValueError):
        return


def meaning(options: Options) -> str:
    """Return what the answer depends on besides the tree and the question."""
    return f"{options.key.hex()} {options.trust_ctime}"


def connect(path: str) -> socket:
    """Connect to a watcher of ours.

    Raises:
        OSError: it does not listen, or is another user's.
    """
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(_PATIENCE_S)
        folder, address = short(path)
        try:
            connection.connect(address)
        finally:
            os.close(folder)
        if peer(connection)[1] != os.geteuid():
            raise PermissionError("another user's")
    except BaseException:
        connection.close()
        raise
    return connection


def short(path: str) -> tuple[int, str]:
    """Return a descriptor and the path of a socket by way of it: the system takes at most 107 bytes."""
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return descriptor, f"/proc/self/fd/{descriptor}/{name}"


def peer(connection: socket) -> tuple[int, int]:
    """Return the process and the user at the other end."""
    credentials = connection.getsockopt(_SOL_SOCKET, _SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder), int.from_bytes(credentials[4:8], sys.byteorder)


def lines(connection: socket) -> Iterator[bytes]:
    """The lines that come, until the other end closes.

    Raises:
        OSError: nothing comes for as long as the connection's timeout.
    """
    rest = b""
    while piece := connection.recv(_PIECE):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
