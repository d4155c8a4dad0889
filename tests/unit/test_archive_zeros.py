"""What zstd:chunked calls zeros: however much there is, it is not fetched, is proved, and becomes holes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from sapwood.errors import CorruptError
from sapwood.open import open_tree
from sapwood.pull import pull
from sapwood.store.archive import open_archive
from tests.support import hostile
from tests.support.cli import Sapwood
from tests.support.mounting import mounted
from tests.support.trees import MIB, noise

DATA = noise(100_000)
ZEROS = 70 * MIB


def a_file(**said: Any) -> list[dict[str, Any]]:
    """A file of data, zeros, and data again, as containers/storage says it."""
    size = 2 * len(DATA) + ZEROS
    content = hashlib.sha256(DATA + bytes(ZEROS) + DATA).hexdigest()
    data = {"offset": 0, "chunkSize": len(DATA), "chunkDigest": hostile.digest(DATA)}
    first = {"name": "a", "type": "reg", "mode": 0o644, "size": size, "digest": f"sha256:{content}", **data}
    zeros = {
        "name": "a",
        "type": "chunk",
        "chunkOffset": len(DATA),
        "chunkSize": ZEROS,
        "chunkType": "zeros",
        "offset": 9,
    }
    last = {"name": "a", "type": "chunk", "chunkOffset": len(DATA) + ZEROS, **data}
    return [{**first, **said}, zeros, last]


def written(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_bytes(hostile.archive(entries, hostile.zstd_frame(DATA), zstd=True))
    return path


def test_zeros_of_any_length_are_read_without_being_there(tmp_path: Path) -> None:
    archive = written(tmp_path / "x.tar.zst", a_file())
    assert archive.stat().st_size < 2 * len(DATA)
    opened, tree = open_archive(str(archive))
    entry = opened.file_map.lookup(b"a")
    assert entry is not None
    # What is fetched for it: the one frame of data.
    assert sum({frame.offset: frame.length for frame, *_ in entry.chunks}.values()) <= archive.stat().st_size
    pull(opened, tree, tmp_path / "pulled")
    pulled = tmp_path / "pulled" / "a"
    assert pulled.read_bytes() == DATA + bytes(ZEROS) + DATA
    assert pulled.stat().st_blocks * 512 < 3 * len(DATA) + MIB
    with mounted(str(archive), tmp_path / "mount", tmp_path / "cache"):
        assert (tmp_path / "mount" / "a").read_bytes() == DATA + bytes(ZEROS) + DATA
    run = Sapwood(tmp_path)
    assert run.good("verify", "--json", archive).document["damages"] == []
    run.good("pack", archive, "again.tar.gz")
    assert open_tree(str(tmp_path / "again.tar.gz")).digest == open_tree(str(archive)).digest


def test_a_toc_that_lies_of_zeros_is_found_out(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    archive = written(tmp_path / "x.tar.zst", a_file(digest=hostile.digest(b"other")))
    assert run("verify", archive).code == 5
    alone = {"name": "a", "type": "reg", "size": 9, "chunkType": "zeros", "digest": hostile.digest(b"not zeros")}
    for entry in (alone, {**alone, "chunkDigest": hostile.digest(b"not zeros")}):
        with pytest.raises(CorruptError, match="zeros"):
            open_tree(str(written(tmp_path / "y.tar.zst", [entry])))
    right = {**alone, "digest": hostile.digest(bytes(9))}
    assert b"".join(open_tree(str(written(tmp_path / "y.tar.zst", [right]))).read_blob(b"a")) == bytes(9)


def test_zeros_of_exabytes_are_refused(tmp_path: Path) -> None:
    size = 1 << 60
    entry = {"name": "a", "type": "reg", "size": size, "chunkType": "zeros", "digest": hostile.digest(b"")}
    with pytest.raises(CorruptError, match="zeros") as refused:
        open_tree(str(written(tmp_path / "x.tar.zst", [entry])))
    assert refused.value.kind == "archive-toc-too-large"
    assert os.listdir(tmp_path) == ["x.tar.zst"]
