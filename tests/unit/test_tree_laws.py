"""The laws of trees, against nested dictionaries: whatever the tree stands on, and whatever was made of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sapwood import hash_tree
from sapwood.tree import Item, Leaf, Tree, read_plain, write_plain
from tests.support import reapi_digest
from tests.support.models import (
    ITEMS,
    MODELS,
    NAMES,
    SOURCES,
    File,
    Link,
    Model,
    item_of,
    model_of,
    tree_of,
    walked,
)  # fmt: skip

SOURCE = st.sampled_from(list(SOURCES))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
few = settings(max_examples=80, deadline=None)


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def hash_of(model: Model) -> str:
    """The digest of what a model is in plain form, by code that shares nothing with trees."""
    with place() as here:
        write_plain(tree_of(model), here / "plain")
        digest = reapi_digest.tree_digest(here / "plain")
        assert hash_tree(here / "plain", index=here / "index").digest == digest
        return digest


@few
@given(MODELS, SOURCE)
def test_every_source_gives_back_the_tree_and_its_digest(model: Model, source: str) -> None:
    with place() as here:
        tree = SOURCES[source](model, here)
        assert [path for path, _ in tree.list()] == [path for path, _ in walked(model)]
        assert model_of(tree) == model
        assert tree.digest == tree_of(model).digest == hash_of(model)
        assert list(tree.check()) == []
        for path, item in walked(model):
            found = tree.lookup(path)
            assert isinstance(found, Tree) == isinstance(item, dict)
            assert (tree.find_tree(path) is None) == (not isinstance(item, dict))
            assert (tree.find_file(path) is None) == (not isinstance(item, File))
            if isinstance(item, File):
                assert b"".join(tree.read_blob(path)) == item.content


@few
@given(MODELS, SOURCE)
def test_an_expanded_tree_is_the_same_and_asks_its_source_for_no_item_again(model: Model, source: str) -> None:
    with place() as here:
        tree = SOURCES[source](model, here)
        whole = tree.expand()
        assert whole.digest == tree.digest == tree_of(model).digest
        assert not any(isinstance(item, Tree) and item.is_stub for _, item in whole.list())
        assert model_of(whole) == model
        for path, item in walked(model):
            if isinstance(item, dict):
                some = tree.expand_path(path)
                found = some.find_tree(path)
                assert found is not None
                assert not some.is_stub
                assert not found.is_stub
                assert some.digest == tree.digest


@few
@given(MODELS, SOURCE)
def test_an_update_sees_each_directory_once_with_those_below_it_updated(model: Model, source: str) -> None:
    seen = []

    def update(path: bytes, tree: Tree) -> Tree:
        seen.append(path)
        for _, item in tree.list():
            assert not isinstance(item, Tree) or item.find(b"mark") is not None
        return tree.modify(b"mark", path)

    def marked(model: Model, path: bytes = b"") -> Model:
        below = ((name, path + b"/" + name if path else name, item) for name, item in model.items())
        return {
            **{name: marked(item, at) if isinstance(item, dict) else item for name, at, item in below},
            b"mark": File(path),
        }

    with place() as here:
        updated = SOURCES[source](model, here).expand_update(update)
        assert model_of(updated) == marked(model)
        assert sorted(seen) == sorted([b"", *(path for path, item in walked(model) if isinstance(item, dict))])
        assert updated.digest == hash_of(marked(model))


def kept(model: Model, dropped: set[bytes], folder: bytes = b"") -> Model:
    out: Model = {}
    for name, item in model.items():
        path = folder + b"/" + name if folder else name
        if path not in dropped:
            out[name] = kept(item, dropped, path) if isinstance(item, dict) else item
    return out


@few
@given(MODELS, SOURCE, st.data())
def test_a_filtered_tree_has_the_digest_of_what_is_left_and_the_tree_keeps_its_own(
    model: Model, source: str, data: st.DataObject
) -> None:
    paths = [path for path, _ in walked(model)]
    dropped = data.draw(st.sets(st.sampled_from(paths))) if paths else set()
    with place() as here:
        tree = SOURCES[source](model, here)
        left = tree.filter(lambda path, _: path not in dropped)
        expected = kept(model, dropped)
        assert left.digest == hash_of(expected)
        assert model_of(left) == expected
        assert model_of(tree) == model
        assert tree.digest == tree_of(model).digest
        if source == "index":
            assert hash_tree(here / "tree", index=here / "index").digest == tree.digest


def merged(base: Model, top: Model) -> Model:
    out = dict(base)
    for name, item in top.items():
        below = out.get(name)
        out[name] = merged(below, item) if isinstance(below, dict) and isinstance(item, dict) else item
    return out


@few
@given(MODELS, MODELS, SOURCE, SOURCE)
def test_an_overlay_has_the_items_of_both_and_where_they_meet_those_of_the_top(
    base: Model, top: Model, one: str, other: str
) -> None:
    with place() as here:
        a, b = SOURCES[one](base, here / "a"), SOURCES[other](top, here / "b")
        both = a.overlay(b)
        assert model_of(both) == merged(base, top)
        assert both.digest == tree_of(merged(base, top)).digest
        assert model_of(a.overlay(a)) == base
        assert model_of(both.restrict(b)) == top


def common(model: Model, guide: Model) -> Model:
    out: Model = {}
    for name, item in model.items():
        other = guide.get(name)
        if isinstance(item, dict) and isinstance(other, dict):
            out[name] = common(item, other)
        elif other is not None and isinstance(item, dict) == isinstance(other, dict):
            out[name] = item
    return out


@few
@given(MODELS, MODELS, SOURCE, SOURCE)
def test_a_restricted_tree_has_what_its_guide_has_too(model: Model, guide: Model, one: str, other: str) -> None:
    with place() as here:
        restricted = SOURCES[one](model, here / "a").restrict(SOURCES[other](guide, here / "b"))
        assert model_of(restricted) == common(model, guide)
        assert restricted.digest == tree_of(common(model, guide)).digest


def put(model: Model, names: list[bytes], item: Model | File | Link | None) -> Model | None:
    """The model with an item at a path; None where something else is in the way."""
    name, *rest = names
    below = model.get(name)
    if not rest:
        return {n: i for n, i in {**model, name: item}.items() if i is not None}
    if below is None and item is None:
        return model
    if below is not None and not isinstance(below, dict):
        return model if item is None else None
    changed = put(below or {}, rest, item)
    return None if changed is None else {**model, name: changed}


@few
@given(MODELS, SOURCE, st.lists(st.tuples(PATHS, st.one_of(st.none(), ITEMS)), max_size=8))
def test_modifications_do_to_a_tree_what_they_do_to_a_dictionary(
    model: Model, source: str, edits: list[tuple[bytes, Model | File | Link | None]]
) -> None:
    with place() as here:
        first = SOURCES[source](model, here)
        tree, now = first, model
        for path, item in edits:
            if (after := put(now, path.split(b"/"), item)) is not None:
                now = after
                tree = tree.modify(path, None if item is None else item_of(item))
        assert model_of(tree) == now
        assert {tuple(change) for change in first.diff(tree)} == naive(model, now)
        assert tree.digest == tree_of(now).digest
        assert model_of(first) == model


def naive(old: Model, new: Model) -> set[tuple[str, bytes]]:
    """What `diff` says, by looking at everything."""
    before, after, changes = dict(walked(old)), dict(walked(new)), set[tuple[str, bytes]]()
    for path in before.keys() | after.keys():
        a, b = before.get(path), after.get(path)
        both = a is not None and b is not None
        if a is not None and (b is None or isinstance(a, dict) != isinstance(b, dict)):
            changes.add(("removed", path))
        if b is not None and (a is None or isinstance(a, dict) != isinstance(b, dict)):
            changes.add(("added", path))
        if both and not isinstance(a, dict) and not isinstance(b, dict) and a != b:
            changes.add(("changed", path))
    return changes


@few
@given(MODELS, MODELS, SOURCE, SOURCE)
@example({b"a": File(b"x")}, {b"a": File(b"x", True)}, "plain", "store")
@example({b"a": File(b"x")}, {b"a": Link(b"x")}, "index", "memory")
@example({b"a": Link(b"a")}, {b"a": Link(b"b")}, "store", "store")
def test_a_diff_finds_what_looking_at_everything_finds(old: Model, new: Model, one: str, other: str) -> None:
    with place() as here:
        a, b = SOURCES[one](old, here / "a"), SOURCES[other](new, here / "b")
        found = [tuple(change) for change in a.diff(b)]
        assert len(found) == len(set(found))
        assert set(found) == naive(old, new)
        assert (a.digest == b.digest) == (not found)


@few
@given(MODELS, MODELS, SOURCE)
def test_zipped_trees_show_each_path_once_with_what_each_tree_has_there(old: Model, new: Model, source: str) -> None:
    with place() as here:
        a, b = SOURCES[source](old, here / "a"), SOURCES[source](new, here / "b")
        before, after = dict(walked(old)), dict(walked(new))
        met = {b""}
        for path, mine, theirs in a.zip_trees(b):
            assert path not in met
            assert path.rpartition(b"/")[0] in met
            met.add(path)
            assert (mine is None, theirs is None) == (path not in before, path not in after)
            assert isinstance(mine, Tree) == isinstance(before.get(path), dict)
        assert met == {b"", *before, *after}
        files = {path: (content(mine), content(theirs)) for path, mine, theirs in a.zip_files(b)}
        assert files == {
            path: pair
            for path in met
            if (pair := (content_in(before.get(path)), content_in(after.get(path)))) != (None, None)
        }


def content(leaf: Leaf | None) -> bytes | None:
    return None if leaf is None else b"".join(leaf.read())


def content_in(item: Model | File | Link | None) -> bytes | None:
    return item.content if isinstance(item, File) else None


@few
@given(MODELS, SOURCE)
def test_what_is_written_plainly_is_the_tree(model: Model, source: str) -> None:
    with place() as here:
        tree = SOURCES[source](model, here / "a")
        write_plain(tree, here / "out")
        again = read_plain(here / "out")
        assert model_of(again) == model
        assert list(again.diff(tree)) == []
        times: dict[bytes, Item] = dict(tree.list())
        for path, item in again.list():
            assert item.mode == times[path].mode
            if source != "memory":
                assert item.mtime_ns == times[path].mtime_ns
