"""Calls that cannot work: each says what and where, with the exit code of its class, and leaves all as it was."""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sapwood import hash_tree, open_store
from sapwood.errors import ConflictError, InvalidInputError, UnavailableError
from sapwood.open import OpenStore
from sapwood.store import Store
from tests.support.child import Killed, die, in_child
from tests.support.cli import Sapwood
from tests.support.nobody import nobodys_directory, sapwood_as_nobody
from tests.support.objects import assert_whole
from tests.support.smalldisk import free, small_disk
from tests.support.trees import MIB, differences, noise


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "folder").mkdir(parents=True)
    (root / "a").write_text("content")
    (root / "folder" / "large").write_bytes(noise(3 * MIB))
    return root


@pytest.fixture
def store(tmp_path: Path, tree: Path) -> OpenStore:
    made = open_store(str(tmp_path / "store"), create=True)
    made.push(tree, "main")
    return made


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory of nobody's, with a tree in it of which nobody may not read all."""
    with nobodys_directory() as place:
        for name in ("tree/open", "tree/secret", "tree/below/secret", "tree/below/open"):
            (place / name).parent.mkdir(exist_ok=True, parents=True)
            (place / name).write_text(name)
            (place / name).chmod(0o644 if name.endswith("open") else 0)
        (place / "tree" / "closed").mkdir()
        (place / "tree" / "closed" / "inside").touch()
        (place / "tree" / "closed").chmod(0)
        os.environ["SAPWOOD_CACHE"] = str(place / "cache")  # restored by the fixture that set it
        yield place
        (place / "tree" / "closed").chmod(0o700)


@pytest.mark.parametrize("command", [("hash",), ("status",), ("push",)])
def test_a_directory_that_is_none_is_named(run: Sapwood, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    address = ("main",) if command == ("push",) else ()
    missing = run(*command, tmp_path / "none", *address)
    assert (missing.code, missing.out) == (3, "")
    assert f"{tmp_path}/none: " in missing.err
    file = run(*command, tmp_path / "file", *address)
    assert (file.code, file.out) == (2, "")
    what = ": it is empty, and a tar is not" if address else " is not a directory"
    assert f"sapwood: {tmp_path}/file{what}\n" in file.err
    assert len(missing.err.splitlines()) == len(file.err.splitlines()) == 1


def test_a_root_that_is_a_file_has_a_kind(store: OpenStore, tree: Path) -> None:
    for call in (lambda: hash_tree(tree / "a"), lambda: store.push(tree / "a", "main")):
        with pytest.raises(InvalidInputError) as wrong:
            call()
        assert wrong.value.kind == "not-a-directory"


@pytest.mark.parametrize("command", ["push", "hash"])
def test_what_may_not_be_read_is_named_or_left_out_when_told(nobodys: Path, command: str) -> None:
    address = (f"{nobodys / 'store'}#main",) if command == "push" else ()
    refused = sapwood_as_nobody(command, nobodys / "tree", *address)
    assert (refused.code, refused.out) == (7, "")
    assert f"sapwood: no permission to read {nobodys / 'tree'}/" in refused.err
    assert "\nhint: " in refused.err
    skipped = sapwood_as_nobody(command, nobodys / "tree", *address, "--skip-unreadable")
    assert skipped.code == 0, skipped
    for path in ("secret", "below/secret", "closed"):
        assert str(nobodys / "tree" / path) in skipped.err
    assert "open" not in skipped.err.replace(str(nobodys), "")
    if command == "push":
        listed = sapwood_as_nobody("ls", "-R", address[0])
        assert listed.out.split() == ["below", "below/open", "open"]
        assert sapwood_as_nobody("pull", address[0], nobodys / "out").code == 0
        assert (nobodys / "out" / "below" / "open").read_text() == "tree/below/open"


def test_all_that_may_not_be_read_is_in_the_error(nobodys: Path) -> None:
    refused = sapwood_as_nobody("push", nobodys / "tree", f"{nobodys / 'store'}#main")
    # A directory that is closed is found before any file is read; then all files are.
    assert "closed" in refused.err
    (nobodys / "tree" / "closed").chmod(0o755)
    refused = sapwood_as_nobody("push", nobodys / "tree", f"{nobodys / 'store'}#main")
    assert "secret and 1 more" in refused.err


def test_places_that_may_not_be_written_are_denied(nobodys: Path) -> None:
    (nobodys / "tree" / "closed").chmod(0o755)
    pushed = sapwood_as_nobody("push", "--skip-unreadable", nobodys / "tree", f"{nobodys / 'store'}#main")
    assert pushed.code == 0, pushed
    theirs = nobodys / "theirs"
    theirs.mkdir(mode=0o555)
    for words in (
        ("pull", f"{nobodys / 'store'}#main", theirs / "out"),
        ("push", "--skip-unreadable", nobodys / "tree", f"{theirs / 'store'}#main"),
    ):
        denied = sapwood_as_nobody(*words)
        assert (denied.code, denied.out) == (7, ""), denied
        assert str(theirs) in denied.err
    assert list(theirs.iterdir()) == []
    theirs.chmod(0o755)


def test_a_place_that_is_no_store_is_neither_read_nor_written(run: Sapwood, tmp_path: Path, tree: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis").write_text("all my work")
    for words in (("push", tree, f"{home}#main"), ("pull", f"{home}#main", "out"), ("ls", f"{home}#main"),
                  ("push", tree, f"{home / 'thesis'}#main"), ("pull", f"{home / 'thesis'}#main", "out")):  # fmt: skip
        said = run(*words)
        assert (said.code, said.out) == (2, ""), said
        assert str(home) in said.err
        assert "not a store" in said.err or "neither a store nor empty" in said.err
    assert [path.name for path in home.iterdir()] == ["thesis"]
    assert not (tmp_path / "out").exists()


def test_a_pull_takes_the_place_of_no_file_and_no_link(store: OpenStore, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(full)
    before = sorted(tmp_path.iterdir())
    for place in (tmp_path / "file", tmp_path / "link"):
        with pytest.raises(InvalidInputError) as refused:
            store.pull("main", place)
        assert refused.value.kind == "not-a-directory"
        assert str(place) in str(refused.value)
    assert sorted(tmp_path.iterdir()) == before
    assert [path.name for path in full.iterdir()] == ["mine"]


def test_a_pull_into_an_empty_directory_or_one_of_the_longest_name_is_taken(
    store: OpenStore, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir(mode=0o700)
    for name in ("empty", "x" * 255):
        store.pull("main", tmp_path / name)
        assert differences(tree, tmp_path / name) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "store", "tree", "x" * 255]


def test_a_pull_that_was_killed_is_cleared_away_by_the_next(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    def killed() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "rename", die)
            store.pull("main", tmp_path / "out")

    with pytest.raises(Killed):
        in_child(killed)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.sapwood-partial", "store", "tree"]
    store.pull("main", tmp_path / "out")
    assert differences(tree, tmp_path / "out") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store", "tree"]


class Held:
    """A method of the store that waits, in the first thread that calls it, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.reached, self.let_go = threading.Event(), threading.Event()
        method: Callable[..., Any] = getattr(Store, name)

        def wrapped(*arguments: Any) -> Any:
            if not self.reached.is_set():
                self.reached.set()
                assert self.let_go.wait(60)
            return method(*arguments)

        monkeypatch.setattr(Store, name, wrapped)

    def start(self, call: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
        """Run `call` in a thread until it is held."""
        raised: list[BaseException] = []

        def work() -> None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert self.reached.wait(60)
        return thread, raised

    def finish(self, thread: threading.Thread) -> None:
        self.let_go.set()
        thread.join(60)
        assert not thread.is_alive()


def test_of_two_pushes_to_one_ref_one_wins_and_the_other_loses_nothing(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        shutil.copytree(tree, tmp_path / name)
        (tmp_path / name / "own").write_bytes(noise(MIB, ord(name[0])))
    held = Held(monkeypatch, "move_ref")
    thread, raised = held.start(lambda: store.push(tmp_path / "one", "main"))
    won = open_store(store.url).push(tmp_path / "two", "main")
    held.finish(thread)
    [lost] = raised
    assert isinstance(lost, ConflictError)
    assert lost.kind == "ref-moved"
    assert store.read_ref("main").snapshot == won.snapshot
    # What the loser sent is there: who did not see the ref last, and so asks what is there, sends an outline alone.
    monkeypatch.setenv("SAPWOOD_CACHE", str(tmp_path / "another-machine"))
    again = open_store(store.url).push(tmp_path / "one", "main")
    assert (again.chunks_sent, again.packs_sent) == (0, 1)
    for name, ref in (("one", "main"), ("two", f"main@{won.snapshot}")):
        store.pull(ref, tmp_path / f"{name}-out")
        assert differences(tmp_path / name, tmp_path / f"{name}-out") == []


def test_of_two_pulls_into_one_place_the_second_is_told_and_the_first_goes_on(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "read_ranges")
    thread, raised = held.start(lambda: store.pull("main", tmp_path / "out"))
    with pytest.raises(ConflictError) as running:
        open_store(store.url).pull("main", tmp_path / "out")
    assert running.value.kind == "pull-running"
    held.finish(thread)
    assert raised == []
    assert differences(tree, tmp_path / "out") == []


def test_a_push_to_a_full_disk_says_so_and_the_store_stays_whole(tree: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 6 * MIB) as place:
        store = open_store(str(place / "store"), create=True)
        store.push(tree, "main")
        store.pull("main", tmp_path / "old")
        (tree / "more").write_bytes(noise(5 * MIB, 5))
        with pytest.raises(UnavailableError) as full:
            store.push(tree, "main")
        assert full.value.kind == "disk-full"
        assert str(place) in str(full.value)
        assert full.value.hint
        assert_whole(Path(store.url))
        store.pull("main", tmp_path / "out")
        assert differences(tmp_path / "old", tmp_path / "out") == []
        (tree / "more").unlink()
        (tree / "a").write_text("another content")
        store.push(tree, "main")
        store.pull("main", tmp_path / "new")
        assert differences(tree, tmp_path / "new") == []


def test_a_pull_to_a_full_disk_says_so_and_leaves_nothing(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 2 * MIB) as place:
        before = free(place)
        with pytest.raises(UnavailableError) as full:
            store.pull("main", place / "out")
        assert full.value.kind == "disk-full"
        assert str(place) in str(full.value)
        assert list(place.iterdir()) == []
        assert free(place) == before
        with pytest.raises(InvalidInputError) as itself:
            store.pull("main", place)
        assert itself.value.kind == "mount-point"


def test_a_tree_that_holds_its_own_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    store = open_store(str(tmp_path / "store"), create=True)
    with pytest.raises(InvalidInputError) as refused:
        store.push(tmp_path, "main")
    assert refused.value.kind == "own-store"


def test_an_index_that_may_not_be_read_is_named(nobodys: Path) -> None:
    archive = nobodys / "a.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(nobodys / "tree" / "open", "open")
    assert sapwood_as_nobody("index", archive).code == 0
    assert sapwood_as_nobody("ls", archive).out == "open\n"
    (nobodys / "a.tar.sapwood").chmod(0)
    refused = sapwood_as_nobody("ls", archive)
    assert (refused.code, refused.out) == (7, "")
    assert "a.tar.sapwood" in refused.err
