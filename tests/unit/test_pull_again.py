"""Pulling into a directory that has something in it: what is right is left alone, the rest becomes right."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sapwood import Index, open_store
from sapwood import pull as module
from sapwood.errors import ConflictError, InvalidInputError, UnavailableError
from sapwood.open import OpenStore
from sapwood.pull import Pulled
from sapwood.store import Store
from tests.support import trees
from tests.support.cli import Sapwood
from tests.support.clock import settle
from tests.support.nobody import as_nobody, nobodys_directory
from tests.support.trees import MIB, differences, make_hard, noise

OLD_NS = 1_600_000_000_000_000_000
"""Long before any test, so that what is written with this time need not be read again."""


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(str(tmp_path / "store"), create=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of several kinds, all of it old."""
    root = tmp_path / "tree"
    (root / "folder" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a").write_text("a")
    (root / "none").write_text("")
    (root / "folder" / "b").write_text("b")
    (root / "folder" / "deep" / "large").write_bytes(noise(5 * MIB))
    (root / "one").write_text("linked")
    os.link(root / "one", root / "folder" / "two")
    (root / "link").symlink_to("a")
    age(root)
    return root


def age(root: Path) -> None:
    for folder, _, names in os.walk(root, topdown=False):
        for path in [*(Path(folder) / name for name in names), Path(folder)]:
            os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)


def counts(pulled: Pulled) -> tuple[int, int, int, int, int]:
    return pulled.left_alone, pulled.written, pulled.fixed, pulled.removed, pulled.extra


def inodes(root: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.lstat().st_ino, path.lstat().st_ctime_ns) for path in sorted(root.rglob("*"))}


def test_what_is_right_is_left_alone(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store.push(tree, "main")
    first = store.pull("main", out)
    assert (first.left_alone, first.written + first.fixed) == (0, 11)
    before = inodes(out)
    for _ in range(3):
        again = store.pull("main", out)
        assert counts(again) == (11, 0, 0, 0, 0)
        assert (again.files, again.bytes, again.bytes_fetched) == (first.files, first.bytes, 0)
        assert inodes(out) == before


def test_a_tree_of_everything_is_right_when_it_has_been_pulled(store: OpenStore, tmp_path: Path) -> None:
    make_hard(tmp_path / "in")
    store.push(tmp_path / "in", "main")
    store.pull("main", tmp_path / "out")
    before = inodes(tmp_path / "out")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    again = store.pull("main", tmp_path / "out", index=tmp_path / "another.index")
    assert (again.written, again.fixed, again.notes) == (0, 0, ())
    assert inodes(tmp_path / "out") == before


@pytest.mark.parametrize("make", trees.MAKERS.values(), ids=trees.MAKERS.keys())
def test_any_tree_becomes_any_other(store: OpenStore, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "in")
    (tmp_path / "other").mkdir()
    names = sorted(os.listdir(os.fsencode(tmp_path / "in")))
    for number, name in enumerate(names):
        place = os.fsencode(tmp_path / "other") + b"/" + name
        if number % 2:
            os.mkdir(place)
            Path(os.fsdecode(place), "inside").write_text("x")
        else:
            Path(os.fsdecode(place)).write_text("other")
    store.push(tmp_path / "in", "main")
    store.push(tmp_path / "other", "other")
    store.pull("other", tmp_path / "out")
    for ref, root in (("main", "in"), ("other", "other"), ("main", "in")):
        pulled = store.pull(ref, tmp_path / "out", delete=True)
        assert pulled.notes == ()
        assert pulled.extra == 0
        assert differences(tmp_path / root, tmp_path / "out") == []


def test_only_what_differs_is_fetched_and_written(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store.push(tree, "main")
    store.pull("main", out)
    before = inodes(out)
    (tree / "a").write_text("edited")
    (tree / "folder" / "new").write_text("new")
    age(tree)
    store.push(tree, "main")
    pulled = store.pull("main", out)
    assert counts(pulled) == (10, 2, 0, 0, 0)
    assert pulled.bytes_fetched < 4096
    assert differences(tree, out) == []
    assert {path for path, was in inodes(out).items() if was != before.get(path)} == {
        out / "a", out / "folder", out / "folder" / "new",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["mode", "time", "attribute", "added attribute", "directory"])
def test_metadata_alone_is_put_right_in_place(store: OpenStore, tree: Path, tmp_path: Path, kind: str) -> None:
    os.setxattr(tree / "a", "user.k", b"v")
    os.utime(tree / "a", ns=(OLD_NS, OLD_NS))
    out = tmp_path / "out"
    store.push(tree, "main")
    store.pull("main", out)
    inode = (out / "a").stat().st_ino
    if kind == "mode":
        (out / "a").chmod(0o600)
    elif kind == "time":
        os.utime(out / "a")
    elif kind == "attribute":
        os.setxattr(out / "a", "user.k", b"other")
    elif kind == "added attribute":
        os.setxattr(out / "a", "user.l", b"")
    else:
        (out / "folder").chmod(0o700)
    pulled = store.pull("main", out)
    assert counts(pulled) == (10, 0, 1, 0, 0)
    assert pulled.bytes_fetched == 0 or kind != "mode"
    assert (out / "a").stat().st_ino == inode
    assert differences(tree, out) == []


def test_what_the_tree_has_not_stays_unless_it_is_to_be_deleted(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store.push(tree, "main")
    store.pull("main", out)
    (out / "mine").write_text("mine")
    (out / "folder" / "own" / "deeper").mkdir(parents=True)
    (out / "folder" / "own" / "file").write_text("x")
    (out / "folder" / "own" / "away").symlink_to(tree)
    (out / "empty" / "pipe").touch()
    for _ in range(2):
        pulled = store.pull("main", out)
        assert (pulled.removed, pulled.extra) == (0, 6)
        assert (out / "mine").read_text() == "mine"
    pulled = store.pull("main", out, delete=True)
    assert (pulled.written, pulled.removed, pulled.extra) == (0, 6, 0)
    assert differences(tree, out) == []
    assert (tree / "a").exists()


def test_what_rules_leave_out_is_no_business_of_a_pull(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    (tree / ".sapwoodignore").write_text("*.o\n")
    age(tree)
    out = tmp_path / "out"
    store.push(tree, "main")
    store.pull("main", out)
    (out / "folder" / "b.o").write_text("built")
    pulled = store.pull("main", out, delete=True)
    assert (pulled.removed, pulled.extra) == (0, 0)
    assert (out / "folder" / "b.o").read_text() == "built"
    (out / "gone").mkdir()
    (out / "gone" / "c.o").touch()
    pulled = store.pull("main", out, delete=True)
    assert (pulled.removed, pulled.extra) == (0, 1)


@pytest.mark.parametrize("there", ["file", "link", "empty directory", "full directory", "pipe"])
@pytest.mark.parametrize("wanted", ["file", "link", "directory", "pipe", "hard link"])
def test_a_kind_that_changes_is_replaced(store: OpenStore, tmp_path: Path, there: str, wanted: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("outside")
    tree, out = tmp_path / "tree", tmp_path / "out"
    for root, kind in ((tree, wanted), (out, there)):
        root.mkdir()
        (root / "first").write_text("first")
        thing = root / "thing"
        if kind == "file":
            thing.write_text(f"in {root.name}")
        elif kind == "link":
            thing.symlink_to(outside if root == out else "first")
        elif kind == "pipe":
            os.mkfifo(thing)
        elif kind == "hard link":
            os.link(root / "first", thing)
        else:
            thing.mkdir()
            if kind != "empty directory":
                (thing / "file").write_text("inside")
    store.push(tree, "main")
    if there == "full directory" and wanted != "directory":
        before = trees.look(out)
        with pytest.raises(ConflictError) as refused:
            store.pull("main", out)
        assert refused.value.kind == "in-the-way"
        assert vars(refused.value)["paths"] == [str(out / "thing")]
        assert trees.look(out) == before
        assert store.pull("main", out, delete=True).removed == 1
    else:
        store.pull("main", out)
    assert differences(tree, out) == []
    assert (outside / "file").read_text() == "outside"
    assert os.listdir(outside) == ["file"]


def test_hard_links_are_those_of_the_tree(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store.push(tree, "main")
    store.pull("main", out)
    (out / "folder" / "two").unlink()
    shutil.copy2(out / "one", out / "folder" / "two")
    (out / "none").unlink()
    os.link(out / "a", out / "none")
    store.pull("main", out)
    assert differences(tree, out) == []
    (out / "a").unlink()
    os.link(out / "folder" / "b", out / "a")
    store.pull("main", out)
    assert differences(tree, out) == []


def test_a_file_that_has_a_name_elsewhere_is_not_changed_there(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    store.push(tree, "main")
    store.pull("main", out)
    (out / "a").chmod(0o600)
    os.link(out / "a", elsewhere)
    (out / "folder" / "b").write_text("other")
    os.link(out / "folder" / "b", tmp_path / "elsewhere-too")
    store.pull("main", out)
    assert differences(tree, out) == []
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o600
    assert (tmp_path / "elsewhere-too").read_text() == "other"


def test_the_next_hash_reads_nothing_that_a_pull_wrote(
    store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "tree", tmp_path / "out"
    root.mkdir()
    record = module._record

    def later(*arguments: object) -> None:
        # What was written within the clock's grain of the look would be read again.
        settle()
        record(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_record", later)
    for number in range(300):
        (root / f"file-{number}").write_bytes(noise(1000, number))
    os.link(root / "file-0", root / "linked")
    age(root)
    store.push(root, "main")
    store.pull("main", out)
    assert Index(out).hash().files_hashed == 0
    for number in range(0, 300, 2):
        (root / f"file-{number}").write_bytes(noise(1000, 1000 + number))
    age(root)
    pushed = store.push(root, "main")
    store.pull("main", out)
    hashed = Index(out).hash()
    assert hashed.digest == pushed.tree
    assert hashed.files_hashed == 0
    assert list(Index(out).verify().wrong) == []


def test_an_index_of_ones_own_is_used_and_kept(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    index = tmp_path / "my.index"
    store.push(tree, "main")
    store.pull("main", tmp_path / "out", index=index)
    assert index.exists()
    assert not Index(tmp_path / "out").path.exists()
    assert store.pull("main", tmp_path / "out", index=index).written == 0
    assert not Index(tmp_path / "out").path.exists()


def test_a_change_that_a_pull_remembers_nothing_of_is_seen(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store.push(tree, "main")
    store.pull("main", out)
    for _ in range(2):
        assert store.pull("main", out).written == 0
    seen = (out / "a").stat()
    (out / "a").write_text("z")
    os.utime(out / "a", ns=(seen.st_mtime_ns, seen.st_mtime_ns))
    assert store.pull("main", out).written == 1
    assert differences(tree, out) == []
    for victim in tmp_path.rglob("*.pulled"):
        victim.write_bytes(victim.read_bytes()[:-9])
    assert store.pull("main", out).written == 0


def test_a_pull_into_a_tree_that_was_there_before_any_pull_reads_it_and_leaves_it(
    store: OpenStore, tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    subprocess.run(["cp", "-a", tree, out], check=True)
    (out / "folder" / "b").unlink()
    store.push(tree, "main")
    pulled = store.pull("main", out)
    # The directory that lost it has another time.
    assert counts(pulled) == (9, 1, 1, 0, 0)
    assert differences(tree, out) == []


def test_a_store_in_the_directory_is_not_deleted(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store = open_store(str(out / "store"), create=True)
    store.push(tree, "main")
    with pytest.raises(InvalidInputError) as refused:
        store.pull("main", out, delete=True)
    assert refused.value.kind == "own-store"
    store.pull("main", out)
    assert differences(tree, out, but=frozenset({"names"})) != []
    assert store.refs()


def test_an_ordinary_user_can_pull_again_where_modes_forbid_it() -> None:
    with nobodys_directory() as place:
        done = as_nobody(
            "os.environ['SAPWOOD_CACHE'] = sys.argv[1] + '/cache'\n"
            "from pathlib import Path; from tests.support.trees import make_hard, differences\n"
            "place = Path(sys.argv[1]); make_hard(place / 'in')\n"
            "store = sapwood.open_store(str(place / 'store'), create=True)\n"
            "store.push(place / 'in', 'main'); store.pull('main', place / 'out')\n"
            "for _ in range(2):\n"
            "    again = store.pull('main', place / 'out')\n"
            "    assert (again.written, again.notes) == (0, ()), again\n"
            "(place / 'out' / 'shut').mkdir(); (place / 'out' / 'shut' / 'in').touch()\n"
            "(place / 'out' / 'shut').chmod(0o500)\n"
            "again = store.pull('main', place / 'out', delete=True)\n"
            "assert (again.written, again.removed, again.notes) == (0, 2, ()), again\n"
            "for line in differences(place / 'in', place / 'out'): print(line)\n",
            place,
        )
    assert (done.code, done.out) == (0, ""), done


def test_the_command_reports_what_it_did(tree: Path, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("push", tree, "main")
    run.good("pull", "main", "out")
    (tmp_path / "out" / "mine").touch()
    (tmp_path / "out" / "a").write_text("other")
    said = run.good("pull", "main", "out", "--json", "--index", "my.index").document
    assert {name: said[name] for name in ("leftAlone", "written", "fixed", "removed", "extra")} == {
        "leftAlone": 9, "written": 1, "fixed": 1, "removed": 0, "extra": 1,
    }  # fmt: skip
    assert "1 removed" in run.good("pull", "--delete", "main", "out").err


def test_two_pulls_do_not_write_to_one_directory(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    store.push(tree, "main")
    store.pull("main", out)
    (out / "a").unlink()
    refused: list[ConflictError] = []
    read_ranges = Store.read_ranges

    def meanwhile(*arguments: object) -> object:
        if not refused:
            with pytest.raises(ConflictError) as error:
                open_store(store.url).pull("main", out)
            refused.append(error.value)
        return read_ranges(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "read_ranges", meanwhile)
    store.pull("main", out)
    assert refused[0].kind == "pull-running"
    assert differences(tree, out) == []


def test_a_directory_that_may_not_be_read_is_named(tree: Path, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("push", tree, "main")
    run.good("pull", "main", "out")
    (tmp_path / "out").chmod(0o000)
    said = run.without_powers()("pull", "main", "out")
    (tmp_path / "out").chmod(0o755)
    assert said.code == 7
    assert str(tmp_path / "out") in said.err


def test_a_file_that_somebody_changes_meanwhile_is_told(
    store: OpenStore, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    store.push(tree, "main")
    store.pull("main", out)
    (out / "a").unlink()
    read_ranges = Store.read_ranges

    def meanwhile(*arguments: object) -> object:
        (out / "folder" / "b").write_text("somebody's")
        return read_ranges(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(UnavailableError) as told:
        patch.setattr(Store, "read_ranges", meanwhile)
        store.pull("main", out)
    assert told.value.kind == "file-changing"
    store.pull("main", out)
    assert differences(tree, out) == []


@pytest.mark.parametrize("what", ["index", "cache"])
def test_an_index_or_a_cache_in_the_directory_is_not_deleted(
    store: OpenStore, tree: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    store.push(tree, "main")
    store.pull("main", out)
    index = out / "my.index" if what == "index" else None
    if what == "cache":
        monkeypatch.setenv("SAPWOOD_CACHE", str(out / "cache"))
    store.pull("main", out, index=index)
    with pytest.raises(InvalidInputError) as refused:
        store.pull("main", out, delete=True, index=index)
    assert refused.value.kind == "own-cache"
    assert str(out / ("my.index" if what == "index" else "cache")) in str(refused.value)
    assert (out / ("my.index" if what == "index" else "cache")).exists()


@pytest.mark.parametrize("where", ["file/x", "file/x/y"])
def test_a_place_below_a_file_is_a_call_that_cannot_be_right(tree: Path, tmp_path: Path, where: str) -> None:
    run = Sapwood(tmp_path)
    run.good("push", tree, "main")
    (tmp_path / "file").touch()
    said = run("pull", "main", where)
    assert (said.code, said.err) == (2, f"sapwood: {tmp_path / 'file'} is not a directory\n")


def test_a_symbolic_link_to_a_directory_is_told_with_its_target(store: OpenStore, tree: Path, tmp_path: Path) -> None:
    store.push(tree, "main")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(InvalidInputError) as refused:
        store.pull("main", tmp_path / "link")
    assert refused.value.kind == "not-a-directory"
    assert f"{tmp_path / 'link'} is a symbolic link to real" in str(refused.value)
    assert str(tmp_path / "real") in str(refused.value.hint)
