"""A person with tar, zstd and sha256sum, and nothing of ours, gets every byte back out of a store."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from sapwood import open_store
from tests.support.damage import flipped, harm
from tests.support.trees import LARGE, differences, noise

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


def recover(store: Path, ref: str, out: Path) -> str:
    """Run the script of docs/recovery.md; return what it complains of."""
    [script] = re.findall(r"^```sh\n(.*?)^```$", Path("docs/recovery.md").read_text(encoding="utf-8"), re.M | re.S)
    done = subprocess.run(
        ["bash", "-c", script, "recover.sh", str(store), ref, str(out)], capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.decode(errors="replace")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with everything that a shell can write, and names that are hard for it."""
    root = tmp_path / "tree"
    names = [b"plain", b" blank ", b"new\nline", b"tab\t", b"quote\"'", b"back\\slash", b"\\u0041", b"\\\\udc80",
             b"-n", b"\xff\xfe", "é😀".encode(), b"$(echo no)", b"*", b"%s", b"\x01\x7f",
             b'","mode":0,"', b"a,b}"]  # fmt: skip
    for name in names:
        folder = os.fsencode(root) + b"/" + name
        os.makedirs(folder)
        Path(os.fsdecode(folder + b"/" + name)).write_bytes(name)
        os.symlink(name, folder + b"/link to")
    (root / "empty").touch()
    (root / "large").write_bytes(noise(LARGE + 300_000, 1))
    (root / "other name").hardlink_to(root / "large")
    os.mkfifo(root / "fifo")
    for number in range(60):
        (root / "plain" / f"{number}").write_text(f"file {number}\n" * 60)
    (root / "plain" / "7").chmod(0o4751)
    os.utime(root / "plain" / "8", ns=(0, 1_000_000_001))
    (root / "plain").chmod(0o500)
    os.utime(root / "plain", ns=(0, 1_234_567_890_123_456_789))
    return root


def test_the_page_on_recovery_gets_a_tree_back_with_all_a_shell_can_set(tree: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(tree / "plain", "other/one")
    store.push(tree, "main")
    assert recover(tmp_path / "store", "main", tmp_path / "out") == ""
    assert differences(tree, tmp_path / "out") == []
    assert recover(tmp_path / "store", "other/one", tmp_path / "one") == ""
    assert differences(tree / "plain", tmp_path / "one") == []


def test_the_page_on_recovery_names_what_is_damaged(tree: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    store.push(tree, "main")
    [frame, *_] = [chunk[0] for chunk in store.tree("main").lookup(b"large").entry.chunks]
    harm(tmp_path / "store" / "packs" / f"{frame.pack}.tar.zst", flipped(frame.offset + frame.length // 2, 1))
    said = recover(tmp_path / "store", "main", tmp_path / "out")
    assert "chunks above are damaged" in said
    assert f"damaged: {tmp_path}/out/large\n" in said
