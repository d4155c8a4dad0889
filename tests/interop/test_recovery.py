"""A person with tar, zstd and sha256sum, and nothing of ours, gets every byte back out of a store."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sapwood import open_store

# Each pack is unpacked and each chunk proved by its name; the map then says which file is which chunk.
UNPACK = """
set -eu
cd "$1"
for pack in packs/*.tar.zst; do
    test "$(sha256sum < "$pack" | cut -d' ' -f1)" = "$(basename "$pack" .tar.zst)"
    zstd -qdc "$pack" | tar -x -C "$2"
done
cd "$2"
for chunk in *; do echo "$chunk  $chunk"; done | sha256sum --quiet -c
"""


def test_packs_are_plain_archives_of_chunks_named_by_their_sha256(tmp_path: Path) -> None:
    tree, chunks = tmp_path / "tree", tmp_path / "chunks"
    tree.mkdir()
    chunks.mkdir()
    (tree / "small").write_text("a small file\n")
    (tree / "empty").touch()
    large = os.urandom(3_000_000) + bytes(3_000_000)
    (tree / "large").write_bytes(large)
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(tree, "main")
    subprocess.run(["sh", "-c", UNPACK, "-", tmp_path / "store", chunks], check=True)
    recovered = store.tree("main").lookup(b"large").entry.chunks
    assert b"".join((chunks / digest.removeprefix("sha256:")).read_bytes() for _, _, digest, _ in recovered) == large
    small = store.tree("main").lookup(b"small").digest
    assert small is not None
    assert (chunks / small.removeprefix("sha256:")).read_text() == "a small file\n"


def test_a_file_map_is_lines_of_json_for_zstd_and_grep(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "one").write_text("1")
    open_store(str(tmp_path / "store"), create=True).push(tree, "main")
    [fence] = (tmp_path / "store" / "maps").iterdir()
    text = subprocess.check_output(["zstd", "-qdc", fence])
    assert subprocess.check_output(["sha256sum"], input=text).decode()[:64] == fence.name.partition(".")[0]
    page = text.split(b'"digest":"sha256:')[1][:64].decode()
    unpacked = b"".join(
        subprocess.run(f"zstd -qdc {pack} | tar -xO {page}", shell=True, capture_output=True, check=False).stdout
        for pack in (tmp_path / "store" / "packs").iterdir()
    )
    assert b'"name":"one","type":"reg","size":1' in unpacked
