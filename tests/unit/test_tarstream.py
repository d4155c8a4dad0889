"""A tree as a tar stream, out of a file map that is not in memory whole."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from sapwood import open_store, tarstream
from sapwood._core.filemap import FileMap
from sapwood.address import open_address
from sapwood.fetch import bring_pages
from tests.support.trees import make_hard


def stream(address: str) -> bytes:
    out = io.BytesIO()
    tarstream.write_stream(*open_address(address), out)
    return out.getvalue()


def test_a_tree_of_many_pages_is_written_while_few_of_them_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    make_hard(root)
    for number in range(40):
        (root / f"dir{number}" / "below").mkdir(parents=True)
        for name in range(100):
            (root / f"dir{number}" / f"file{name}").write_bytes(b"%d" % number)
        (root / f"dir{number}" / "below" / "file").write_bytes(b"")
        os.link(
            root / f"dir{39 - number if number > 19 else number}" / "file7", root / f"dir{number}" / "below" / "link"
        )
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(root, "main")
    address = f"{tmp_path / 'store'}#main"
    whole = stream(address)
    monkeypatch.setattr(tarstream, "_AHEAD", 2)
    monkeypatch.setattr(tarstream, "_KEPT", 3)
    brought = list[tuple[FileMap, set[int]]]()

    def bring(store: object, file_map: FileMap, wanted: Iterable[int]) -> None:
        pages = set(wanted)
        bring_pages(store, file_map, pages)  # type: ignore[arg-type]
        if brought and brought[-1][0] is file_map:
            brought[-1][1].update(pages)
        else:
            brought.append((file_map, pages))

    monkeypatch.setattr(tarstream, "bring_pages", bring)
    assert stream(address) == whole
    assert len(brought[0][0].pages()) > 8
    assert len(brought) > 2
    assert max(len(pages) for _, pages in brought) <= 4
