"""Archives with a TOC, written by other means than sapwood's: tarfile, gzip, and the program zstd.

Promise: what comes out is what estargz, the original crfs and containers/storage write, as far as their readers can
tell: docs/archive.md, "Reading". Not here: speed, sparse files.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "make", "make_external", "sha256"]

KINDS = ("estargz", "estargz-shared", "crfs", "zstd", "zstd-short")
_TYPES = {
    tarfile.DIRTYPE: "dir",
    tarfile.REGTYPE: "reg",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}
_END = bytes(1024)


def make(root: Path, out: Path, kind: str = "estargz", *, chunk: int = 100_000) -> Path:
    """Write the tree below `root` as an archive of one of `KINDS` to `out`; large files in chunks of `chunk` bytes."""
    return _Writer(kind, chunk).write(root, out)


def make_external(root: Path, out: Path, toc: Path) -> Path:
    """Write the tree as eStargz whose TOC is the file `toc`, as estargz's package externaltoc does."""
    writer = _Writer("estargz", 100_000)
    writer.write(root, out)
    footer = b"SG" + struct.pack("<H", 17) + b"STARGZEXTERNALTOC"
    toc.write_bytes(writer.toc)
    out.write_bytes(bytes(writer.out[: writer.payload]) + _footer(footer))
    return out


class _Writer:
    def __init__(self, kind: str, chunk: int) -> None:
        self.kind = kind
        self.chunk = chunk
        self.out = bytearray()
        self.pending = bytearray()
        # Of gzip archives: the TOC's member, and where the data ends.
        self.toc, self.payload = b"", 0
        self.entries = list[dict[str, Any]]()

    @property
    def is_zstd(self) -> bool:
        return self.kind.startswith("zstd")

    def compress(self, plain: bytes) -> bytes:
        if not self.is_zstd:
            return gzip.compress(plain, 1, mtime=0)
        return subprocess.run(["zstd", "-1", "-q", "-c"], input=plain, capture_output=True, check=True).stdout

    def flush(self) -> None:
        if self.pending:
            self.out += self.compress(bytes(self.pending))
            self.pending.clear()

    def write(self, root: Path, out: Path) -> Path:
        tar = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")
        paths = [root, *sorted(root.rglob("*"))]
        for path in paths:
            name = "." if path == root else os.fspath(path.relative_to(root))
            info = tar.gettarinfo(os.fspath(path), name)
            self.pending += info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            self.add(path, name, info)
        self.finish()
        out.write_bytes(self.out)
        return out

    def add(self, path: Path, name: str, info: tarfile.TarInfo) -> None:
        seconds, nanoseconds = divmod(path.lstat().st_mtime_ns, 10**9)
        when = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        entry: dict[str, Any] = {
            "name": name + "/" if info.isdir() else name,
            "type": _TYPES[info.type],
            "modtime": f"{when}.{nanoseconds:09}Z",
            "mode": info.mode,
            "uid": info.uid,
            "gid": info.gid,
            "userName": info.uname,
        }
        if info.issym() or info.islnk():
            entry["linkName"] = info.linkname
        if info.ischr() or info.isblk():
            entry |= {"devMajor": info.devmajor, "devMinor": info.devminor}
        if not info.issym() and (names := os.listxattr(path)):
            entry["xattrs"] = {x: base64.b64encode(os.getxattr(path, x)).decode() for x in names}
        self.entries.append(entry)
        if not info.isreg():
            return
        content = path.read_bytes()
        entry["size"] = len(content)
        entry["digest"] = sha256(content)
        for begin in range(0, len(content), self.chunk):
            piece = content[begin : begin + self.chunk]
            shared = self.kind == "estargz-shared" and len(self.pending) + len(piece) < 50_000
            if not shared:
                self.flush()
            at = {"offset": len(self.out), "innerOffset": len(self.pending), "chunkDigest": sha256(piece)}
            if self.kind == "crfs":
                at.pop("chunkDigest")
            if begin + len(piece) < len(content):
                at["chunkSize"] = len(piece)
            self.pending += piece
            if begin:
                self.entries.append({"name": name, "type": "chunk", "chunkOffset": begin, **at})
            else:
                entry |= at
            if not shared:
                self.flush()
        self.pending += bytes(-len(content) % 512)

    def finish(self) -> None:
        toc = json.dumps({"version": 1, "entries": self.entries}, ensure_ascii=True).encode()
        if self.is_zstd:
            self.pending += _END
            self.flush()
            stored = self.compress(toc)
            self.out += _skippable(stored)
            numbers = (len(self.out) - len(stored), len(stored), len(toc), 1)
            if self.kind == "zstd":
                self.out += _skippable(struct.pack("<7Q", *numbers, 0, 0, 0) + b"GNUlInUx")
            else:
                self.out += _skippable(struct.pack("<4Q", *numbers) + b"GnUlInUx")
            return
        self.flush()
        offset = len(self.out)
        info = tarfile.TarInfo("stargz.index.json")
        info.size = len(toc)
        self.toc = self.compress(info.tobuf(tarfile.USTAR_FORMAT) + toc + bytes(-len(toc) % 512) + _END)
        self.payload = offset
        self.out += self.toc
        said = b"%016xSTARGZ" % offset
        self.out += _footer(said if self.kind == "crfs" else b"SG" + struct.pack("<H", len(said)) + said)


def _footer(extra: bytes) -> bytes:
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H", len(extra)) + extra
    return head + b"\x01\x00\x00\xff\xff" + struct.pack("<II", zlib.crc32(b""), 0)


def _skippable(payload: bytes) -> bytes:
    return struct.pack("<II", 0x184D2A50, len(payload)) + payload


def sha256(data: bytes) -> str:
    """Return what a TOC says of these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
