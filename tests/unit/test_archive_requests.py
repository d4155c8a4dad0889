"""What archives on servers cost: requests and bytes until the first byte of a file, with and without a kept TOC."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from sapwood.archive import Footer
from sapwood.errors import CorruptError
from sapwood.open import open_tree
from sapwood.seekindex import index_archive
from sapwood.store import tocs
from sapwood.store.archive import open_archive
from tests.support import stargz
from tests.support.badserver import replying
from tests.support.cli import Sapwood
from tests.support.ranges import serve, span
from tests.support.storeplaces import HttpPlace
from tests.support.trees import noise

LARGE = 3_000_000
SLACK = 128 * 1024
TAIL = 64 * 1024


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Many files, so that the TOC is longer than what the first request brings, and a large one of several frames."""
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(1500):
        (root / f"{number}").write_text(f"{number}")
    (root / "large").write_bytes(noise(LARGE))
    return root


@contextmanager
def counting(data: bytes) -> Iterator[tuple[str, list[int]]]:
    """Serve `data`; the values are its URL and the bytes of each reply so far."""
    sent = list[int]()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        begin, end = span(handler, len(data)) or (0, len(data))
        sent.append(end - begin)
        serve(handler, data)

    with replying(reply) as url:
        yield url, sent


def first_byte(url: str, path: bytes) -> bytes:
    return next(open_tree(url).read_blob(path))[:1]


@pytest.mark.parametrize("options", [(), ("--zstd",)])
def test_the_first_byte_of_a_file_takes_three_requests_and_two_with_a_kept_toc(
    tree: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    archive = tmp_path / ("x.tar.zst" if options else "x.tar.gz")
    Sapwood(tmp_path).good("pack", *options, tree, archive)
    data = archive.read_bytes()
    footer = Footer.read(data[-TAIL:], len(data))
    assert footer
    assert footer.toc
    toc = footer.toc[1]
    assert toc > TAIL
    file_map = open_archive(str(archive))[0].file_map
    for path in (b"7", b"large"):
        entry = file_map.lookup(path)
        assert entry
        frames = sum(frame.length for frame, *_ in entry.chunks)
        with counting(data) as (url, sent):
            address = f"{url}/{archive.name}"
            assert first_byte(address, path) == (tree / path.decode()).read_bytes()[:1]
            assert len(sent) == 3
            assert sum(sent) <= toc + frames + SLACK
            sent.clear()
            assert first_byte(address, path) == (tree / path.decode()).read_bytes()[:1]
            assert len(sent) == 2
            assert sum(sent) <= TAIL + frames


def requests(url: str, tree: Path) -> int:
    archive, known = open_archive(url)
    assert known.tree == open_tree(str(tree)).digest
    return archive.requests()["get"]


def test_a_kept_toc_is_used_until_it_is_damaged_or_the_archive_is_another(
    tree: Path, nginx_place: HttpPlace, cache_dir: Path
) -> None:
    url = f"{nginx_place.read_url}/bundle.tar.gz"
    stargz.make(tree, nginx_place.root / "bundle.tar.gz")
    assert [requests(url, tree), requests(url, tree)] == [2, 1]
    kept = list((cache_dir / "archives").iterdir())
    assert len(kept) == 2
    for path in kept:
        good = path.read_bytes()
        for damaged in (good[:-1] + b"x", good[:-1], b"", good[1:], good[:10] + b"xx" + good[12:]):
            path.write_bytes(damaged)
            assert [requests(url, tree), requests(url, tree)] == [2, 1]
    (tree / "new").touch()
    stargz.make(tree, nginx_place.root / "bundle.tar.gz")
    assert [requests(url, tree), requests(url, tree)] == [2, 1]


def test_a_toc_is_forgotten_when_its_archive_shows_damage(tree: Path, nginx_place: HttpPlace, cache_dir: Path) -> None:
    archive = stargz.make(tree, nginx_place.root / "bundle.tar.gz")
    data = archive.read_bytes()
    archive.write_bytes(bytes(300_000) + data[300_000:])
    opened = open_tree(f"{nginx_place.read_url}/bundle.tar.gz")
    assert len(list((cache_dir / "archives").iterdir())) == 2
    with pytest.raises(CorruptError):
        list(opened.read_blob(b"1"))
    assert not list((cache_dir / "archives").iterdir())


def test_one_toc_of_two_urls_is_kept_once_by_its_digest(tree: Path, nginx_place: HttpPlace, cache_dir: Path) -> None:
    archive = stargz.make(tree, nginx_place.root / "bundle.tar.gz")
    os.link(archive, nginx_place.root / "again.tar.gz")
    maps = set()
    for name in ("bundle", "again"):
        url = f"{nginx_place.read_url}/{name}.tar.gz"
        assert [requests(url, tree), requests(url, tree)] == [2, 1]
        maps.add(open_archive(url)[1].map.removeprefix("sha256:"))
    names = {path.name for path in (cache_dir / "archives").iterdir()}
    assert {name for name in names if not name.endswith(".toc")} == maps
    assert (len(names), len(maps)) == (3, 1)


def test_what_is_kept_has_a_bound_and_what_was_used_longest_ago_goes_first(
    tree: Path, nginx_place: HttpPlace, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = []
    for number in range(4):
        (tree / "new").write_text(f"{number}")
        stargz.make(tree, nginx_place.root / f"{number}.tar.gz")
        urls.append(f"{nginx_place.read_url}/{number}.tar.gz")
    costs = [open_archive(url)[0].requests()["get"] for url in urls[:3]]
    sizes = [path.stat().st_size for path in (cache_dir / "archives").iterdir() if not path.name.endswith(".toc")]
    # Room for three, and for what says which they are.
    monkeypatch.setattr(tocs, "MOST", max(sizes) * 3 + 6 * 4096)
    costs += [open_archive(urls[number])[0].requests()["get"] for number in (0, 3, 0, 2, 3, 1)]
    assert costs == [2, 2, 2, 1, 2, 1, 1, 1, 2]
    assert sum(path.stat().st_size for path in (cache_dir / "archives").iterdir()) <= tocs.MOST
    monkeypatch.setattr(tocs, "MOST", 1000)
    # One for which there is no room takes none from others.
    assert [open_archive(urls[number])[0].requests()["get"] for number in (0, 0, 3)] == [2, 2, 1]


def test_a_seek_index_on_a_server_comes_once(tree: Path, nginx_place: HttpPlace, cache_dir: Path) -> None:
    for number in range(2000):
        (tree / f"random-{number}").write_bytes(noise(16, seed=number))
    archive = nginx_place.root / "bundle.tar.gz"
    subprocess.run(["tar", "-czf", archive, "."], cwd=tree, check=True)
    size = index_archive(archive).size
    assert size > 2 * TAIL
    url = f"{nginx_place.read_url}/bundle.tar.gz"
    with counting((nginx_place.root / "bundle.tar.gz.sapwood").read_bytes()) as (index, sent):
        for expected in (2, 1):
            assert b"".join(open_tree(url, seek_index=f"{index}/x").read_blob(b"7")) == b"7"
            # Besides, a window each, as what is read lies behind a checkpoint or not.
            assert [length for length in sent if length >= TAIL][1:] == [length for length in sent if length > TAIL]
            assert len([length for length in sent if length >= TAIL]) == expected
            sent.clear()
        [kept] = (cache_dir / "archives").iterdir()
        kept.write_bytes(kept.read_bytes()[:-1] + b"x")
        assert b"".join(open_tree(url, seek_index=f"{index}/x").read_blob(b"7")) == b"7"
        assert len([length for length in sent if length >= TAIL]) == 2


def test_a_cache_that_cannot_be_written_costs_a_request(tree: Path, nginx_place: HttpPlace, cache_dir: Path) -> None:
    url = f"{nginx_place.read_url}/bundle.tar.gz"
    stargz.make(tree, nginx_place.root / "bundle.tar.gz")
    (cache_dir / "archives").write_text("in the way")
    assert [requests(url, tree), requests(url, tree)] == [2, 2]
