"""`convert` of what is an archive already: members that are right are taken over as they lie, and nothing else is."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from sapwood.pack import Choices, convert, pack
from tests.support.archives import assert_rules, members_of, open_stargz, zlib_all
from tests.support.hostile import sealed
from tests.support.trees import LARGE, make_hard, noise

HEADER = bytes.fromhex("1f8b080000000000 00ff")


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hard(tmp_path_factory.mktemp("hard") / "tree")


def member(plain: bytes) -> bytes:
    """A gzip member as nobody of ours makes it: of level 9, and it says so."""
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(plain) + packer.flush()


def foreign(*entries: tuple[tarfile.TarInfo, bytes], cut: int, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A stargz archive of another writer: its chunks have `cut` bytes, and nobody has looked into its TOC."""
    members = [bytearray()]
    for info, content in entries:
        info.size = len(content)
        members[-1] += info.tobuf(form, errors="surrogateescape")
        members += [bytearray(piece) for at in range(0, len(content), cut) if (piece := content[at : at + cut])]
        members[-1] += bytes(-len(content) % 512)
    data = b"".join(member(bytes(plain)) for plain in members if plain)
    offset = f"{len(data):016x}".encode()
    toc = tarfile.TarInfo("stargz.index.json").tobuf(tarfile.USTAR_FORMAT) + bytes(1024)
    head = bytes.fromhex("1f8b08041f8b080400ff1a0053471600")
    return data + member(toc) + head + offset + b"STARGZ" + bytes.fromhex("010000ffff") + bytes(8)


def entry(name: str, **facts: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.uname, info.gname, info.mtime = "somebody", "users", 1_600_000_000
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info


def converted(tmp_path: Path, data: bytes, choices: Choices | None = None) -> bytes:
    (tmp_path / "in").write_bytes(data)
    convert(str(tmp_path / "in"), str(tmp_path / "out"), choices)
    return (tmp_path / "out").read_bytes()


def stored(data: bytes) -> list[bytes]:
    """The members without TOC and footer, as they lie but for their headers, which say who made them."""
    begins = [*members_of(data), len(data)]
    return [HEADER + data[begin + len(HEADER) : end] for begin, end in itertools.pairwise(begins)][:-2]


def payload(data: bytes) -> bytes:
    """What lies before the TOC."""
    if data.endswith(b"GNUlInUx"):
        return data[: int.from_bytes(data[-64:-56], "little") - 8]
    return data[: int(data[-35:-19], 16)]


@pytest.mark.parametrize("zstd", [False, True])
def test_members_of_ours_stay_whatever_their_level(hard: Path, tmp_path: Path, zstd: bool) -> None:
    pack(hard, str(tmp_path / "fast"), Choices(zstd=zstd, level=1))
    pack(hard, str(tmp_path / "usual"), Choices(zstd=zstd))
    fast, usual = (tmp_path / "fast").read_bytes(), (tmp_path / "usual").read_bytes()
    assert fast != usual
    assert payload(converted(tmp_path, fast, Choices(zstd=zstd))) == payload(fast)
    # Who chooses how members are made has them made.
    chosen = Choices(zstd=zstd, level=3 if zstd else 5)
    assert payload(converted(tmp_path, fast, chosen)) == payload(usual)


def test_members_of_others_stay_with_their_headers_and_chunks(tmp_path: Path) -> None:
    long = "long/" + "n" * 150
    data = foreign(
        (entry("d", type=tarfile.DIRTYPE), b""),
        (entry("d/small"), b"small\n" * 1000),
        (entry("d/large"), noise(LARGE)),
        (entry("link", type=tarfile.SYMTYPE, linkname="d/large"), b""),
        (entry(long), noise(700_000)),
        (entry("last", mtime=1.5), b"last"),
        cut=1_000_000,
    )
    written = converted(tmp_path, data)
    assert_rules(written)
    assert stored(written) == stored(data)
    assert all(written.startswith(HEADER, begin) for begin in list(members_of(written))[:-2])
    with tarfile.open(tmp_path / "out") as tar:
        assert {info.uname for info in tar.getmembers()[:-1]} == {"somebody"}
        assert tar.extractfile(long).read() == noise(700_000)  # type: ignore[union-attr]
    # Nothing stays of what is chosen otherwise.
    converted(tmp_path, data, Choices(level=6))
    with tarfile.open(tmp_path / "out") as tar:
        assert {info.uname for info in tar.getmembers()} == {""}


def test_chunks_that_are_too_large_are_cut_and_the_others_stay(tmp_path: Path) -> None:
    data = foreign(
        (entry("a"), b"a" * 5000), (entry("b"), noise(5_000_000)), (entry("c"), noise(3_900_000)), cut=4 << 20
    )
    written = converted(tmp_path, data)
    assert_rules(written)
    was, now = stored(data), stored(written)
    assert now[:2] == was[:2]
    assert now[-1] == was[-1]
    assert len(now) > len(was)


def pax(**records: str) -> dict[str, object]:
    return {"pax_headers": {name.replace("_", "."): value for name, value in records.items()}}


@pytest.mark.parametrize(
    "odd",
    [
        entry("./odd"),
        entry("odd//x"),
        entry("odd", **pax(atime="5")),
        entry("odd", **pax(LIBARCHIVE_xattr_user_a="dg==")),
        entry("odd", **pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_name="x", GNU_sparse_realsize="3")),
        entry("odd", type=tarfile.CONTTYPE),
        entry("odd", type=b"Z"),
    ],
    ids=lambda info: str(info.pax_headers or info.name + info.type.decode()),
)
def test_headers_that_not_everybody_reads_alike_are_written_anew(tmp_path: Path, odd: tarfile.TarInfo) -> None:
    content = b"0\n" + bytes(510) if "GNU.sparse.major" in odd.pax_headers else b"content"
    data = foreign((entry("before"), b"before"), (odd, content), (entry("behind"), b"behind"), cut=1 << 20)
    written = converted(tmp_path, data)
    assert_rules(written)
    # A header lies in the member of the chunk before it.
    kept = set(stored(written)) & set(stored(data))
    assert [zlib.decompress(one, wbits=31)[:6] for one in stored(data) if one in kept][-1:] == [b"behind"]
    with tarfile.open(tmp_path / "out") as tar:
        info = tar.getmembers()[1]
        assert (info.uname, info.type) == ("", tarfile.REGTYPE)


def test_after_a_global_header_every_header_is_written_anew(tmp_path: Path) -> None:
    world = tarfile.TarInfo.create_pax_global_header({"uid": "7"})
    info = entry("a")
    info.size = 3
    plain = world + info.tobuf(tarfile.USTAR_FORMAT)
    data = foreign((entry("b"), b"b"), cut=5)
    written = converted(tmp_path, member(plain) + member(b"abc" + bytes(509)) + data)
    opened = assert_rules(written)
    assert [found["uid"] for found in opened.entries] == [7, 7]


def test_what_an_entry_lacks_or_has_a_second_time_costs_only_its_neighbours(tmp_path: Path) -> None:
    names = ["a", "b", "a", "c", "d", "hard", "e"]
    data = foreign(
        *(
            (
                (entry(name, type=tarfile.LNKTYPE, linkname="b"), b"")
                if name == "hard"
                else (entry(name), f"{number} {name}".encode())
            )
            for number, name in enumerate(names)
        ),
        cut=1 << 20,
    )
    written = converted(tmp_path, data)
    assert_rules(written)
    was = stored(data)
    kept = [zlib.decompress(one, wbits=31)[:3] for one in was if one in stored(written)]
    assert kept == [b"1 b", b"2 a", b"3 c", b"6 e"]


def test_bytes_behind_a_content_that_are_no_zeros_do_not_stay(tmp_path: Path) -> None:
    data = foreign((entry("a"), b"a"), (entry("b"), b"b"), cut=5)
    first, second, *_ = members_of(data).values()
    dirty = bytearray(second)
    dirty[100] = 1
    data = data.replace(member(second), member(bytes(dirty)))
    written = converted(tmp_path, data)
    assert stored(written)[0] == HEADER + member(first)[len(HEADER) :]
    assert bytes([1]) not in zlib_all(written)[513:1024]


def frames(pieces: Iterable[bytes]) -> bytes:
    def frame(plain: bytes) -> bytes:
        return subprocess.run(["zstd", "-19", "-c"], input=plain, capture_output=True, check=True).stdout

    return b"".join(map(frame, pieces))


def test_zstd_frames_of_others_stay_and_several_may_hold_one_member(tmp_path: Path) -> None:
    a, b = entry("a"), entry("b")
    a.size = b.size = 70_000
    pieces = [a.tobuf(), noise(70_000), bytes(-70_000 % 512) + b.tobuf(), b"b" * 70_000, bytes(-70_000 % 512)]
    payload = frames(pieces)
    pack(tmp_path, str(tmp_path / "footer"), Choices(zstd=True))
    footer = (tmp_path / "footer").read_bytes()[-72:]
    toc = frames([b'{"version":1,"entries":[]}'])
    skipped = bytes.fromhex("502a4d18") + len(toc).to_bytes(4, "little") + toc
    numbers = (len(payload) + 8, len(toc), 26, 1, 0, 0, 0)
    data = payload + skipped + footer[:8] + b"".join(n.to_bytes(8, "little") for n in numbers) + footer[-8:]
    written = converted(tmp_path, data, Choices(zstd=True))
    assert written.startswith(payload)
    plain = subprocess.run(["zstd", "-dc", tmp_path / "out"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert [info.uname for info in tar.getmembers()] == ["somebody"] * 2


def sparse_archive(tmp_path: Path) -> bytes:
    root = tmp_path / "sparse"
    root.mkdir()
    with (root / "file").open("wb") as file:
        for offset in (0, 3 << 20, 9 << 20):
            file.seek(offset)
            file.write(noise(5000))
        file.truncate(12 << 20)
    pack(str(root), str(tmp_path / "sparse.tar.gz"))
    return (tmp_path / "sparse.tar.gz").read_bytes()


def holes_of(data: bytes) -> list[list[int]] | None:
    [file] = [entry for entry in open_stargz(data).entries if entry["name"] == "file" and entry["type"] == "reg"]
    holes: list[list[int]] | None = file.get("holes")
    return holes


@pytest.mark.parametrize(
    "choices", [Choices(), Choices(level=1), Choices(chunk_size=1 << 20)], ids=["copied", "1", "cut"]
)
def test_holes_stay(tmp_path: Path, choices: Choices) -> None:
    data = sparse_archive(tmp_path)
    holes = holes_of(data)
    assert holes is not None
    assert len(holes) == 3
    assert holes_of(converted(tmp_path, data, choices)) == holes


@pytest.mark.parametrize("lie", [[[0, 4096]], [[6 << 20, 4096], [5 << 20, 4096]], [[8 << 20, 8 << 20]]])
def test_holes_where_the_file_has_data_are_not_believed(tmp_path: Path, lie: list[list[int]]) -> None:
    data = sparse_archive(tmp_path)
    toc = json.loads(open_stargz(data).toc)
    for told in toc["entries"]:
        if "holes" in told:
            told["holes"] = lie
    written = converted(tmp_path, sealed(payload(data), json.dumps(toc).encode()))
    assert holes_of(written) is None
    assert payload(written) == payload(data)
