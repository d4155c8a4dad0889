"""Objects of a store, read and made with nothing but docs/format.md."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path


def chunks_of(fragment: bytes) -> set[bytes]:
    """Return the SHA-256 of every chunk that an index fragment names."""
    magic, version, _, packs, chunks, _, _ = struct.unpack_from("<8s6I", fragment)
    assert (magic, version) == (b"SAPWFRG\n", 1)
    start = 32 + 32 * packs
    return {fragment[at : at + 32] for at in range(start, start + 56 * chunks, 56)}


def assert_whole(store: Path) -> None:
    """Every object that is named by the digest of its bytes has these bytes, and nothing is left in `tmp`."""
    for path in store.rglob("*"):
        if path.is_file() and path.parent.name in ("packs", "index", "snapshots"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.split(".")[0], path
    assert [path.name for path in (store / "tmp").glob("*")] == []


def frame_of(data: bytes) -> bytes:
    """Return a zstd frame that holds `data` uncompressed (RFC 8878: raw blocks), its size stated."""
    out = struct.pack("<IBI", 0xFD2FB528, 0xA0, len(data))
    blocks = [data[at : at + 65536] for at in range(0, len(data), 65536)] or [b""]
    for number, block in enumerate(blocks):
        is_last = number == len(blocks) - 1
        out += (len(block) << 3 | is_last).to_bytes(3, "little") + block
    return out


def tar_of(chunk: bytes) -> bytes:
    """Return a chunk as the tar entry that it is in a frame; it begins at 512."""
    header = bytearray(512)
    fields = {
        0: hashlib.sha256(chunk).hexdigest().encode(), 100: b"0000444\0", 108: b"0000000\0", 116: b"0000000\0",
        124: b"%011o\0" % len(chunk), 136: b"00000000000\0", 148: b" " * 8, 156: b"0", 257: b"ustar\x0000",
    }  # fmt: skip
    for at, value in fields.items():
        header[at : at + len(value)] = value
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + chunk + bytes(-len(chunk) % 512)


def put_named(store: Path, folder: str, suffix: str, data: bytes, *, of: bytes | None = None) -> str:
    """Write an object that is named by the SHA-256 of `of`, by default its bytes; return the hex."""
    name = hashlib.sha256(data if of is None else of).hexdigest()
    (store / folder).mkdir(exist_ok=True)
    (store / folder / f"{name}{suffix}").write_bytes(data)
    return name


def pack_of(*chunks: bytes) -> bytes:
    """Return a pack with a frame for each chunk, from before packs said what holds pages and who wrote them."""
    data, entries = b"", []
    for chunk in chunks:
        sha256 = hashlib.sha256(chunk).hexdigest()
        place = {"size": len(chunk), "offset": len(data), "innerOffset": 512}
        entries.append({"name": sha256, "type": "reg", **place, "digest": f"sha256:{sha256}"})
        data += frame_of(tar_of(chunk))
    # A kilobyte of zeros, as one block that says so.
    data += struct.pack("<IBI", 0xFD2FB528, 0xA0, 1024) + (1024 << 3 | 0b011).to_bytes(3, "little") + b"\0"
    toc = json.dumps({"version": 1, "entries": entries}, separators=(",", ":")).encode()
    payload = frame_of(toc)
    footer = struct.pack("<II4Q8s", 0x184D2A50, 40, len(data), len(payload), len(toc), 1, b"SAPWPACK")
    return data + struct.pack("<II", 0x184D2A50, len(payload)) + payload + footer
