"""The libfuse tier: mfusepy brings the kernel's questions, the core answers them.

Invariant: nothing is decided here. Names, attributes, bytes and waiting are the core's, as in the FUSE tier; this only
puts what libfuse asks into its words. A question occupies a thread of libfuse until it is answered, or withdrawn.
What this tier cannot do, that one can: docs/mount.md. Why mfusepy: docs/decisions/0018-libfuse-by-mfusepy.md.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from ctypes.util import find_library
from importlib import import_module
from pathlib import Path
from typing import Any

from sapwood._core.direct import Direct, is_asked_to_end
from sapwood._core.mount import Server
from sapwood.errors import UnavailableError

__all__ = ["load", "mount"]

# Seconds for which the kernel may believe what it was told: what is mounted never changes.
_FOREVER = 0xFFFFFFFF
_MAX_READ = 1 << 20
# As many readers may wait at once; libfuse 3.12 and later would take ten.
_THREADS = 1000
# As in the FUSE tier: reads that nobody waits for yet.
_BACKGROUND = 128
_NAMED_BY = ("FUSE_LIBRARY_PATH", "FUSE_LIBRARY_NAME")


def load() -> Any:
    """Return the module mfusepy, with libfuse 3 where there is one, unless the environment names another.

    Raises:
        UnavailableError: `libfuse-missing`: mfusepy is not installed, or finds no libfuse.
    """
    if not any(map(os.environ.get, _NAMED_BY)) and find_library("fuse3"):
        os.environ["FUSE_LIBRARY_NAME"] = "fuse3"
    try:
        return import_module("mfusepy")
    except ImportError as error:
        raise UnavailableError(
            f"the libfuse tier needs mfusepy: {error}",
            kind="libfuse-missing",
            hint="pip install 'sapwood[libfuse]'",
        ) from error
    except (OSError, AttributeError) as error:
        raise UnavailableError(
            f"the libfuse tier finds no libfuse: {error}",
            kind="libfuse-missing",
            hint="install it (Debian: apt install libfuse3-3), or take --tier fuse",
        ) from error


def mount(mfusepy: Any, server: Server, place: Path) -> None:
    """Mount `server` at `place`, and return when the kernel has begun to ask; `server` is stopped when the mount ends.

    Raises:
        UnavailableError: `mount-failed`; what libfuse says of it goes to stderr.
    """
    settled, failed = threading.Event(), list[BaseException]()

    def serve() -> None:
        try:
            mfusepy.FUSE(_Operations(mfusepy, server, settled), os.fsdecode(place), **_options(mfusepy))
        except BaseException as error:  # noqa: BLE001 - whatever it was, nobody answers the kernel any more
            failed.append(error)
        finally:
            server.stop("the mount has ended")
            settled.set()

    # libfuse goes to the root directory.
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        # A daemon: of a mount that was taken away lazily it does not end before its last user.
        threading.Thread(target=serve, name="libfuse", daemon=True).start()
        settled.wait()
        os.fchdir(here)
    finally:
        os.close(here)
    if failed:
        raise UnavailableError(
            f"{place}: libfuse cannot mount: {failed[0]}",
            kind="mount-failed",
            hint="its own words are in the log, or above; without it: --tier fuse",
        )


def _options(mfusepy: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "foreground": True,
        "ro": True,
        "default_permissions": True,
        "fsname": "sapwood",
        "subtype": "sapwood",
        "kernel_cache": True,
        "use_ino": True,
        "entry_timeout": _FOREVER,
        "attr_timeout": _FOREVER,
        "negative_timeout": _FOREVER,
        "max_read": _MAX_READ,
    }
    if os.geteuid() == 0:
        options["allow_other"] = True
    if (mfusepy.fuse_version_major, mfusepy.fuse_version_minor) >= (3, 12):
        options["max_threads"] = _THREADS
    return options


class _Operations:
    """What mfusepy calls, each time in the thread that has the question; an OSError is the kernel's error number.

    There is no `open`, for nothing is kept of an open file; libfuse says yes by itself.
    """

    use_ns = True

    def __init__(self, mfusepy: Any, server: Server, asked: threading.Event) -> None:
        self._asked = asked
        # Not part of mfusepy's own interface, but there is no other way to wait for what may never come.
        self._library = mfusepy._libfuse
        self._library.fuse_get_session.restype = ctypes.c_void_p
        self._direct = Direct(server, self._is_over)

    def _is_over(self) -> bool:
        """Whether who put the question of this thread is to be let go, or the kernel asks nothing more at all.

        It interrupts a question at any signal. libfuse waits for all its threads when the mount ends, so none may wait
        for anything else.
        """
        context = self._library.fuse_get_context().contents
        if self._library.fuse_interrupted() and is_asked_to_end(context.pid):
            return True
        session = ctypes.c_void_p(self._library.fuse_get_session(ctypes.c_void_p(context.fuse)))
        return bool(self._library.fuse_session_exited(session))

    def init_with_config(self, connection: Any, _config: Any) -> None:
        if hasattr(connection, "max_read"):  # libfuse 3 wants to hear it twice
            connection.max_read = _MAX_READ
        connection.max_background = _BACKGROUND
        connection.congestion_threshold = _BACKGROUND // 4 * 3
        self._asked.set()

    def getattr(self, path: str, _handle: object = None) -> dict[str, int]:
        inode, size, blocks, mtime, mode, links, uid, gid, device = self._direct.attributes(_bytes(path))
        return {
            "st_ino": inode,
            "st_size": size,
            "st_blocks": blocks,
            "st_mtime": mtime,
            "st_atime": mtime,
            "st_ctime": mtime,
            "st_mode": mode,
            "st_nlink": links,
            "st_uid": uid,
            "st_gid": gid,
            "st_rdev": device,
            "st_blksize": 4096,
        }

    def readdir_with_offset(self, path: str, offset: int, _handle: object) -> Iterator[tuple[str, dict[str, int], int]]:
        directory = _bytes(path)
        while lines := self._direct.lines(directory, offset):
            for name, inode, mode, offset in lines:
                yield _text(name), {"st_ino": inode, "st_mode": mode}, offset

    def readlink(self, path: str) -> str:
        return _text(self._direct.target(_bytes(path)))

    def read(self, path: str, size: int, offset: int, _handle: object) -> bytes:
        return self._direct.read(_bytes(path), offset, size)

    def getxattr(self, path: str, name: str, _position: int = 0) -> bytes:
        return self._direct.xattr(_bytes(path), _bytes(name))

    def listxattr(self, path: str) -> list[str]:
        return [_text(name) for name in self._direct.xattr_names(_bytes(path))]

    def statfs(self, _path: str) -> dict[str, int]:
        blocks, entries = self._direct.room()
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": blocks, "f_files": entries, "f_namemax": 255}


# mfusepy decodes so, whatever the locale.
def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
