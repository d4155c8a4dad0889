"""Archives as trees: listed, read, pulled, compared and mounted where they lie, as a file and through a web server."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from sapwood.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError
from sapwood.open import open_tree
from sapwood.pull import pull
from sapwood.store.archive import open_archive
from tests.support import stargz
from tests.support.cli import Sapwood
from tests.support.mounting import mounted
from tests.support.storeplaces import HttpPlace
from tests.support.trees import differences, make_hard, noise

NOT_UTF8 = os.fsdecode(b"caf\xe9")


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of no, one and several chunks, links, a FIFO, names that are not UTF-8, times to the nanosecond."""
    root = tmp_path / "tree"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a").write_text("hello\n")
    (root / "none").touch()
    (root / "sub" / "large").write_bytes(noise(250_000))
    for number in range(20):
        (root / "sub" / "deep" / f"{number}").write_text(f"{number}\n" * number)
    (root / "sub" / "hard").hardlink_to(root / "a")
    (root / "link").symlink_to("sub/large")
    (root / NOT_UTF8).write_text("coffee\n")
    os.mkfifo(root / "fifo")
    (root / "a").chmod(0o755)
    os.utime(root / "a", ns=(0, 1_709_208_000_123_456_789))
    return root


def archive_name(kind: str) -> str:
    return "bundle.tar.zst" if kind.startswith("zstd") else "bundle.tar.gz"


@pytest.mark.parametrize("kind", stargz.KINDS)
def test_an_archive_of_every_dialect_is_the_tree_it_was_made_of(
    run: Sapwood, tree: Path, tmp_path: Path, kind: str
) -> None:
    archive = stargz.make(tree, tmp_path / archive_name(kind), kind)
    assert open_tree(str(archive)).digest == open_tree(str(tree)).digest
    assert run.good("diff", archive, tree).out == ""
    assert run.good("ls", "-R", archive).out == run.good("ls", "-R", tree).out
    assert run.good("cat", archive, "a").out == "hello\n"
    said = run.good("pull", "--json", archive, tmp_path / "pulled").document
    assert said["notes"] == []
    assert differences(tree, tmp_path / "pulled") == []
    again = run.good("pull", "--json", archive, tmp_path / "pulled").document
    assert (again["written"], again["bytesFetched"]) == (0, 0)


@pytest.mark.parametrize("options", [(), ("--zstd",), ("--min-chunk-size", "200000")])
def test_what_pack_wrote_of_a_hard_tree_comes_back_with_everything(
    run: Sapwood, tmp_path: Path, options: tuple[str, ...]
) -> None:
    tree = make_hard(tmp_path / "hard")
    archive = tmp_path / archive_name("zstd" if "--zstd" in options else "gzip")
    run.good("pack", *options, tree, archive)
    assert run.good("diff", archive, tree).out == ""
    run.good("pull", archive, tmp_path / "pulled")
    assert differences(tree, tmp_path / "pulled") == []
    with mounted(str(archive), tmp_path / "mount", tmp_path / "cache"):
        assert differences(tree, tmp_path / "mount") == []


@pytest.mark.parametrize("kind", ["estargz-shared", "crfs", "zstd"])
def test_a_mounted_archive_shows_its_tree(tree: Path, tmp_path: Path, kind: str) -> None:
    archive = stargz.make(tree, tmp_path / archive_name(kind), kind)
    place = tmp_path / "mount"
    with mounted(str(archive), place, tmp_path / "cache"):
        assert differences(tree, place) == []


def test_an_archive_behind_a_web_server_is_read_by_range(tree: Path, nginx_place: HttpPlace, tmp_path: Path) -> None:
    (tree / "unwanted").write_bytes(noise(3_000_000))
    stargz.make(tree, nginx_place.root / "bundle.tar.gz")
    url = f"{nginx_place.read_url}/bundle.tar.gz"
    archive, known = open_archive(url)
    assert archive.requests() == {"get": 1, "put": 0, "list": 0, "head": 0, "delete": 0}
    pulled = pull(archive, known, tmp_path / "pulled")
    assert differences(tree, tmp_path / "pulled") == []
    assert pulled.tree == open_tree(str(tree)).digest
    again, _ = open_archive(url)
    assert b"".join(open_tree(url).read_blob(b"a")) == b"hello\n"
    assert sum(again.requests().values()) == 1


def test_what_is_no_archive_with_a_toc_is_refused_with_a_remedy(tmp_path: Path) -> None:
    plain = tmp_path / "plain.tar.gz"
    for content in (gzip.compress(b""), gzip.compress(noise(200_000))):
        plain.write_bytes(content)
        with pytest.raises(InvalidInputError) as refused:
            open_tree(str(plain))
        assert refused.value.kind == "archive-without-toc"
        assert refused.value.hint is not None
    with pytest.raises(NotFoundError) as absent:
        open_tree(str(tmp_path / "absent.tar.gz"))
    assert absent.value.kind == "object-missing"


def test_an_archive_that_is_written_to_while_it_is_read_is_an_error(tree: Path, tmp_path: Path) -> None:
    path = stargz.make(tree, tmp_path / "bundle.tar.gz")
    opened = open_tree(str(path))
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ConflictError) as changed:
        list(opened.read_blob(b"a"))
    assert changed.value.kind == "archive-changed"


def test_no_damaged_byte_of_an_archive_is_served(tree: Path, tmp_path: Path) -> None:
    path = stargz.make(tree, tmp_path / "bundle.tar.gz")
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 10_007):
        data[at] ^= 0x5A
    path.write_bytes(data)
    with pytest.raises(CorruptError, match=r"bundle\.tar\.gz"):
        list(open_tree(str(path)).read_blob(b"sub/large"))
    with pytest.raises(CorruptError, match=r"bundle\.tar\.gz"):
        pull(*open_archive(str(path)), tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_an_archive_that_is_cut_anywhere_is_refused_or_whole(tree: Path, tmp_path: Path) -> None:
    path = stargz.make(tree, tmp_path / "bundle.tar.gz")
    data = path.read_bytes()
    for end in (len(data) - 1, len(data) - 51, len(data) // 2, 40):
        path.write_bytes(data[:end])
        with pytest.raises((InvalidInputError, CorruptError)):
            open_tree(str(path))
