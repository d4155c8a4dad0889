"""The worked examples of docs/format.md that Python writes; the core's are in crates/core/tests/format.rs."""

import re
from pathlib import Path

from sapwood.digests import ContentDigest, MapDigest, SnapshotDigest, TreeDigest, digest_of
from sapwood.store.base import Version
from sapwood.store.ref import Ref
from sapwood.store.snapshot import Snapshot

DOC = Path(__file__).parents[2] / "docs" / "format.md"


def example(label: str) -> bytes:
    found = re.search(rf"```{label}\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert found, f"no example {label}"
    return found[1].strip().encode()


def test_the_snapshot_shown_is_read_and_written_as_shown() -> None:
    shown = example("text snapshot")
    snapshot = Snapshot.decode(shown, digest_of(SnapshotDigest, shown), url="test")
    assert snapshot.encode() == shown
    assert snapshot.tree == digest_of(TreeDigest, bytes.fromhex(example("hex directory").decode()))
    fence = example("text fence") + b"\n"
    assert (snapshot.map, snapshot.map_size) == (digest_of(MapDigest, fence), len(fence))
    assert snapshot.content == digest_of(ContentDigest, fence.partition(b"\n")[2])


def test_a_snapshot_of_format_1_is_still_read_and_keeps_its_digest() -> None:
    shown = example("text snapshot-1")
    snapshot = Snapshot.decode(shown, digest_of(SnapshotDigest, shown), url="test")
    assert (snapshot.content, snapshot.encode()) == (None, shown)


def test_the_ref_shown_names_the_snapshot_shown() -> None:
    shown = example("text ref")
    ref = Ref.decode("main", shown, Version("1"), url="test")
    assert ref.snapshot == digest_of(SnapshotDigest, example("text snapshot"))
    assert (ref.counter, ref.encode()) == (1, shown)


def test_the_ref_shown_that_was_cut_keeps_the_snapshot_shown() -> None:
    shown = example("text ref-cut")
    ref = Ref.decode("main", shown, Version("1"), url="test")
    assert ref.snapshot == ref.base == digest_of(SnapshotDigest, example("text snapshot"))
    assert (ref.counter, ref.kept, ref.encode()) == (2, (), shown)


def test_the_ref_shown_that_was_removed_names_nothing() -> None:
    shown = example("text ref-removed")
    ref = Ref.decode("main", shown, Version("1"), url="test")
    assert (ref.snapshot, ref.base, ref.kept) == (None, None, ())
    assert (ref.counter, ref.encode()) == (3, shown)
