"""`push TAR` and `tar`: the tree is that of who unpacks it, and the tar comes back byte for byte."""

from __future__ import annotations

import bz2
import filecmp
import gzip
import hashlib
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood._core.filemap import Entry
from sapwood.errors import SapwoodError
from sapwood.fetch import load_map
from sapwood.open import OpenStore
from sapwood.push import Pushed, push_archive
from sapwood.tarsource import open_source
from sapwood.tarstream import Told, write_tar
from sapwood.upkeep.verify import verify
from tests.support.archives import zlib_all
from tests.support.cli import Sapwood
from tests.support.hostile import run_bounded
from tests.support.tars import ODD, PROGRAMS, a_tar, written_by
from tests.support.trees import LARGE, differences, make_hard, noise
from tests.support.webserver import serving


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hard(tmp_path_factory.mktemp("hard") / "tree")


def pushed(store: OpenStore, tar: Path | str, ref: str = "main") -> Pushed:
    with open_source(tar) as source:
        return push_archive(store, source, ref)


def given_back(store: OpenStore, ref: str = "main") -> tuple[Told, bytes]:
    out = io.BytesIO()
    return write_tar(store, store.snapshot(ref), out), out.getvalue()


def assert_same(store: OpenStore, tar: bytes, ref: str = "main") -> None:
    told, back = given_back(store, ref)
    assert back == tar
    assert told == Told(f"sha256:{hashlib.sha256(tar).hexdigest()}", len(tar), exact=True)


def entries(store: OpenStore, ref: str = "main") -> Iterator[Entry]:
    file_map = load_map(store, store.snapshot(ref), pages=True)
    waiting = [file_map.lookup(b"")]
    while waiting:
        if (entry := waiting.pop()) is not None:
            yield entry
            waiting += file_map.list(entry.path) if entry.kind == "dir" else []


def told(entry: Entry, *, but: tuple[str, ...] = ()) -> tuple[object, ...]:
    facts = "path", "kind", "size", "mode", "uid", "gid", "mtime_ns", "links", "digest", "target", "device", "xattrs"
    return tuple(getattr(entry, fact) for fact in facts if fact not in but)


def chunks(store: OpenStore, ref: str) -> set[str]:
    return {digest for entry in entries(store, ref) for _, _, digest, _ in entry.chunks}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_tar_of_the_hard_tree_comes_back_byte_for_byte(
    store: OpenStore, hard: Path, tmp_path: Path, program: str
) -> None:
    tar = written_by(program, hard, tmp_path / "hard.tar")
    pushed(store, tar)
    assert_same(store, tar.read_bytes())
    assert verify(store, read_data=100).damages == ()


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_tar_comes_back_byte_for_byte(store: OpenStore, tmp_path: Path, odd: str) -> None:
    tar = ODD[odd]()
    (tmp_path / "odd.tar").write_bytes(tar)
    pushed(store, tmp_path / "odd.tar")
    assert_same(store, tar)
    assert verify(store, read_data=100).damages == ()


@pytest.mark.parametrize("program", ["pax of everything", "pax sparse 1.0", "gnu sparse"])
def test_the_tree_of_a_tar_is_that_of_the_directory_it_unpacks_to_in_the_same_chunks(
    store: OpenStore, hard: Path, tmp_path: Path, program: str
) -> None:
    tar = written_by(program, hard, tmp_path / "hard.tar")
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--same-owner", "-xpf", tar, "-C", tmp_path / "out"],
        check=True,
    )
    first = pushed(store, tar, "tar")
    second = store.push(tmp_path / "out", "directory")
    assert (first.tree, first.entries, first.files, first.bytes) == (
        second.tree, second.entries, second.files, second.bytes,
    )  # fmt: skip
    assert chunks(store, "tar") == chunks(store, "directory")
    assert sorted(map(told, entries(store, "tar"))) == sorted(map(told, entries(store, "directory")))
    assert second.packs_sent <= 1
    store.pull("tar", tmp_path / "pulled")
    assert differences(tmp_path / "out", tmp_path / "pulled") == []


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd,
    "xz": lzma.compress,
    "xz in two streams": lambda data: lzma.compress(data[:3000]) + lzma.compress(data[3000:]),
    "bzip2": bz2.compress,
}
FEW = [(f"{size}", noise(size)) for size in range(99)]
A_TAR = a_tar(("dir", None), ("dir/a", b"content"), ("large", noise(LARGE + 1)), *FEW)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_tar_of_any_compression_is_one_tar(tmp_path: Path, compression: str) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "a.tar").write_bytes(COMPRESSIONS[compression](A_TAR))
    run.good("push", "a.tar", "main")
    with (tmp_path / "a.tar").open("rb") as file, subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as cat:
        again = subprocess.run(
            run.command("push", "-", "main", "--json"), stdin=cat.stdout, env=run.environment, capture_output=True
        )
    assert (again.returncode, b'"unchanged": true' in again.stdout) == (0, True), again
    back = subprocess.run(run.command("tar", "main"), env=run.environment, capture_output=True)
    assert (back.returncode, back.stdout == A_TAR) == (0, True)


def test_a_tar_that_a_server_has_is_read_from_there(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.tar.xz").write_bytes(lzma.compress(A_TAR))
    with serving(tmp_path / "served") as url:
        run.good("push", f"{url}/a.tar.xz", "main")
        missing = run("push", f"{url}/b.tar.xz", "other")
    assert (missing.code, "b.tar.xz" in missing.err) == (3, True)
    run.good("tar", "main", "-o", "back.tar")
    assert (tmp_path / "back.tar").read_bytes() == A_TAR


def test_the_same_tar_again_sends_nothing_and_writes_nothing(store: OpenStore, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(A_TAR)
    first = pushed(store, tmp_path / "a.tar")
    again = pushed(store, tmp_path / "a.tar")
    assert (again.unchanged, again.bytes_stored, again.packs_sent) == (True, 0, 0)
    assert again.snapshot == first.snapshot
    # Elsewhere its chunks and pages are found, and only what names them is written.
    other = pushed(open_store(store.url, cache_dir=tmp_path / "other"), tmp_path / "a.tar", "other")
    assert (other.tree, other.chunks_sent) == (first.tree, 0)
    assert_same(store, A_TAR, "other")


@pytest.mark.parametrize("edit", ["a content", "an owner", "one more", "one less"])
def test_of_an_edited_tar_only_what_is_new_is_sent(store: OpenStore, tmp_path: Path, edit: str) -> None:
    files = [(f"dir-{number // 100}/{number}", noise(900, number)) for number in range(3000)]
    (tmp_path / "a.tar").write_bytes(a_tar(*files))
    before = pushed(store, tmp_path / "a.tar")
    if edit == "a content":
        files[1500] = (files[1500][0], b"another")
    elif edit == "one more":
        files.insert(1500, ("dir-15/more", b"another"))
    elif edit == "one less":
        del files[1500]
    tar = bytearray(a_tar(*files))
    if edit == "an owner":
        at = tar.index(b"dir-15/1500\0")
        header = tar[at : at + 512]
        header[108:116] = b"0001750\0"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        tar[at : at + 512] = header
    (tmp_path / "b.tar").write_bytes(tar)
    after = pushed(store, tmp_path / "b.tar")
    # A content, its page and that of the root, two pages of split metadata, the outline.
    assert after.chunks_sent <= 6
    assert before.chunks_sent > 3000
    assert_same(store, bytes(tar))


def test_a_directory_pushed_over_a_tar_has_no_split_metadata(store: OpenStore, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(a_tar(("a", b"content")))
    first = pushed(store, tmp_path / "a.tar")
    store.pull("main", tmp_path / "out")
    second = store.push(tmp_path / "out", "main")
    assert (second.tree, second.unchanged) == (first.tree, False)
    told, _ = given_back(store)
    assert not told.exact
    third = pushed(store, tmp_path / "a.tar")
    assert not third.unchanged
    assert_same(store, (tmp_path / "a.tar").read_bytes())


def test_of_a_tree_that_was_no_tar_comes_the_stream_that_pack_writes(
    store: OpenStore, hard: Path, tmp_path: Path
) -> None:
    store.push(hard, "main")
    run = Sapwood(tmp_path)
    run.good("pack", f"{store.url}#main", "packed.tar.gz")
    said = run.good("tar", f"{store.url}#main", "--json", "-o", "a.tar")
    tar = (tmp_path / "a.tar").read_bytes()
    assert said.document["exact"] is False
    assert said.document["tar"] == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    assert tar.endswith(bytes(1024))
    # docs/archive.md: before it a global header.
    assert zlib_all((tmp_path / "packed.tar.gz").read_bytes()).startswith(tar[1024:-1024])


CUTS = [1, 100, 512, 513, 1000, 1024 + 700_000, 1024 + 700_000 + 300]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("compression", ["plain", "gzip", "xz"])
def test_a_cut_tar_is_refused_and_the_ref_stays(store: OpenStore, tmp_path: Path, compression: str, cut: int) -> None:
    tar = a_tar(("dir/first", noise(700_123)), ("second", b"content"))
    (tmp_path / "a.tar").write_bytes(a_tar(("old", b"content")))
    old = pushed(store, tmp_path / "a.tar")
    data = COMPRESSIONS[compression](tar)
    (tmp_path / "cut.tar").write_bytes(data[: cut if compression == "plain" else len(data) * cut // len(tar)])
    with pytest.raises(SapwoodError) as refused:
        pushed(store, tmp_path / "cut.tar")
    assert refused.value.kind in ("archive-corrupt", "invalid")
    assert "cut.tar" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert store.snapshot("main").digest == old.snapshot
    assert verify(store, read_data=100).damages == ()


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty, and a tar is not"),
    "a text": (b"no tar at all\n" * 100, "it is neither a directory nor a tar"),
    "a name that leads outside": (a_tar(("../a", b"x")), "../a"),
    "a link to nothing": (a_tar(("a", "gone")), "gone"),
    "an entry below a file": (a_tar(("a", b"x"), ("a/b", b"y")), "a/b"),
    "damage in the middle": (
        b"other".join(a_tar(("a", b"x"), ("b", b"y")).rsplit(b"ustar", 1)),
        "at byte 1024 of the tar",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_unpacked_is_refused_by_name_and_no_store_is_moved(tmp_path: Path, wrong: str) -> None:
    data, found = WRONG[wrong]
    run = Sapwood(tmp_path)
    (tmp_path / "wrong.tar").write_bytes(data)
    said = run("push", "wrong.tar", "main")
    assert said.code in (2, 5)
    assert said.err.startswith("sapwood: wrong.tar")
    assert found in said.err
    assert run("ls", "main").code == (2 if wrong == "empty" else 3)  # of what is empty no store was made


def test_scripts_push_and_write_a_tar_by_the_store(store: OpenStore, tmp_path: Path) -> None:
    tar = a_tar(("a", b"content"), ("a", b"later"))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar))
    done = store.push_tar(tmp_path / "a.tar.gz", "main")
    assert done.snapshot == store.snapshot("main").digest
    assert store.push_tar(str(tmp_path / "a.tar.gz"), "main").unchanged
    out = io.BytesIO()
    assert store.write_tar("main", out).exact
    assert out.getvalue() == tar
    with pytest.raises(SapwoodError, match="missing") as refused:
        store.push_tar(tmp_path / "none.tar", "main")
    assert refused.value.kind == "path-missing"


# Of pages, packs on their way and what Python itself takes: docs/archive.md.
MOST_MB = 256


@pytest.mark.timeout(300)
def test_memory_is_bounded_however_large_the_tar(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    piece = noise(32 << 20)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number in range(20):
            info = tarfile.TarInfo(f"{number}")
            info.size = len(piece)
            tar.addfile(info, io.BytesIO(number.to_bytes(8) + piece[8:]))
        for number in range(30_000):
            tar.addfile(tarfile.TarInfo(f"dir/{number % 300}/{number}"))
    pushed = run_bounded(run, "push", "a.tar", "main")
    assert (pushed.said.code, pushed.peak_mb < MOST_MB) == (0, True), pushed
    back = run_bounded(run, "tar", "main", "-o", "back.tar")
    assert (back.said.code, back.peak_mb < MOST_MB) == (0, True), back
    assert filecmp.cmp(tmp_path / "a.tar", tmp_path / "back.tar", shallow=False)


def test_a_tar_that_breaks_before_its_first_byte_is_damaged_not_empty(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "a.tar.bz2").write_bytes(bz2.compress(a_tar(("a", noise(100_000))))[:1000])
    for words in (("push", "a.tar.bz2", "main"), ("convert", "a.tar.bz2", "out")):
        said = run(*words)
        assert (said.code, said.out, "is empty" in said.err) == (5, "", False), said
        assert said.err.startswith("sapwood: a.tar.bz2 is damaged: ")


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "a.tar").write_bytes(a_tar(("a", b"content")))
    for options in (["--exclude", "a"], ["--index", "index"], ["--gitignore"], ["--skip-unreadable"]):
        said = run("push", "a.tar", "main", *options)
        assert (said.code, "a.tar is a tar" in said.err) == (2, True)
    assert not run.store.exists()
    run.good("push", "a.tar", "main")
    said = run("tar", "main", "--json")
    assert (said.code, said.out, "not both" in said.err) == (2, "", True)


def test_nothing_is_left_of_a_tar_that_cannot_be_given_back(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "a.tar").write_bytes(A_TAR)
    run.good("push", "a.tar", "main")
    for pack in (run.store / "packs").iterdir():
        pack.unlink()
    before = sorted(tmp_path.iterdir())
    said = run("tar", "main", "-o", "back.tar")
    assert (said.code, said.out) == (3, "")
    assert sorted(tmp_path.iterdir()) == before


def test_a_pipe_that_nobody_ends_can_be_interrupted(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    out, into = os.pipe()
    os.write(into, A_TAR[:40_000])
    store = open_store(str(run.store), create=True)
    asked: list[int] = []

    def tired(_: object) -> None:
        asked.append(1)
        if len(asked) > 3:
            raise KeyboardInterrupt

    fifo = Path(f"/dev/fd/{out}")
    with pytest.raises(KeyboardInterrupt), open_source(fifo) as source:
        push_archive(store, source, "main", progress=tired)
    os.close(into)
    os.close(out)
    assert not (run.store / "refs").exists()
