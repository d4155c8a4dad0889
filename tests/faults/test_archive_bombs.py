"""Archives that need far more memory than they have bytes: refused, or read within the bounds of docs/archive.md.

Promise: no command here has more than 1 GiB at once, nor a tenth of what its input decompresses to.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from pathlib import Path

import pytest

from sapwood.errors import InvalidInputError
from sapwood.pack import convert
from tests.support.cli import Sapwood
from tests.support.hostile import (
    HELLO,
    archive,
    chunked,
    digest,
    header,
    member,
    pax,
    repeated,
    run_bounded,
    swollen,
    with_member,
    zstd_frame,
)
from tests.support.trees import noise

# A bomb takes seconds of a processor, of which a busy machine gives little.
pytestmark = pytest.mark.timeout(300)

MOST_MB = 1000
HEAD = b'{"version":1,"entries":['
TAIL = b'{"name":"z","type":"dir"}]}'
FILE = b'{"name":"a","type":"reg","size":6,"digest":"%s"},' % digest(HELLO).encode()


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


def toc_of(piece: bytes, count: int, head: bytes = HEAD) -> bytes:
    return with_member(member(HELLO), repeated(head, piece, count, TAIL))


BOMBS: dict[str, tuple[bytes, int]] = {
    "ten million directories": (b'{"name":"a","type":"dir"},', 10_000_000),
    "ten million files": (FILE, 10_000_000),
    "ten million chunks of one file": (b'{"type":"chunk"},', 10_000_000),
    "twenty million holes": (
        b'{"name":"a","type":"reg","size":800,"digest":"%s","holes":[%s]},'
        % (digest(b"").encode(), b",".join(b"[%d,1]" % (2 * at) for at in range(400))),
        45_000,
    ),
    "attributes without end": (b'{"name":"a","type":"dir","xattrs":{"user.a":"%s"}},' % (b"A" * 40_000), 20_000),
    "long names without end": (b'{"name":"%s","type":"dir"},' % b"/".join([b"a" * 250] * 1000), 1_200),
    "links without end": (b'{"name":"a","type":"symlink","linkName":"%s"},' % (b"a" * 100_000), 3_000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_toc_of_entries_without_end_is_refused(run: Sapwood, tmp_path: Path, bomb: str) -> None:
    piece, count = BOMBS[bomb]
    path = tmp_path / "x.tar.gz"
    path.write_bytes(toc_of(piece, count, HEAD + FILE if "chunks" in bomb else HEAD))
    assert path.stat().st_size * 20 < len(piece) * count
    done = run_bounded(run, "ls", str(path))
    assert done.said.code == 5, done
    assert done.said.err.startswith(f"sapwood: {path}: ")
    assert "its TOC is too large" in done.said.err
    assert "hint: " in done.said.err
    assert done.peak_mb < MOST_MB


def test_directories_that_no_entry_names_are_bounded(run: Sapwood, tmp_path: Path) -> None:
    text = HEAD + b",".join(b'{"name":"%s","type":"dir"}' % (b"%d/" % n * 300) for n in range(20_000)) + b"]}"
    path = tmp_path / "x.tar.gz"
    path.write_bytes(with_member(member(HELLO), repeated(text, b" ", 1, b"")))
    done = run_bounded(run, "ls", str(path))
    assert done.said.code == 5, done
    assert "more directories that it does not name than are allowed" in done.said.err
    assert done.peak_mb < MOST_MB


def test_hundreds_of_megabytes_of_nothing_around_a_toc_cost_no_memory(run: Sapwood, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(toc_of(b" ", 400_000_000))
    done = run_bounded(run, "ls", str(path))
    assert (done.said.code, done.said.out) == (0, "z\n")
    assert done.peak_mb < 100


def test_a_zstd_toc_that_says_more_than_any_can_be_is_not_decompressed(run: Sapwood, tmp_path: Path) -> None:
    plain = bytes(200_000_000)
    path = tmp_path / "x.tar.zst"
    path.write_bytes(chunked(zstd_frame(HELLO), zstd_frame(plain), len(plain)))
    done = run_bounded(run, "ls", str(path))
    assert (done.said.code, "its TOC is too large" in done.said.err) == (5, True)
    assert done.peak_mb < 100


def test_a_toc_of_all_of_a_vast_file_is_refused_unread(run: Sapwood, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 40)
        file.write(with_member(b"", b"", offset=0))
    done = run_bounded(run, "ls", str(path))
    assert (done.said.code, "its TOC is too large" in done.said.err) == (5, True)
    assert done.peak_mb < 100


@pytest.mark.parametrize("zstd", [False, True], ids=["gzip", "zstd"])
def test_the_largest_chunks_there_are_take_no_more_memory_than_a_few_of_them(
    run: Sapwood, tmp_path: Path, *, zstd: bool
) -> None:
    zeros = bytes(64 << 20)
    frame = zstd_frame(zeros) if zstd else gzip.compress(zeros, 9, mtime=0)
    names = [f"{number}" for number in range(8)]
    entries = [
        {"name": name, "type": "reg", "size": len(zeros), "digest": digest(zeros), "offset": number * len(frame)}
        for number, name in enumerate(names)
    ]
    # The first of another content, so that it is not the same blob, and does not prove itself.
    path = tmp_path / ("x.tar.zst" if zstd else "x.tar.gz")
    path.write_bytes(archive(entries, frame * len(names), zstd=zstd))
    pulled = run_bounded(run, "pull", str(path), "out")
    assert pulled.said.code == 0
    assert {(tmp_path / "out" / name).stat().st_size for name in names} == {len(zeros)}
    assert pulled.peak_mb < 600
    entries[0]["digest"] = digest(b"")
    path.write_bytes(archive(entries, frame * len(names), zstd=zstd))
    refused = run_bounded(run, "cat", str(path), "0")
    assert (refused.said.code, refused.said.out) == (5, "")
    assert refused.peak_mb < 400


def test_what_a_member_has_behind_its_chunk_is_not_decompressed(run: Sapwood, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    bomb = swollen(HELLO, bytes(1 << 20), 1024, b"")
    entry = {"name": "a", "type": "reg", "size": 6, "digest": digest(HELLO), "offset": 0}
    path.write_bytes(archive([entry], bomb))
    for words in (["cat", str(path), "a"], ["pull", str(path), "out"]):
        done = run_bounded(run, *words)
        assert done.said.code == 0
        assert done.peak_mb < 100


def test_a_tar_of_names_without_end_is_refused_and_leaves_nothing(run: Sapwood, tmp_path: Path) -> None:
    long = b"/".join([b"a" * 250] * 80)
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    out = [packer.compress(pax((b"path", b"%d/%b" % (number, long))) + header(b"a")) for number in range(15_000)]
    path = tmp_path / "x.tar.gz"
    path.write_bytes(b"".join([*out, packer.flush()]))
    for words in (["convert", str(path), "out.tar.gz"], ["push", str(path), "main"]):
        done = run_bounded(run, *words)
        assert done.said.code == 5, done
        assert "it has more entries" in done.said.err
        assert "hint: get the tar again" in done.said.err
        assert done.peak_mb < MOST_MB
    assert not (tmp_path / "out.tar.gz").exists()


def test_a_name_that_is_not_taken_over_is_kept_once_however_often_it_is_said(run: Sapwood, tmp_path: Path) -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    out = [packer.compress(header(b".prefetch.landmark") * 2000) for _ in range(1500)]
    path = tmp_path / "x.tar.gz"
    path.write_bytes(b"".join([*out, packer.compress(bytes(1024)), packer.flush()]))
    done = run_bounded(run, "convert", str(path), "out.tar.gz")
    assert done.said.code == 0, done
    assert done.peak_mb < 150


def test_attributes_of_a_global_header_are_not_kept_for_entries_without_end(run: Sapwood, tmp_path: Path) -> None:
    said = pax((b"SCHILY.xattr.user.a", b"v" * 60_000), kind=b"g")
    (tmp_path / "x.tar").write_bytes(said + b"".join(header(b"%d" % number) for number in range(30_000)))
    done = run_bounded(run, "push", "x.tar", "main")
    assert done.said.code == 5, done
    assert "it has more entries" in done.said.err
    assert done.peak_mb < MOST_MB


def test_an_xz_that_asks_for_gigabytes_of_memory_is_refused_with_a_remedy(run: Sapwood, tmp_path: Path) -> None:
    said = bytearray(lzma.compress(header(b"a", size=1 << 20) + bytes((1 << 20) + 1024)))
    at = said.index(b"\x21\x01", 12)
    end = 12 + (said[12] + 1) * 4
    said[at + 2] = 40  # a dictionary of 4 GiB
    said[end - 4 : end] = zlib.crc32(said[12 : end - 4]).to_bytes(4, "little")
    path = tmp_path / "x.tar.xz"
    path.write_bytes(said)
    done = run_bounded(run, "convert", str(path), "out.tar.gz")
    assert (done.said.code, done.said.out) == (2, "")
    assert "takes more than 128 MiB of memory" in done.said.err
    assert "hint: decompress it yourself, and give that: xz -dc" in done.said.err
    assert done.peak_mb < 100
    with pytest.raises(InvalidInputError) as refused:
        convert(str(path), str(tmp_path / "out.tar.gz"))
    assert refused.value.kind == "archive-window-too-large"


def test_every_stream_of_an_xz_is_read(tmp_path: Path) -> None:
    tar = header(b"a", size=1000) + noise(1000) + bytes(24 + 1024)
    (tmp_path / "x.tar").write_bytes(tar)
    (tmp_path / "x.tar.xz").write_bytes(lzma.compress(tar[:700]) + bytes(8) + lzma.compress(tar[700:]) + bytes(4))
    convert(str(tmp_path / "x.tar"), str(tmp_path / "expected"))
    convert(str(tmp_path / "x.tar.xz"), str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_tar_that_decompresses_to_gigabytes_is_converted_in_little_memory(run: Sapwood, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(swollen(header(b"a", size=600 << 20), bytes(1 << 20), 600, bytes(1024)))
    done = run_bounded(run, "convert", "--level", "1", str(path), "out.tar.gz")
    assert done.said.code == 0
    assert done.peak_mb < 200
