"""Archives held to the rules of docs/archive.md from their bytes, without any code of ours."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

FOOTER = re.compile(
    bytes.fromhex("1f8b08041f8b080400ff1a0053471600")
    + rb"([0-9a-f]{16})STARGZ"
    + bytes.fromhex("010000ffff")
    + bytes(8)
)
MOST_OF_A_CHUNK = 4_000_000
HEADER = bytes.fromhex("1f8b0800 00000000 00ff")
"""Of a member, one that was copied from another writer's archive too."""
FIELDS = (
    "name", "type", "size", "modtime", "linkName", "mode", "uid", "gid", "offset", "innerOffset", "devMajor",
    "devMinor", "xattrs", "digest", "chunkOffset", "chunkSize", "chunkDigest", "holes",
)  # fmt: skip
"""All that a TOC says, in this order; none but the last is unknown to readers, who match letters of either case."""
HOLES = re.compile(rb',\n\t\t\t"holes": \[\[[][0-9,]*\]\]')


@dataclass(frozen=True)
class Opened:
    """A stargz archive: where its members begin, what each holds, and its TOC."""

    members: dict[int, bytes]
    toc: bytes
    stream: bytes
    """The plain bytes of all members, the TOC's too."""

    @cached_property
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
    stream = b"".join(members.values())
    assert members.pop(len(data) - 51) == b""
    assert all(data.startswith(HEADER, begin) for begin in members)
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
    return Opened(members, text, stream)


def assert_rules(data: bytes, *, inner: bool = False) -> Opened:
    """Hold a stargz archive to rules 1 to 11 of docs/archive.md; with `inner`, members may be shared."""
    opened = open_stargz(data)
    entries = opened.entries
    _assert_spelling(opened)
    # Where a block of zeros ended it, the rest would be missing.
    with tarfile.open(fileobj=io.BytesIO(opened.stream), errors="surrogateescape") as tar:
        named = [_clean(member.name) for member in tar.getmembers()]
    assert named == [*(entry["name"] for entry in entries if entry["type"] != "chunk"), "stargz.index.json"]
    assert len(set(named)) == len(named)
    kinds = {entry["name"]: entry["type"] for entry in entries if entry["type"] != "chunk"}
    assert all(not {"", ".", ".."} & set(entry["name"].split("/")) for entry in entries if entry["name"] != ".")
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


def _assert_spelling(opened: Opened) -> None:
    """The text is what Go's `json.MarshalIndent` makes of its fields, all known; bytes that are no UTF-8 escaped."""
    again = json.loads(opened.toc)
    assert list(again) == ["version", "entries"]
    assert again["version"] == 1
    for entry in again["entries"]:
        assert list(entry) == [field for field in FIELDS if field in entry]
        assert all(entry.values())
        assert list(entry.get("xattrs", ())) == sorted(entry.get("xattrs", ()))
        entry.pop("holes", None)
    text = re.sub(
        "[<>&\u2028\u2029\udc80-\udcff]",
        lambda special: f"\\u{ord(special[0]):04x}",
        json.dumps(again, indent="\t", ensure_ascii=False),
    )
    assert HOLES.sub(b"", opened.toc) == text.encode()


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
