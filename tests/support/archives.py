"""Archives held to the rules of docs/archive.md from their bytes, without any code of ours."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zlib
from dataclasses import dataclass
from typing import Any

FOOTER = re.compile(
    bytes.fromhex("1f8b08041f8b080400ff1a0053471600")
    + rb"([0-9a-f]{16})STARGZ"
    + bytes.fromhex("010000ffff")
    + bytes(8)
)
MOST_OF_A_CHUNK = 4_000_000


@dataclass(frozen=True)
class Opened:
    """A stargz archive: where its members begin, what each holds, and its TOC."""

    members: dict[int, bytes]
    toc: bytes

    @property
    def entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads(self.toc)["entries"]
        return entries


def members_of(data: bytes) -> dict[int, bytes]:
    """Return the plain bytes of each gzip member by where it begins; there must be nothing else."""
    members, at = {}, 0
    while at < len(data):
        decoder = zlib.decompressobj(wbits=31)
        begin, plain = at, bytearray()
        while not decoder.eof:
            assert at < len(data)
            piece = data[at : at + 65536]
            plain += decoder.decompress(piece)
            at += len(piece) - len(decoder.unused_data)
        members[begin] = bytes(plain)
    return members


def open_stargz(data: bytes) -> Opened:
    """Split an archive; its footer and the TOC's member must be as rules 1 to 4 say."""
    footer = FOOTER.fullmatch(data[-51:])
    assert footer
    at = int(footer[1], 16)
    members = members_of(data)
    assert members.pop(len(data) - 51) == b""
    toc = members.pop(at)
    assert max(members) < at
    with tarfile.open(fileobj=io.BytesIO(toc)) as tar:
        [entry] = tar.getmembers()
        assert (entry.name, entry.type, entry.offset, entry.pax_headers) == (
            "stargz.index.json",
            tarfile.REGTYPE,
            0,
            {},
        )
        text = toc[512 : 512 + entry.size]
    assert toc[512 + len(text) :] == bytes(-len(text) % 512 + 1024)
    assert text.endswith(b"}")
    return Opened(members, text)


def assert_rules(data: bytes, *, inner: bool = False) -> Opened:
    """Hold a stargz archive to rules 1 to 11 of docs/archive.md; with `inner`, members may be shared."""
    opened = open_stargz(data)
    entries = opened.entries
    stream = zlib_all(data)
    with tarfile.open(fileobj=io.BytesIO(stream), errors="surrogateescape") as tar:
        named = [_clean(member.name) for member in tar.getmembers()]
    assert named == [*(entry["name"] for entry in entries if entry["type"] != "chunk"), "stargz.index.json"]
    assert len(set(named)) == len(named)
    kinds = {entry["name"]: entry["type"] for entry in entries if entry["type"] != "chunk"}
    assert all(not entry["name"].startswith(("/", "./", "../")) and "//" not in entry["name"] for entry in entries)
    last = (-1, -1)
    for number, entry in enumerate(entries):
        if entry["type"] == "hardlink":
            assert kinds[entry["linkName"]] not in ("dir", "hardlink")
        if entry["type"] == "reg":
            _assert_content(opened, number)
        if "offset" in entry or entry.get("chunkDigest"):
            place = (entry.get("offset", 0), entry.get("innerOffset", 0))
            assert place > last
            last = place
            assert inner or "innerOffset" not in entry
    return opened


def _assert_content(opened: Opened, number: int) -> None:
    entry = opened.entries[number]
    chunks = [entry] if entry.get("size") else []
    for other in opened.entries[number + 1 :]:
        if other["type"] != "chunk":
            break
        assert other["name"] == entry["name"]
        chunks.append(other)
    content = bytearray()
    for chunk in chunks:
        assert chunk.get("chunkOffset", 0) == len(content)
        size = chunk.get("chunkSize") or entry["size"] - len(content)
        assert ("chunkSize" in chunk) == (chunk is not chunks[-1])
        assert 0 < size < MOST_OF_A_CHUNK
        begin = chunk.get("innerOffset", 0)
        piece = opened.members[chunk.get("offset", 0)][begin : begin + size]
        assert chunk["chunkDigest"] == digest(piece)
        content += piece
    assert len(content) == entry.get("size", 0)
    assert entry["digest"] == digest(bytes(content))


def zlib_all(data: bytes) -> bytes:
    """Return what all members hold together."""
    return b"".join(members_of(data).values())


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _clean(name: str) -> str:
    return name.removeprefix("./").rstrip("/") or "."
