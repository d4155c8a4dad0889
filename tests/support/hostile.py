"""Archives and tars that lie: any TOC, any footer, any header, whatever a writer would never write.

Promise: only what a test asks for is wrong; the rest is as its readers need it. Not here: good archives (`stargz`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import resource
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.cli import Said, Sapwood

__all__ = [
    "HELLO",
    "Peaked",
    "archive",
    "chunked",
    "digest",
    "header",
    "member",
    "pax",
    "regular",
    "repeated",
    "run_bounded",
    "sealed",
    "swollen",
    "tar_of",
    "toc_tar",
    "with_member",
    "zstd_frame",
]

TOC_NAME = "stargz.index.json"
HELLO = b"hello\n"
# Of a command in a child; no test here needs a fifth of it. A test's time-out comes long after, also where others
# have most of the processor.
_CPU_S = 40


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def member(plain: bytes) -> bytes:
    """Return a gzip member of these bytes."""
    return gzip.compress(plain, 1, mtime=0)


def zstd_frame(plain: bytes) -> bytes:
    """Return a zstd frame of these bytes, which states their number."""
    return subprocess.run(
        ["zstd", "-19", "-q", "-c", f"--stream-size={len(plain)}"], input=plain, capture_output=True, check=True
    ).stdout


def regular(name: str, content: bytes = HELLO, **said: Any) -> dict[str, Any]:
    """Return a TOC entry of a file whose content begins a member at 0, with fields replaced, or taken away if None."""
    entry = {"name": name, "type": "reg", "size": len(content), "digest": digest(content)} | said
    return {key: value for key, value in entry.items() if value is not None}


def archive(entries: Iterable[dict[str, Any] | None], body: bytes | None = None, *, zstd: bool = False) -> bytes:
    """Return an archive of this TOC; `body`, what stands before it, begins with a member of `hello` by default."""
    text = json.dumps({"version": 1, "entries": list(entries)}).encode()
    if body is None:
        body = zstd_frame(HELLO) if zstd else member(HELLO)
    if zstd:
        return chunked(body, zstd_frame(text), len(text))
    return sealed(body, text)


def sealed(body: bytes, text: bytes, *, offset: int | None = None) -> bytes:
    """Return a stargz archive of a TOC's text; its footer says `offset`, by default the truth."""
    return with_member(body, member(toc_tar(text)), offset=offset)


def with_member(body: bytes, toc: bytes, *, offset: int | None = None) -> bytes:
    """Return a stargz archive of the bytes that stand where its TOC should."""
    said = b"%016xSTARGZ" % (len(body) if offset is None else offset)
    extra = b"SG" + struct.pack("<H", len(said)) + said
    head = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H", len(extra)) + extra
    return body + toc + head + b"\x01\x00\x00\xff\xff" + struct.pack("<II", zlib.crc32(b""), 0)


def toc_tar(text: bytes, size: int | None = None) -> bytes:
    """Return the tar of a TOC; its header says `size`, by default the truth."""
    info = tarfile.TarInfo(TOC_NAME)
    info.size = len(text) if size is None else size
    return info.tobuf(tarfile.USTAR_FORMAT) + text + bytes(-len(text) % 512 + 1024)


def chunked(body: bytes, toc: bytes, plain: int, *, at: int | None = None, length: int | None = None) -> bytes:
    """Return a zstd:chunked archive; its footer says `plain`, and `at` and `length`, by default the truth."""
    begin = len(body) + 8 if at is None else at
    numbers = (begin, len(toc) if length is None else length, plain, 1, 0, 0, 0)
    return body + skippable(toc) + skippable(struct.pack("<7Q", *numbers) + b"GNUlInUx")


def skippable(payload: bytes) -> bytes:
    return struct.pack("<II", 0x184D2A50, len(payload)) + payload


def repeated(head: bytes, piece: bytes, count: int, tail: bytes) -> bytes:
    """Return the gzip member of a TOC's tar whose text has `piece` so many times."""
    info = tarfile.TarInfo(TOC_NAME)
    info.size = len(head) + len(piece) * count + len(tail)
    end = tail + bytes(-info.size % 512 + 1024)
    return swollen(info.tobuf(tarfile.USTAR_FORMAT) + head, piece, count, end)


def swollen(head: bytes, piece: bytes, count: int, tail: bytes) -> bytes:
    """Return a gzip member that has `piece` so many times; it costs little time: what repeats is compressed once."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    many = max(1, (1 << 20) // len(piece))
    times, rest = divmod(count, many)

    def flushed(plain: bytes) -> bytes:
        # Nothing behind a full flush refers to what is before it.
        return packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH)

    run = piece * many
    out = [flushed(head), flushed(run) * times, packer.compress(piece * rest + tail), packer.flush()]
    total = zlib.crc32(head)
    for _ in range(times):
        total = zlib.crc32(run, total)
    total = zlib.crc32(piece * rest + tail, total)
    size = len(head) + len(piece) * count + len(tail)
    ends = struct.pack("<II", total, size & 0xFFFFFFFF)
    return b"".join([b"\x1f\x8b\x08\x00", bytes(5), b"\xff", *out, ends])


def header(
    name: bytes, kind: bytes = b"0", size: int = 0, *, link: bytes = b"", magic: bytes = b"ustar\x0000"
) -> bytes:
    """Return a tar header with these very bytes."""
    block = bytearray(512)
    block[: len(name[:100])] = name[:100]
    block[100:108] = b"0000644\x00"
    block[108:124] = b"0000000\x000000000\x00"
    block[124:136] = b"%011o\x00" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11)
    block[136:148] = b"00000000000\x00"
    block[156:157] = kind
    block[157 : 157 + len(link[:100])] = link[:100]
    block[257:265] = magic
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\x00 " % sum(block)
    return bytes(block)


def tar_of(*parts: bytes) -> bytes:
    """Return a tar of headers and contents, each padded, and its end."""
    return b"".join(part + bytes(-len(part) % 512) for part in parts) + bytes(1024)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """Return a pax header of these records."""
    text = b""
    for key, value in records:
        length = rest = len(key) + len(value) + 3
        while length != rest + len(str(length)):
            length = rest + len(str(length))
        text += b"%d %s=%s\n" % (length, key, value)
    return header(b"PaxHeaders/x", kind, len(text)) + text + bytes(-len(text) % 512)


@dataclass(frozen=True)
class Peaked:
    """What a command said, and how much memory it had at most."""

    said: Said
    peak_mb: int


def run_bounded(run: Sapwood, *words: str) -> Peaked:
    """Run `sapwood WORDS…` on two processors, as memory follows their number; one that takes long of them is killed."""
    code = (
        "import os, sys; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2]); os.cpu_count = lambda: 2;"
        "from sapwood.cli.main import main; code = main(sys.argv[1:]);"
        "[line] = [line for line in open('/proc/self/status') if line.startswith('VmHWM')];"
        "print(line.split()[1], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=run.home,
        env=run.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S)),
    )
    out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
    *lines, peak = err.splitlines() or [""]
    assert peak.isdigit(), (done.returncode, err)
    return Peaked(Said(done.returncode, out, "".join(f"{line}\n" for line in lines)), int(peak) // 1000)
