"""Random edits of a working directory with hashes between: the index never shows.

Whatever was done to the tree, and to the index, a hash is that of a tree of which nothing is known, and `status` says
what a comparison by looking at everything says.
"""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sapwood import hash_tree
from sapwood.errors import NotFoundError
from sapwood.tree import Index, Options, Tree, watched
from sapwood.watch import start, stop, watchers
from tests.support.clock import settle
from tests.support.edits import ARGUMENTS, VALUES, Edit, make
from tests.support.facts import Facts, changes, facts
from tests.support.reapi_digest import tree_digest

EDITS = st.one_of(
    [
        st.tuples(st.just(name), st.tuples(*(st.sampled_from(VALUES[kind]) for kind in kinds)))
        for name, kinds in ARGUMENTS.items()
    ]
)
WHICH = st.integers(0, 1)


class Kept:
    """An index file, and the tree as it was when it was brought up to date; None when nobody knows that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: Facts | None = {}
        self.copy: tuple[bytes, Facts | None] | None = None


class IndexStates(RuleBasedStateMachine):
    """A directory, two indexes of it, and everything that may happen to any of them."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="sapwood-test-"))
        self.root = self.home / "root"
        self.root.mkdir()
        self.indexes = [Kept(self.home / "first"), Kept(self.home / "second")]
        self.tree: tuple[Tree, Facts] | None = None

    def teardown(self) -> None:
        try:
            self.rest()
            for which in range(len(self.indexes)):
                self.hash(which, settled=False)
        finally:
            shutil.rmtree(self.home)

    def rest(self) -> None:
        """Nothing of ours runs beside the tree."""

    def index(self, which: int, one_file_system: bool = False) -> Index:
        """There is but one file system; it is the option that changes."""
        return Index(self.root, self.indexes[which].path, Options(one_file_system=one_file_system))

    @rule(edits=st.lists(EDITS, min_size=1, max_size=6))
    def edit(self, edits: list[Edit]) -> None:
        for one in edits:
            event(f"{one[0]} made: {make(os.fsencode(self.root), one)}")

    @rule(which=WHICH, settled=st.booleans(), one_file_system=st.booleans())
    def hash(self, which: int, settled: bool, one_file_system: bool = False) -> None:
        if settled:
            settle()
        hashed = self.index(which, one_file_system).hash()
        assert hashed.digest == tree_digest(self.root)
        from_nothing = hash_tree(self.root, index=self.home / "nothing")
        (self.home / "nothing").unlink()
        assert counts(hashed) == counts(from_nothing)
        assert self.index(which).verify().wrong == ()
        self.indexes[which].known = facts(self.root)

    @rule(which=WHICH, settled=st.booleans(), one_file_system=st.booleans())
    def status(self, which: int, settled: bool, one_file_system: bool) -> None:
        kept = self.indexes[which]
        if settled:
            settle()
        stored = kept.path.read_bytes() if kept.path.exists() else None
        found = self.index(which, one_file_system).status()
        assert stored == (kept.path.read_bytes() if kept.path.exists() else None)
        now = facts(self.root)
        assert not found.unreadable
        if found.fresh:
            assert found.added == tuple(sorted(now.keys() - {b""}))
        elif kept.known is not None:
            assert {name: getattr(found, name) for name in ("added", "changed", "removed")} == changes(kept.known, now)

    @rule(
        which=WHICH,
        paths=st.lists(st.sampled_from([b"", b"a", b"a/a", b"a/b", b"a.b"]), max_size=3),
        whole=st.booleans(),
    )
    def expand(self, which: int, paths: list[bytes], whole: bool) -> None:
        """Look at some directories only."""
        kept = self.indexes[which]
        kept.known = None
        lazy, now = Index.read(kept.path, self.root), facts(self.root)
        for path in paths:
            tree = lazy.find_tree(path)
            if tree is None:
                assert path not in now or not stat.S_ISDIR(now[path].mode)
                continue
            entries = tree.list_immediate()
            assert [name for name, _ in entries] == sorted(
                os.path.basename(found) for found in now if found and os.path.dirname(found) == path
            )
            for name, entry in entries:
                if not isinstance(entry, Tree) and entry.resolved().kind == "reg":
                    content = now[os.path.join(path, name)].what
                    assert isinstance(content, bytes)
                    assert entry.resolved().digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
        if whole:
            assert lazy.digest == tree_digest(self.root)
            kept.known = now

    @rule(which=WHICH)
    def take_tree(self, which: int) -> None:
        tree = self.index(which).tree()
        self.indexes[which].known = facts(self.root)
        assert tree.digest == tree_digest(self.root)
        self.tree = tree, facts(self.root)

    @precondition(lambda self: self.tree is not None)
    @rule(which=WHICH)
    def adopt(self, which: int) -> None:
        """Make the index that of a tree which may be another by now."""
        assert self.tree is not None
        tree, known = self.tree
        try:
            self.index(which).update_from(tree)
        except NotFoundError:
            now = facts(self.root)
            kinds = {path: fact.mode & 0o170000 for path, fact in now.items()}
            assert any(kinds.get(path) != fact.mode & 0o170000 for path, fact in known.items())
            return
        self.indexes[which].known = known

    @rule(which=WHICH)
    def keep_copy(self, which: int) -> None:
        kept = self.indexes[which]
        if kept.path.exists():
            kept.copy = kept.path.read_bytes(), kept.known

    @rule(which=WHICH, of=WHICH, in_place=st.booleans())
    def put_copy_back(self, which: int, of: int, in_place: bool) -> None:
        """An index of earlier, perhaps the other one's."""
        kept, copy = self.indexes[which], self.indexes[of].copy
        if copy is not None:
            if not in_place:
                kept.path.unlink(missing_ok=True)
            kept.path.write_bytes(copy[0])
            kept.known = copy[1]

    @rule(which=WHICH, where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
    def damage(self, which: int, where: float, flip: int) -> None:
        kept = self.indexes[which]
        if kept.path.exists() and kept.path.stat().st_size:
            data = bytearray(kept.path.read_bytes())
            data[int(where * len(data))] ^= flip
            kept.path.write_bytes(data)
            kept.known = None

    @rule(which=WHICH, share=st.floats(0, 1))
    def cut(self, which: int, share: float) -> None:
        kept = self.indexes[which]
        if kept.path.exists():
            data = kept.path.read_bytes()
            kept.path.write_bytes(data[: int(share * len(data))])
            if int(share * len(data)) < len(data):
                kept.known = None

    @rule(which=WHICH, dice=st.integers(0, 2**32))
    def mix(self, which: int, dice: int) -> None:
        """Blocks of this one and of its copy, as after a power failure."""
        kept = self.indexes[which]
        if kept.path.exists() and kept.copy is not None:
            mine, theirs = kept.path.read_bytes(), kept.copy[0]
            size = 64 << dice % 3
            blocks = [
                (theirs if dice >> number % 32 & 1 else mine)[at : at + size]
                for number, at in enumerate(range(0, len(mine), size))
            ]
            kept.path.write_bytes(b"".join(blocks))
            kept.known = None

    @invariant()
    def nothing_is_left_beside(self) -> None:
        names = {"root", "aside", "first", "second", "first.lock", "second.lock", "nothing.lock"}
        assert set(os.listdir(self.home)) <= names


class WatchedIndexStates(IndexStates):
    """The same, with watchers that come and go: they answer for the first index."""

    def __init__(self) -> None:
        super().__init__()
        start(self.root, self.indexes[0].path)

    def rest(self) -> None:
        for watcher in watchers():
            stop(watcher.root)

    @rule(which=WHICH)
    def watch(self, which: int) -> None:
        """By another watcher from now on, perhaps for the other index."""
        self.rest()
        start(self.root, self.indexes[which].path)

    @precondition(lambda self: watchers())
    @rule()
    def kill(self) -> None:
        watcher = watchers()[0].pid
        process = os.pidfd_open(watcher)
        os.kill(watcher, signal.SIGKILL)
        # Else it might be asked for, or signalled, while it ends.
        select.select([process], [], [])
        os.close(process)

    @rule(edits=st.lists(EDITS, min_size=1, max_size=6))
    def edit_unseen(self, edits: list[Edit]) -> None:
        """All notices at once."""
        pids = [watcher.pid for watcher in watchers()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self.edit(edits)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def counts(hashed: object) -> tuple[object, ...]:
    return tuple(getattr(hashed, name) for name in ("digest", "size", "files", "directories", "symlinks", "bytes"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("states", "examples"), [(IndexStates, 100), (WatchedIndexStates, 60)])
def test_whatever_happens_between_two_hashes_the_index_does_not_show(
    states: type[IndexStates], examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A watcher of a busy machine that says nothing for a while is there all the same.
    monkeypatch.setattr(watched, "_PATIENCE_S", 60.0)
    run_state_machine_as_test(
        states,
        settings=settings(
            max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
