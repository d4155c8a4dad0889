"""What many trees hold, under many names, is fetched once and lies in the cache once."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sapwood import open_store
from tests.support.mounting import mounted, shell

NAMES = 3000
MOUNTS = 6


def test_one_content_of_three_thousand_names_and_many_trees_is_one_file_of_the_cache(
    tmp_path: Path, cache_dir: Path
) -> None:
    same = os.urandom(300_000)
    store = open_store(str(tmp_path / "store"), create=True, cache_dir=tmp_path / "other cache")
    for number in range(MOUNTS):
        tree = tmp_path / f"tree {number}"
        tree.mkdir()
        (tree / "own").write_text(f"of tree {number} alone")
        for name in range(NAMES // MOUNTS):
            (tree / f"{number} {name}").write_bytes(same)
        store.push(tree, f"tree-{number}")
    fetched = []
    for number in range(MOUNTS):
        place, stats = tmp_path / f"mount {number}", tmp_path / f"stats {number}"
        address = f"{tmp_path}/store#tree-{number}"
        with mounted(address, place, cache_dir, prefetch=False, stats=str(stats)):
            assert shell(f"cd '{place}' && md5sum [0-9]* | cut -c-32 | sort -u | wc -l").stdout == "1\n"
        fetched.append(json.loads(stats.read_text())["bytes_fetched"])
    assert fetched[0] > len(same)
    assert max(fetched[1:]) < len(same) / 2
    assert len([path for path in cache_dir.glob("objects/*/*") if path.stat().st_size == len(same)]) == 1
