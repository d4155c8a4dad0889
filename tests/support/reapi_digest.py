"""The tree digest, computed from the definition of REAPI's messages with nothing of ours."""

from __future__ import annotations

import hashlib
import os
import stat


def tree_digest(root: str | os.PathLike[str]) -> str:
    """Return the digest of the root's Directory message. No path is too long."""
    return "sha256:" + hashlib.sha256(_directory(os.open(root, os.O_RDONLY | os.O_DIRECTORY))).hexdigest()


def _directory(handle: int) -> bytes:
    """Of an open directory, which is closed."""
    files, folders, links = [], [], []
    try:
        for name in sorted(os.fsencode(name) for name in os.listdir(handle)):
            mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                links.append(_field(3, _field(1, name) + _field(2, os.readlink(name, dir_fd=handle))))
            elif stat.S_ISDIR(mode):
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
                folders.append(_field(2, _field(1, name) + _field(2, _digest(_directory(below)))))
            elif stat.S_ISREG(mode):
                with open(os.open(name, os.O_RDONLY, dir_fd=handle), "rb") as file:
                    node = _field(1, name) + _field(2, _digest(file.read()))
                files.append(_field(1, node + (b"\x20\x01" if mode & 0o100 else b"")))
    finally:
        os.close(handle)
    return b"".join(files + folders + links)


def _digest(content: bytes) -> bytes:
    sha256 = hashlib.sha256(content).hexdigest().encode()
    return _field(1, sha256) + (b"\x10" + _varint(len(content)) if content else b"")


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
