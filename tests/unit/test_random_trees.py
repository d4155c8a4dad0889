"""Random trees and random edits: pull equals what was pushed, and diff equals what a naive comparison finds."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sapwood import hash_tree, open_store, open_tree
from tests.support.reapi_digest import tree_digest
from tests.support.trees import Facts, differences, look

# Few, so that edits meet; chosen so that sorting by path and by (parent, name) differ.
NAMES = st.sampled_from([b"a", b"b", b"a.b", b"a-", b"\xff", b"\xc3\xa9", b"A"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
CONTENTS = st.one_of(st.sampled_from([b"", b"same", b"other"]), st.binary(max_size=300))
MODES = st.sampled_from([0o644, 0o755, 0o600, 0o700, 0o444, 0o4755])
TIMES = st.integers(-(2**31) * 10**9, 2**33 * 10**9)
EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PATHS, CONTENTS, MODES),
        st.tuples(st.just("mkdir"), PATHS),
        st.tuples(st.just("symlink"), PATHS, st.sampled_from([b"a", b"../b", b"/nowhere", b"\xfe"])),
        st.tuples(st.just("link"), PATHS, PATHS),
        st.tuples(st.just("rename"), PATHS, PATHS),
        st.tuples(st.just("remove"), PATHS),
        st.tuples(st.just("touch"), PATHS, TIMES),
    ),
    max_size=12,
)


def edit(root: bytes, edits: list[tuple[object, ...]]) -> None:
    """Make each edit that can be made; what is in its way gives way."""
    for kind, name, *more in edits:
        assert isinstance(name, bytes)
        path = os.path.join(root, name)
        try:
            if kind in ("write", "mkdir", "symlink"):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if kind != "mkdir" or not os.path.isdir(path):
                    remove(path)
            if kind == "write":
                with open(path, "wb") as file:
                    file.write(more[0])  # type: ignore[arg-type]
                os.chmod(path, more[1])  # type: ignore[arg-type]
            elif kind == "mkdir":
                os.makedirs(path, exist_ok=True)
            elif kind == "symlink":
                os.symlink(more[0], path)  # type: ignore[arg-type]
            elif kind == "link":
                os.link(path, os.path.join(root, more[0]), follow_symlinks=False)  # type: ignore[arg-type]
            elif kind == "rename":
                os.rename(path, os.path.join(root, more[0]))  # type: ignore[arg-type]
            elif kind == "remove":
                remove(path)
            else:
                os.utime(path, ns=(more[0], more[0]), follow_symlinks=False)  # type: ignore[arg-type]
        except OSError:  # the edit makes no sense here
            continue


def remove(path: bytes) -> None:
    """Remove whatever is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def naive_changes(before: dict[bytes, Facts], after: dict[bytes, Facts]) -> set[tuple[str, bytes]]:
    """Compare by looking at everything."""
    changes = set()
    for path in (before.keys() | after.keys()) - {b"."}:
        old, new = before.get(path), after.get(path)
        if old is None or (new is not None and folder(new) != folder(old)):
            changes.add(("added", path))
        if new is None or (old is not None and folder(new) != folder(old)):
            changes.add(("removed", path))
        if old and new and not folder(old) and not folder(new) and content(old) != content(new):
            changes.add(("changed", path))
    return changes


def folder(facts: Facts) -> bool:
    return facts.mode & 0o170000 == 0o040000


def content(facts: Facts) -> tuple[int, str, bool]:
    kind = facts.mode & 0o170000
    return kind, facts.content, kind == 0o100000 and bool(facts.mode & 0o100)


@settings(max_examples=60, deadline=None)
@given(st.lists(EDITS, min_size=1, max_size=3))
def test_after_any_edits_pull_gives_what_was_pushed_and_diff_what_changed(
    rounds: list[list[tuple[object, ...]]],
) -> None:
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        root, index = home / "root", home / "index"
        root.mkdir()
        store = open_store(str(home / "store"), create=True, cache_dir=home / "cache")
        store.push(root, "main", index=index)
        for number, edits in enumerate(rounds):
            before, old = look(root), store.tree("main")
            edit(os.fsencode(root), edits)
            after = look(root)
            expected = naive_changes(before, after)
            found = list(old.diff(open_tree(str(root))))
            assert len(found) == len(set(found))
            assert {(change.kind, change.path) for change in found} == expected
            pushed = store.push(root, "main", index=index)
            assert {tuple(change) for change in old.diff(store.tree("main"))} == expected
            assert pushed.tree == hash_tree(root, index=index).digest == tree_digest(root)
            store.pull("main", home / f"out-{number}")
            assert differences(root, home / f"out-{number}") == []
