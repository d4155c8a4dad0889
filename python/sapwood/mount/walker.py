"""The walker of a mount: lists directories, so that the kernel knows their names when a reader comes to them.

Invariant: it has the mount open only while it lists what it was told to, and ends with whoever started it, also when it
is stopped. A program by its path, as `holder` is. Which directories, and why by a process of its own: docs/mount.md,
"Names ahead of readers".
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket

__all__: list[str] = []

_MOST_BYTES = 1 << 20
# Of one answer of the kernel's. It asks us for as much: a thousand names.
_buffer = ctypes.create_string_buffer(256 << 10)
_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """List what comes over the socket that is stdin until it ends."""
    connection = socket.socket(fileno=0)
    # Who is stopped hears of no end of a socket.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    while True:
        directories, roots, _, _ = socket.recv_fds(connection, _MOST_BYTES, 1)
        if not roots:
            return
        for told in directories.split(b"\0"):
            length, _, path = told.partition(b" ")
            _list(roots[0], path, int(length))
        os.close(roots[0])
        with contextlib.suppress(OSError):  # nobody waits for it any more: that is heard next
            connection.send(b".")


def _list(root: int, path: bytes, length: int) -> None:
    """Read the names of a directory; `length` is what they take, so that nobody is asked whether there are more."""
    try:
        directory = os.open(path or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    except OSError:  # the mount has ended
        return
    while length > 0 and (got := _libc.getdents64(directory, _buffer, len(_buffer))) > 0:
        length -= got
    os.close(directory)


if __name__ == "__main__":
    main()
