"""Archives verified: every byte that the TOC tells of, and what is wrong named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import stargz
from tests.support.cli import Sapwood
from tests.support.trees import make_hard, noise


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = make_hard(tmp_path / "tree")
    (root / "large").write_bytes(noise(900_000))
    (root / "twin").write_bytes(noise(900_000))
    (root / "small").write_text("words that no other file has")
    return root


@pytest.mark.parametrize("kind", stargz.KINDS)
def test_an_archive_of_every_dialect_is_read_whole(run: Sapwood, tree: Path, tmp_path: Path, kind: str) -> None:
    name = tmp_path / ("bundle.tar.zst" if kind.startswith("zstd") else "bundle.tar.gz")
    archive = stargz.make(tree, name, kind)
    told = json.loads(run.good("verify", archive, "--json").out)
    assert told["damages"] == []
    assert archive.stat().st_size / 2 < told["bytesRead"] <= archive.stat().st_size
    assert "damaged: 0 places" in run.good("verify", archive).err


def test_each_damaged_file_is_named_and_the_others_are_read(run: Sapwood, tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar.gz"
    run.good("pack", tree, archive, "--level", "0")
    data = bytearray(archive.read_bytes())
    for content in (noise(900_000)[500_000:500_040], b"no other file"):
        data[data.index(content)] ^= 1
    archive.write_bytes(data)
    ended = run("verify", archive, "--json")
    assert ended.code == 5
    damages = json.loads(ended.out)["damages"]
    assert len(damages) == 2
    assert all(damage["key"].startswith("bytes ") for damage in damages)
    assert {"large", "small"} <= {path for damage in damages for path in damage["paths"]}
    shown = run("verify", archive)
    assert shown.code == 5
    assert "large" in shown.out


def test_a_toc_that_lies_of_a_whole_file_is_found_out(
    run: Sapwood, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "large").write_bytes(noise(900_000))
    digest = stargz.sha256
    monkeypatch.setattr(stargz, "sha256", lambda data: digest(b"" if len(data) == 900_000 else data))
    archive = stargz.make(root, tmp_path / "bundle.tar.gz")
    ended = run("verify", archive)
    assert ended.code == 5
    assert "large" in ended.out


def test_a_cut_archive_and_a_useless_option_are_refused(run: Sapwood, tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar.gz"
    run.good("pack", tree, archive)
    assert run("verify", archive, "--read-data", "5%").code == 2
    archive.write_bytes(archive.read_bytes()[:-20])
    ended = run("verify", archive)
    assert ended.code in (2, 5)
    assert str(archive) in ended.err


def test_large_files_that_compress_well_are_verified_however_the_threads_run(run: Sapwood, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_bytes(b"".join(b"%09d of %s\n" % (number, name.encode()) for number in range(6_000_000)))
    archive = tmp_path / "logs.tar.zst"
    run.good("pack", "--zstd", root, archive)
    assert archive.stat().st_size * 10 < 6_000_000 * 16 * 2
    run.good("verify", archive)
