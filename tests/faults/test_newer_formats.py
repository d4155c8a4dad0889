"""Stores written by another hand: as docs/format.md says, they are read; in a newer format, refused untouched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sapwood import open_store, open_tree
from sapwood.digests import MapDigest, PackName, TreeDigest
from sapwood.errors import FormatError
from sapwood.store import Ref
from sapwood.upkeep.forget import forget
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from tests.support.cli import Sapwood
from tests.support.collecting import age, assert_reads_back, objects
from tests.support.objects import frame_of, pack_of, put_named, tar_of
from tests.support.reapi_digest import tree_digest
from tests.support.snapshots import digest, make_snapshot
from tests.support.trees import noise

CONTENT = b"hi\n"
TIME = "2024-02-29T12:00:00.5Z"
# The newest version of each format that this sapwood reads.
NEWEST = {
    "page": 1,
    "map": 1,
    "snapshot": 2,
    "ref": 2,
    "identity": 2,
    "fragment": 1,
}


def line(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def make_store(place: Path, tree: Path, *, beside: bytes = b"", **formats: int) -> None:
    """Write a store whose ref `main` is `tree`: an executable file `a` of `CONTENT`, in a directory of its own.

    With `beside`, its pack holds that as well, and says so.
    """
    form = {"page": 1, "map": 1, "snapshot": 1, "ref": 1, "identity": 1, "fragment": 1, **formats}
    place.mkdir()
    plain = tar_of(CONTENT)
    data = put_named(place, "packs", ".tar.zst", pack_of(CONTENT, beside) if beside else frame_of(plain))
    page = line(format=form["page"], packs=[data], frames=[[0, 0, len(frame_of(plain)), len(plain)]])
    root = {"digest": tree_digest(tree), "size": 81}
    page += line(name=".", type="dir", modtime=TIME, mode=0o755, **root)
    content = digest(str, CONTENT)
    page += line(name="a", type="reg", size=3, modtime=TIME, mode=0o755, digest=content, frame=0, innerOffset=512)
    packed = frame_of(tar_of(page))
    pages = put_named(place, "packs", ".tar.zst", packed)
    fence = line(format=form["map"], tree=root["digest"], treeSize=81, entries=2, bytes=3, packs=[pages])
    where = {"frame": [0, 0, len(packed), len(tar_of(page))], "innerOffset": 512}
    fence += line(first=".", digest=digest(str, page), size=len(page), entries=2, **where)
    put_named(place, "maps", ".jsonl.zst", frame_of(fence), of=fence)
    snapshot = make_snapshot(
        tree=TreeDigest(root["digest"]), tree_size=81, map=digest(MapDigest, fence), map_size=len(fence),
        entries=2, bytes=3, packs=(PackName(data), PackName(pages)),
    )  # fmt: skip
    named = put_named(place, "snapshots", ".json", of_format(snapshot.encode(), form["snapshot"]))
    ref = Ref.next("main", digest(str, ""), None).encode()  # type: ignore[arg-type]
    ref = ref.replace(digest(str, "").encode(), b"sha256:" + named.encode())
    (place / "refs").mkdir()
    (place / "refs" / "main.ref").write_bytes(of_format(ref, form["ref"]))
    (place / "sapwood.json").write_bytes(of_format(b'{"format":1,"id":"%s"}' % (b"0" * 32), form["identity"]))
    if form["fragment"] > 1:
        put_named(place, "index", ".frag", b"SAPWFRG\n" + form["fragment"].to_bytes(4, "little") + b"newer")


def of_format(record: bytes, version: int) -> bytes:
    return record.replace(b'"format":1', b'"format":%d' % version)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(CONTENT)
    (tmp_path / "tree" / "a").chmod(0o755)
    return tmp_path / "tree"


def contents(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_store_that_was_made_by_the_format_page_alone_is_read(tmp_path: Path, tree: Path) -> None:
    make_store(tmp_path / "store", tree)
    there = open_tree(f"{tmp_path / 'store'}#main")
    assert list(there.diff(open_tree(str(tree)))) == []
    assert b"".join(there.read_blob(b"a")) == CONTENT
    assert open_store(str(tmp_path / "store")).pull("main", tmp_path / "out").notes == ()
    assert (tmp_path / "out" / "a").read_bytes() == CONTENT


def test_a_store_that_was_made_before_there_was_collection_is_collected(tmp_path: Path, tree: Path) -> None:
    place = tmp_path / "store"
    make_store(place, tree, beside=noise(100_000))
    store = open_store(str(place))
    assert (store.grace_s, store.refs_move_by) == (86_400, "swap")
    age(place)
    before = objects(place)
    done = collect(store)
    assert (done.snapshots, done.moved, done.condemned, done.deleted) == (1, 1, 1, 0)
    age(place)
    assert collect(store).deleted == 1
    [gone] = before - objects(place)
    assert gone.startswith("packs/")
    open_store(str(place)).pull("main", tmp_path / "old")
    assert (tmp_path / "old" / "a").read_bytes() == CONTENT
    (tree / "a").write_bytes(b"edited")
    store.push(tree, "main")
    forget(store, Rules(last=1))
    collect(store, grace_s=0)
    assert not before & objects(place)
    assert_reads_back(open_store(str(place)), "main", tree, tmp_path / "out")


@pytest.mark.parametrize("what", ["page", "map", "snapshot", "ref", "identity"])
def test_no_reader_takes_what_a_newer_sapwood_wrote_for_damage(tmp_path: Path, tree: Path, what: str) -> None:
    make_store(tmp_path / "store", tree, **{what: NEWEST[what] + 1})
    address = f"{tmp_path / 'store'}#main"
    (tree / "new").write_text("so that the two are compared")
    run = Sapwood(tmp_path)
    for words in (("pull", address, "out"), ("ls", address), ("cat", address, "a"), ("diff", address, tree)):
        said = run(*words)
        assert (said.code, said.out) == (8, ""), said
        assert str(tmp_path / "store") in said.err
        assert f"format {NEWEST[what] + 1}; this sapwood reads up to {NEWEST[what]}" in said.err
        assert said.err.splitlines()[-1].startswith("hint: ")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FormatError) as newer:
        open_tree(address).list_immediate()
    assert newer.value.kind == "format-newer"


@pytest.mark.parametrize("what", ["snapshot", "ref", "identity", "fragment"])
def test_a_push_changes_nothing_where_a_newer_sapwood_has_written(tmp_path: Path, tree: Path, what: str) -> None:
    make_store(tmp_path / "store", tree, **{what: NEWEST[what] + 1})
    before = contents(tmp_path / "store")
    (tree / "new").write_text("new")
    said = Sapwood(tmp_path)("push", tree, f"{tmp_path / 'store'}#main")
    assert (said.code, said.out) == (8, ""), said
    assert str(tmp_path / "store") in said.err
    assert f"format {NEWEST[what] + 1}; this sapwood reads up to {NEWEST[what]}" in said.err
    assert contents(tmp_path / "store") == before
