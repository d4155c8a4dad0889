"""Seek indexes: archives that were not made to be read in parts are, and never give other bytes than they had."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from sapwood.errors import ConflictError, CorruptError, FormatError, InvalidInputError, NotFoundError
from sapwood.open import open_tree
from sapwood.pull import pull
from sapwood.seekindex import index_archive
from sapwood.store.archive import open_archive
from tests.support import stargz
from tests.support.badserver import replying, send
from tests.support.cli import Sapwood
from tests.support.hostile import header, run_bounded
from tests.support.mounting import mounted
from tests.support.ranges import serve
from tests.support.trees import MIB, look, make_hard, noise

MOST = 4 * MIB
WINDOW = 32 * 1024


def quick(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


def in_parts(compress: Callable[[bytes], bytes], size: int) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(compress(data[at : at + size]) for at in range(0, len(data), size))


STREAMS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": (".tar", bytes),
    "gzip": (".tar.gz", quick),
    "gzip, stored": (".tar.gz", lambda data: gzip.compress(data, 0)),
    "gzip of small members": (".tar.gz", in_parts(quick, 100_000)),
    "gzip of large members, and zeros": (".tar.gz", lambda data: in_parts(quick, 3_000_003)(data) + bytes(700)),
    "zstd of frames": (".tar.zst", in_parts(zstd, 300_000)),
    "zstd of one frame": (".tar.zst", zstd),
}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return many_files()


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hard(tmp_path_factory.mktemp("hard") / "tree")


def text(size: int, seed: int) -> bytes:
    """Bytes of which a third remains."""
    return noise(size, seed).hex().encode()[:size]


def a_tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def many_files() -> dict[str, bytes]:
    """Some 9 MiB in files small and large, which lie across every checkpoint."""
    files = {f"d/{number:03}": text(40_000 + 977 * number, number) for number in range(50)}
    return files | {
        "large": text(3 * MIB + 1, 500),
        "mixed": text(MIB, 501) + bytes(MIB) + noise(MIB // 2),
        "end": b".",
    }


@pytest.mark.parametrize("name", STREAMS)
def test_every_file_of_every_kind_of_stream_is_read_back(tmp_path: Path, files: dict[str, bytes], name: str) -> None:
    ending, compress = STREAMS[name]
    archive = tmp_path / f"bundle{ending}"
    archive.write_bytes(compress(a_tar(files)))
    made = index_archive(archive)
    tree = open_tree(str(archive))
    assert (tree.digest, made.entries) == (made.tree, len(files) + 2)
    for path, content in files.items():
        assert b"".join(tree.read_blob(path.encode())) == content
    pull(*open_archive(str(archive)), tmp_path / "pulled")
    assert {path: (tmp_path / "pulled" / path).read_bytes() for path in files} == files


@pytest.mark.parametrize("size", [MIB // 2, MIB])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_of_whole_blocks_is_read_back(tmp_path: Path, name: str, size: int) -> None:
    ending, compress = STREAMS[name]
    content = text(size - 3 * 512, 1)
    archive = tmp_path / f"bundle{ending}"
    archive.write_bytes(compress(a_tar({"a": content})[:size]))
    index_archive(archive)
    assert b"".join(open_tree(str(archive)).read_blob(b"a")) == content


@pytest.mark.parametrize(
    "form",
    [
        ("--format=gnu", "--sparse"),
        ("--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.1"),
        ("--format=pax", "--xattrs", "--xattrs-include=*", "--sparse"),
    ],
)
def test_a_hard_tar_is_the_tree_that_tar_unpacks(
    run: Sapwood, hard: Path, tmp_path: Path, form: tuple[str, ...]
) -> None:
    archive, unpacked = tmp_path / "hard.tar.gz", tmp_path / "unpacked"
    subprocess.run(["tar", *form, "-czf", archive, "."], cwd=hard, check=True, capture_output=True)
    unpacked.mkdir()
    subprocess.run(
        ["tar", "-xzpf", archive, "--xattrs", "--xattrs-include=*"], cwd=unpacked, check=True, capture_output=True
    )
    run.good("index", archive)
    # What a tar says of holes is what its writer saw of them.
    expected = {path: replace(facts, holes=()) for path, facts in look(unpacked).items()}
    run.good("pull", archive, tmp_path / "pulled")
    assert {path: replace(facts, holes=()) for path, facts in look(tmp_path / "pulled").items()} == expected
    with mounted(str(archive), tmp_path / "mount", tmp_path / "cache"):
        assert {path: replace(facts, holes=()) for path, facts in look(tmp_path / "mount").items()} == expected


def without_digests(data: bytes) -> bytes:
    """An eStargz archive as the first writers made them."""
    at = int(data[-35:-19], 16)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data[at:-51]))) as tar:
        toc = json.loads(tar.extractfile("stargz.index.json").read())  # type: ignore[union-attr]
    for entry in toc["entries"]:
        entry.pop("digest", None)
        entry.pop("chunkDigest", None)
    return data[:at] + gzip.compress(a_tar({"stargz.index.json": json.dumps(toc).encode()})) + data[-51:]


def test_an_archive_whose_toc_has_no_digests_gets_them(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a").write_text("hello\n")
    (root / "large").write_bytes(noise(3_000_000))
    archive = stargz.make(root, tmp_path / "a.tar.gz")
    tree = open_tree(str(archive)).digest
    archive.write_bytes(without_digests(archive.read_bytes()))
    with pytest.raises(CorruptError, match="no digest") as refused:
        open_tree(str(archive))
    assert f"sapwood index {archive}" in (refused.value.hint or "")
    index_archive(archive)
    assert open_tree(str(archive)).digest == tree
    pull(*open_archive(str(archive)), tmp_path / "pulled")
    assert (tmp_path / "pulled" / "large").read_bytes() == (root / "large").read_bytes()


def test_to_read_one_file_little_is_decompressed_however_large_the_archive(tmp_path: Path) -> None:
    block = text(2 * MIB - 1, 1)
    files = {f"{number:04}": block[number % 7 :] for number in range(30)} | {"little": b"x" * 100}
    archive = tmp_path / "bundle.tar.gz"
    archive.write_bytes(quick(a_tar(files)))
    index_archive(archive)
    opened, _ = open_archive(str(archive))
    costs = []
    for name in files:
        entry = opened.file_map.lookup(name.encode())
        assert entry is not None
        costs.append(sum(frame.plain + WINDOW for frame in {frame for frame, *_ in entry.chunks}))
    # Files of 2 MiB; then one of 100 bytes.
    assert max(costs) <= MOST
    assert costs[-1] <= 2 * MIB


def test_blocks_of_many_megabytes_are_entered_within(tmp_path: Path) -> None:
    files = {f"{number}": (text(331, number) * 40_000)[: 5 * MIB] for number in range(3)} | {"little": b"x" * 100}
    archive = tmp_path / "bundle.tar.gz"
    archive.write_bytes(gzip.compress(a_tar(files), 9))
    index_archive(archive)
    opened, _ = open_archive(str(archive))
    frames = set()
    tree = open_tree(str(archive))
    for name, content in files.items():
        entry = opened.file_map.lookup(name.encode())
        assert entry is not None
        frames |= {frame.plain for frame, *_ in entry.chunks}
        assert b"".join(tree.read_blob(name.encode())) == content
    # A small file lies in two at most.
    assert 2 * max(frames) <= MOST
    pull(*open_archive(str(archive)), tmp_path / "pulled")
    assert {path: (tmp_path / "pulled" / path).read_bytes() for path in files} == files


@pytest.mark.parametrize("name", ["plain", "gzip", "zstd of frames"])
def test_an_archive_on_a_server_is_indexed_and_read_there(run: Sapwood, tmp_path: Path, name: str) -> None:
    ending, compress = STREAMS[name]
    files = {"a": text(300_000, 1), "b": b"hello\n", "c": text(700_000, 2)}
    data = compress(a_tar(files))
    asked = list[str]()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers.get("Range", ""))
        if handler.path.startswith(f"/x{ending}?"):
            serve(handler, data)
        else:
            send(handler, 404)

    with replying(reply) as url:
        far = f"{url}/x{ending}?token=secret"
        assert (refused := run("index", far)).code == 2
        assert "--output" in refused.err
        assert "secret" not in refused.err
        asked.clear()
        said = run.good("index", "--json", far, "--output", "index").document
        assert said["bytes"] == sum(map(len, files.values()))
        # Its ends, its version, and all of it once.
        assert len(asked) <= 6
        by = ("--seek-index", "index")
        assert run.good("cat", far, "b", *by).out == "hello\n"
        (tmp_path / "mount").mkdir()
        run.good("mount", *by, far, "mount")
        assert (tmp_path / "mount" / "c").read_bytes() == files["c"]
        run.good("umount", "mount")
    (tmp_path / f"x{ending}").write_bytes(data)
    run.good("index", f"x{ending}", "--output", "near")
    assert (tmp_path / "near").read_bytes() == (tmp_path / "index").read_bytes()


def test_a_server_that_fails_meanwhile_leaves_no_index(run: Sapwood, tmp_path: Path) -> None:
    data = quick(a_tar({"a": noise(400_000)}))
    now = [(data, "1")]

    def reply(handler: BaseHTTPRequestHandler) -> None:
        # Once all of it is asked for it is another.
        if handler.headers.get("Range") == f"bytes=0-{len(data) - 1}":
            now[0] = (data[:-1] + b"x", "2")
            serve(handler, data)
        else:
            serve(handler, *now[0])

    with replying(reply) as url, pytest.raises(ConflictError) as changed:
        index_archive(f"{url}/x.tar.gz", str(tmp_path / "index"))
    assert changed.value.kind == "archive-changed"
    assert os.listdir(tmp_path) == []


def test_by_url_only_ranges_are_asked_for_the_index_beside_among_them(tmp_path: Path, files: dict[str, bytes]) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(quick(a_tar(files)))
    index_archive(archive)
    sent = list[int]()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        # Before: whoever has the reply may count at once.
        sent.append(0)
        serve(handler, (tmp_path / os.path.basename(handler.path)).read_bytes())

    with replying(reply) as url:
        tree = open_tree(f"{url}/x.tar.gz")
        opened = len(sent)
        assert b"".join(tree.read_blob(b"d/030")) == files["d/030"]
    # Tails of both, text of the index and first bytes of the archive; then a frame and its window, perhaps two.
    assert opened <= 4
    assert len(sent) - opened <= 4


def test_without_an_index_beside_it_the_error_says_how_to_make_one(run: Sapwood, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(gzip.compress(a_tar({"a": b"a"})))
    with pytest.raises(InvalidInputError) as refused:
        open_tree(str(archive))
    assert refused.value.kind == "archive-without-toc"
    assert f"sapwood index {archive}" in (refused.value.hint or "")
    run.good("index", "x.tar.gz")
    assert run.good("ls", "x.tar.gz").out == "a\n"


def test_by_url_it_says_so_too(tmp_path: Path) -> None:
    data = gzip.compress(a_tar({"a": b"a"}))

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/x.tar.gz":
            serve(handler, data)
        else:
            send(handler, 404)

    with replying(reply) as url, pytest.raises(InvalidInputError) as refused:
        open_tree(f"{url}/x.tar.gz")
    assert refused.value.kind == "archive-without-toc"
    assert "sapwood index" in (refused.value.hint or "")


def page(handler: BaseHTTPRequestHandler) -> None:
    """By range, as servers give their files."""
    serve(handler, b"<html>There is nothing here.</html>\n" * 20)


def whole_page(handler: BaseHTTPRequestHandler) -> None:
    send(handler, 200, b"<html>There is nothing here.</html>\n" * 20)


@pytest.mark.parametrize("other", [page, whole_page])
def test_a_page_in_place_of_an_index_hides_no_error_of_the_archive(
    tmp_path: Path, other: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("hello\n")
    damaged = bytearray(stargz.make(tmp_path / "tree", tmp_path / "a.tar.gz").read_bytes())
    damaged[int(damaged[-35:-19], 16) + 20] ^= 0xFF
    archives = {"/none.tar.gz": gzip.compress(a_tar({"a": b"a"})), "/damaged.tar.gz": bytes(damaged)}

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if handler.path in archives:
            serve(handler, archives[handler.path])
        else:
            other(handler)

    with replying(reply) as url:
        for name, kind in (("none", "archive-without-toc"), ("damaged", "archive-corrupt")):
            with pytest.raises((InvalidInputError, CorruptError)) as refused:
                open_tree(f"{url}/{name}.tar.gz")
            assert refused.value.kind == kind
            assert f"{name}.tar.gz.sapwood" in refused.value.__notes__[0]


@pytest.mark.parametrize(
    ("name", "compress"),
    [("x.tar.xz", lzma.compress), ("x.tar.bz2", bz2.compress), ("x.tar.zst", zstd)],
)
def test_what_cannot_be_entered_is_refused_with_a_remedy(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(compress(a_tar({"a": bytes(66 * MIB)} if name.endswith("zst") else {"a": b"a"})))
    with pytest.raises(InvalidInputError) as refused:
        index_archive(tmp_path / name)
    assert refused.value.kind == "archive-not-seekable"
    assert "sapwood convert" in (refused.value.hint or "")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", STREAMS)
def test_a_cut_archive_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    ending, compress = STREAMS[name]
    whole = compress(a_tar({"a": text(200_000, 1), "b": text(300_000, 2)}))
    archive = tmp_path / f"a{ending}"
    for end in (5, 700, len(whole) // 3, len(whole) // 2):
        archive.write_bytes(whole[:end])
        with pytest.raises(CorruptError) as refused:
            index_archive(archive)
        assert refused.value.kind == "archive-corrupt"
        assert os.listdir(tmp_path) == [archive.name]


def test_the_entry_is_named_in_which_an_archive_is_cut(tmp_path: Path) -> None:
    whole = gzip.compress(a_tar({"before": b"whole", "broken": os.urandom(300_000), "behind": b""}))
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptError, match=r"a\.tar\.gz is damaged: broken at byte "):
        index_archive(archive)


def test_what_follows_gzip_data_and_is_none_is_told(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(a_tar({"a": b"whole"})) + b"junk")
    with pytest.raises(CorruptError, match="what follows the gzip data is none"):
        index_archive(archive)


@pytest.mark.parametrize("name", STREAMS)
def test_flipped_bits_of_an_archive_are_found_and_the_file_is_named(tmp_path: Path, name: str) -> None:
    files = {f"f{number}": text(400_000, number) for number in range(12)}
    ending, compress = STREAMS[name]
    whole = compress(a_tar(files))
    archive = tmp_path / f"a{ending}"
    archive.write_bytes(whole)
    index_archive(archive)
    found = list[tuple[str, str]]()
    for at in range(66_000, len(whole) - 66_000, len(whole) // 9):
        data = bytearray(whole)
        data[at] ^= 0x10
        archive.write_bytes(data)
        tree = open_tree(str(archive))
        for path, content in files.items():
            try:
                assert b"".join(tree.read_blob(path.encode())) == content
            except CorruptError as error:
                found.append((path, str(error)))
    assert found
    assert all(path in said and str(archive) in said for path, said in found)


def test_the_index_of_another_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    whole = quick(a_tar({"a": noise(400_000)}))
    archive.write_bytes(whole)
    index_archive(archive)
    for at in (4, 30_000, len(whole) - 5, len(whole) - 60_000):
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ConflictError) as refused:
            open_tree(str(archive))
        assert refused.value.kind == "archive-changed"
        assert "sapwood index" in (refused.value.hint or "")
    archive.write_bytes(whole + b"\0")
    with pytest.raises(ConflictError):
        open_tree(str(archive))
    archive.write_bytes(whole)
    open_tree(str(archive))


def test_a_damaged_index_is_refused_or_gives_the_right_bytes(tmp_path: Path) -> None:
    files = {f"f{number}": text(700_000, number) for number in range(6)}
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(quick(a_tar(files)))
    index_archive(archive)
    beside = tmp_path / "a.tar.gz.sapwood"
    whole = beside.read_bytes()

    def read_all() -> bool:
        tree = open_tree(str(archive))
        return all(b"".join(tree.read_blob(path.encode())) == content for path, content in files.items())

    refused = list[str]()
    places = {*range(0, len(whole), len(whole) // 40), *range(len(whole) - 90, len(whole))}
    for at in sorted(places):
        beside.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            assert read_all()
        except (CorruptError, FormatError) as error:
            refused.append(str(error))
    for end in (0, 1, 79, 80, len(whole) // 2, len(whole) - 81, len(whole) - 1):
        beside.write_bytes(whole[:end])
        with pytest.raises(CorruptError, match=r"a\.tar\.gz\.sapwood") as cut:
            open_tree(str(archive))
        assert cut.value.kind == "index-corrupt"
        assert f"sapwood index {archive}" in (cut.value.hint or "")
    beside.write_bytes(whole)
    assert read_all()
    # All but the eight bytes before each window.
    assert len(refused) > len(places) * 3 // 4
    assert all("a.tar.gz" in said for said in refused)


def test_an_index_of_a_newer_format_is_refused_as_such(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(a_tar({"a": b"a"}))
    index_archive(archive)
    beside = tmp_path / "a.tar.sapwood"
    data = bytearray(beside.read_bytes())
    data[-16] = 3
    beside.write_bytes(data)
    with pytest.raises(FormatError) as refused:
        open_tree(str(archive))
    assert refused.value.kind == "format-newer"


def test_the_index_goes_where_it_is_told_and_what_is_no_archive_is_refused(run: Sapwood, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(a_tar({"a": b"a"}))
    said = run.good("index", "--json", "--output", "elsewhere", "a.tar").document
    assert (said["entries"], said["bytes"], said["size"]) == (2, 1, (tmp_path / "elsewhere").stat().st_size)
    assert not (tmp_path / "a.tar.sapwood").exists()
    with pytest.raises(NotFoundError):
        index_archive(tmp_path / "missing")
    os.mkfifo(tmp_path / "fifo")
    for nothing in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(InvalidInputError) as refused:
            index_archive(nothing)
        assert refused.value.kind == "not-a-file"


def test_an_index_that_lies_elsewhere_is_named(run: Sapwood, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(quick(a_tar({"a": b"hello\n"})))
    run.good("index", "a.tar.gz", "--output", "elsewhere")
    by = ("--seek-index", "elsewhere")
    assert run.good("ls", *by, "a.tar.gz").out == "a\n"
    assert run.good("cat", "a.tar.gz", "a", *by).out == "hello\n"
    run.good("pull", *by, "a.tar.gz", "pulled")
    assert run.good("diff", *by, "pulled", "a.tar.gz").out == "" == run.good("diff", *by, "a.tar.gz", "pulled").out
    assert run.good("run", *by, "a.tar.gz", "--", "cat", "{}/a").out == "hello\n"
    (tmp_path / "mount").mkdir()
    run.good("mount", *by, "a.tar.gz", "mount")
    assert (tmp_path / "mount" / "a").read_text() == "hello\n"
    run.good("umount", "mount")
    assert run("ls", *by, "pulled").code == 2
    with pytest.raises(InvalidInputError, match="no archive") as refused:
        open_tree(str(tmp_path / "pulled"), seek_index=str(tmp_path / "elsewhere"))
    assert refused.value.kind == "bad-usage"
    assert run("ls", "a.tar.gz").code == 2


def test_an_archive_called_as_an_action_is_written_with_its_directory(run: Sapwood, tmp_path: Path) -> None:
    (tmp_path / "show").write_bytes(a_tar({"a": b"a"}))
    run.good("index", "./show")
    assert (tmp_path / "show.sapwood").exists()
    assert run("index", "show").code == 2
    assert run("index").code == 2


def test_memory_of_many_entries_is_that_of_their_names(run: Sapwood, tmp_path: Path) -> None:
    archive = tmp_path / "many.tar"
    with archive.open("wb") as out:
        for number in range(200_000):
            out.write(header(b"d%03d/%s-%06d" % (number // 1000, b"n" * 40, number)))
        out.write(bytes(1024))
    done = run_bounded(run, "index", str(archive))
    assert done.said.code == 0
    # Each in memory would take 900 bytes, and Python 40 MB.
    assert done.peak_mb < 110
