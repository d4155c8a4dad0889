"""Mounts that nobody else sees, and that end with who made them; of who is not root in a namespace of users, too.

Invariant: whatever kills the worker, when the last process of it is gone nothing of it is mounted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path

from sapwood.errors import SapwoodError, UnavailableError

__all__ = ["mount_alone"]

_NEWNS = 0x00020000
_NEWUSER = 0x10000000
_REC, _PRIVATE = 1 << 14, 1 << 18


def mount_alone() -> None:
    """Let this process, and those that it starts, have mounts of their own from now on.

    To be called while there is no other thread. Who may not be root, or may not mount as such, is root of a namespace
    of users that has nobody else.

    Raises:
        UnavailableError: `worker-unfit`: this user may not.
    """
    from sapwood._core.mount import mounts, unmount

    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    failed = libc.unshare(_NEWNS)
    if failed and ctypes.get_errno() == errno.EPERM:
        failed = libc.unshare(_NEWNS | _NEWUSER)
        if not failed:
            Path("/proc/self/setgroups").write_bytes(b"deny")
            Path("/proc/self/uid_map").write_bytes(b"0 %d 1" % user)
            Path("/proc/self/gid_map").write_bytes(b"0 %d 1" % group)
    if failed or libc.mount(b"none", b"/", None, _REC | _PRIVATE, None):
        raise UnavailableError(
            f"a worker mounts inputs, which this user may not here: {os.strerror(ctypes.get_errno())}",
            kind="worker-unfit",
            hint="run it as root, or where users may make namespaces; in a container with --privileged,"
            " or --cap-add SYS_ADMIN --device /dev/fuse",
        )
    # Copies of what is mounted now would keep that alive when it is taken away elsewhere.
    for place in mounts():
        with contextlib.suppress(SapwoodError):
            unmount(os.fsdecode(place), True)
