"""Write `archives/`: one small tar as every format of docs/archive.md, and as a store keeps it that was given it.

`tree.tar.gz` and `tree.tar.zst` are packed archives, `plain.tar.gz.sapwood` is the seek index of `plain.tar.gz`, which
any gzip might have written, `long.tar.gz.sapwood` that of one whose blocks are longer than 2 MiB; `pack-*.tar.zst`,
`map.jsonl.zst` and `snapshot.json` are the objects of a push of the tar, with its split metadata.

Run by hand when a format changes, and say so in its spec: `python -m tests.golden.make_archives`. Bytes of formats that
were released stay, under another name, with a test that they are read.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

from sapwood._core.push import Push
from sapwood.digests import ContentDigest, MapDigest, PackName, TreeDigest
from sapwood.pack import Choices, convert
from sapwood.push import outline_words
from sapwood.seekindex import index_archive
from sapwood.store.snapshot import Snapshot

__all__ = ["HERE", "make", "tar"]

HERE = Path(__file__).parent / "archives"
_TIME = 1_709_208_000
_REPLACED = b"first\n"
_PUSH = "00f1e2d3c4b5a697"
_WORDS: dict[str, Any] = {
    "created": "2024-02-29T12:00:00Z",
    "user": "u",
    "host": "h",
    "source": "tree.tar",
    "parent": None,
    "program": "sapwood 0",
}


def tar(*, large: bool = True) -> bytes:
    """Return the tar: every kind of entry, a name that comes twice, and, if it may be `large`, a file of two chunks."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as made:

        def add(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **said: object) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.mtime, info.mode, info.uid, info.gid = (
                kind,
                len(content),
                _TIME,
                0o644,
                1000,
                100,
            )
            for field, value in said.items():
                setattr(info, field, value)
            made.addfile(info, io.BytesIO(content))

        add("d", tarfile.DIRTYPE, mode=0o755)
        add("d/a", content=_REPLACED)
        add("d/a", content=b"second\n", mtime=_TIME + 0.5, pax_headers={"SCHILY.xattr.user.k": "v"})
        add("d/empty")
        add("d/zeros", content=bytes((2 << 20) + 1 if large else 1000))
        add("d/" + "long" * 30, content=b"long\n")
        add("d/\udcff", content=b"not UTF-8\n")
        add("hard", tarfile.LNKTYPE, linkname="d/a")
        add("soft", tarfile.SYMTYPE, linkname="d/a")
        add("fifo", tarfile.FIFOTYPE)
        add("device", tarfile.CHRTYPE, devmajor=1, devminor=3)
    return out.getvalue()


def make(place: Path, plain: bytes, long: bytes) -> None:
    """Write all of them below the directory `place`; `plain` and `long` are the bytes of the archives so called."""
    stored = place / "tree.tar"
    stored.write_bytes(tar())
    convert(str(stored), str(place / "tree.tar.gz"), Choices())
    convert(str(stored), str(place / "tree.tar.zst"), Choices(zstd=True))
    for name, content in (("plain.tar.gz", plain), ("long.tar.gz", long)):
        (place / name).write_bytes(content)
        index_archive(str(place / name), str(place / f"{name}.sapwood"))
    # Which of the threads of a push is the first to pack chunks of a large file, nobody can say.
    stored.write_bytes(tar(large=False))
    _push(stored, place)
    stored.unlink()


def _push(stored: Path, place: Path) -> None:
    with stored.open("rb") as file, tempfile.TemporaryDirectory() as temporary:
        run = Push.of_archive(file.fileno(), stored.name, stored=stored.stat().st_size, temporary=temporary)
        try:
            run.begin(
                push=_PUSH,
                level=None,
                words=outline_words(_PUSH, "main", None, _WORDS),
                content=None,
                holdings=None,
                memory=b"",
                fragments=[],
                pending=[],
                usable=None,
            )
            packs = _packs(run)
            assert [size for *_, size in run.missed()] == [len(_REPLACED)]
            with tempfile.TemporaryFile() as missed:
                missed.write(_REPLACED)
                missed.seek(0)
                run.give(missed.fileno(), temporary)
            packs += _packs(run)
            made = run.result()
        finally:
            run.close()
    snapshot = Snapshot(
        tree=TreeDigest(made["tree"]),
        tree_size=made["tree_size"],
        map=MapDigest(made["map"]),
        map_size=made["map_size"],
        content=ContentDigest(made["content"]),
        entries=made["entries"],
        bytes=made["bytes"],
        packs=tuple(map(PackName, made["packs"])),
        **_WORDS,
    )
    for number, data in enumerate(packs):
        (place / f"pack-{number}.tar.zst").write_bytes(data)
    (place / "map.jsonl.zst").write_bytes(made["map_bytes"])
    (place / "snapshot.json").write_bytes(snapshot.encode())


def _packs(run: Push) -> list[bytes]:
    packs = []
    while (pack := run.next()) is not None:
        packs.append(bytes(pack[1]))
    return packs


def long_tar() -> bytes:
    """Return a tar of one file of which a block of deflate has many megabytes."""
    info = tarfile.TarInfo("long")
    info.size = 5_000_000
    return info.tobuf(tarfile.USTAR_FORMAT) + (b"etaoin shrdlu" * 400_000)[:5_000_000] + bytes(-info.size % 512 + 1024)


def _gzipped(plain: bytes) -> bytes:
    # Little memory makes short blocks, so that the index has checkpoints within the one member.
    packer = zlib.compressobj(6, zlib.DEFLATED, 31, 1)
    return packer.compress(plain) + packer.flush()


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    make(HERE, _gzipped(tar()), gzip.compress(long_tar(), 9, mtime=0))
