"""The archives, the seek index and the objects of a store in `archives/` are read, and written with the same bytes."""

import io
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.digests import MapDigest, PackName, SnapshotDigest, digest_of
from sapwood.open import open_tree
from sapwood.store.snapshot import Snapshot
from sapwood.tarstream import write_tar
from tests.golden.make_archives import HERE, long_tar, make, tar

TREE = "sha256:82f8e03b9931659ee5b2b4c2e8f1f14ff7988d0b92ace3763c0d4baa39f43879"
OLD = {"cut-by-content.tar.gz", "cut-by-content.tar.zst"}
"""Written before there was docs/decisions/0035."""
FILES = {
    b"d/a": b"second\n",
    b"d/empty": b"",
    b"d/zeros": bytes((2 << 20) + 1),
    b"d/" + b"long" * 30: b"long\n",
    b"d/\xff": b"not UTF-8\n",
    b"hard": b"second\n",
}


def kept() -> Snapshot:
    stored = (HERE / "snapshot.json").read_bytes()
    return Snapshot.decode(stored, digest_of(SnapshotDigest, stored), url="golden")


def test_what_is_written_now_has_the_same_bytes(tmp_path: Path) -> None:
    make(tmp_path, (HERE / "plain.tar.gz").read_bytes(), (HERE / "long.tar.gz").read_bytes())
    made, golden = ({path.name: path.read_bytes() for path in place.iterdir()} for place in (tmp_path, HERE))
    assert made.keys() == golden.keys() - OLD
    assert [name for name in made if made[name] != golden[name]] == []


@pytest.mark.parametrize("name", ["tree.tar.gz", "tree.tar.zst", "plain.tar.gz", *sorted(OLD)])
def test_every_file_is_read_of_each_archive_and_by_the_seek_index(name: str) -> None:
    tree = open_tree(str(HERE / name))
    assert tree.digest == TREE
    assert {path: b"".join(tree.read_blob(path)) for path in FILES} == FILES


def test_by_a_seek_index_with_a_checkpoint_within_a_block_the_file_is_read() -> None:
    assert (HERE / "long.tar.gz.sapwood").read_bytes()[-16] == 2
    content = b"".join(open_tree(str(HERE / "long.tar.gz")).read_blob(b"long"))
    assert content == long_tar()[512:][: len(content)]
    assert len(content) == 5_000_000


def test_of_the_objects_of_a_store_comes_the_very_tar_that_was_pushed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True, cache_dir=tmp_path / "cache")
    snapshot = kept()
    for number, pack in enumerate(snapshot.packs):
        store.put_pack(PackName(pack), (HERE / f"pack-{number}.tar.zst").read_bytes())
    store.put_map(MapDigest(snapshot.map), (HERE / "map.jsonl.zst").read_bytes())
    out = io.BytesIO()
    assert write_tar(store, snapshot, out).exact
    assert out.getvalue() == tar(large=False)
