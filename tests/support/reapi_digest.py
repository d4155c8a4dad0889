"""The tree digest, computed from the definition of REAPI's messages with nothing of ours."""

from __future__ import annotations

import hashlib
import os


def tree_digest(root: str | os.PathLike[str]) -> str:
    """Return the digest of the root's Directory message."""
    return "sha256:" + hashlib.sha256(_directory(os.fsencode(root))).hexdigest()


def _directory(path: bytes) -> bytes:
    files, folders, links = [], [], []
    for name in sorted(os.listdir(path)):
        entry = os.path.join(path, name)
        if os.path.islink(entry):
            links.append(_field(3, _field(1, name) + _field(2, os.readlink(entry))))
        elif os.path.isdir(entry):
            folders.append(_field(2, _field(1, name) + _field(2, _digest(_directory(entry)))))
        elif os.path.isfile(entry):
            with open(entry, "rb") as file:
                node = _field(1, name) + _field(2, _digest(file.read()))
            executable = os.stat(entry).st_mode & 0o100
            files.append(_field(1, node + (b"\x20\x01" if executable else b"")))
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
