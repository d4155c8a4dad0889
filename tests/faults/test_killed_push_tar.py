"""Pushes of tars that are killed after any write, or interrupted at any moment: as those of directories."""

from __future__ import annotations

import io
import os
import random
import subprocess
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.open import OpenStore
from sapwood.push import Pushed, push_archive
from sapwood.tarsource import open_source
from sapwood.tarstream import write_tar
from sapwood.upkeep.verify import verify
from tests.faults.test_interrupted import check, interrupted, seconds
from tests.faults.test_killed_push import count_writes
from tests.support.child import Killed, die, in_child
from tests.support.cli import Sapwood
from tests.support.objects import assert_whole
from tests.support.tars import a_tar
from tests.support.trees import MIB, noise

OLD = a_tar(("a", b"old"))
# A content that is fetched back in the middle of the push.
NEW = a_tar(("a", noise(3 * MIB, 1)), *((f"dir/{n}", noise(2 * MIB, 10 + n)) for n in range(12)), ("a", b"new"))
# Two packs of contents, one of pages, fragment, file map, snapshot, ref.
WRITES = 7
MOMENTS = [number / 6 for number in range(7)]
"""As shares of the time that an uninterrupted run takes; each is shifted by up to a sixth."""


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    (tmp_path / "new.tar").write_bytes(NEW)
    return tmp_path / "new.tar"


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    made = open_store(str(tmp_path / "store"), create=True)
    (tmp_path / "old.tar").write_bytes(OLD)
    push(made, tmp_path / "old.tar")
    return made


def push(store: OpenStore, tar: Path) -> Pushed:
    with open_source(tar) as source:
        return push_archive(store, source, "main")


def given_back(store: OpenStore) -> bytes:
    out = io.BytesIO()
    assert write_tar(store, store.snapshot("main"), out).exact
    return out.getvalue()


def test_a_push_makes_the_writes_that_it_is_killed_after_below(
    store: OpenStore, tar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    count_writes(monkeypatch, counts.append)
    push(store, tar)
    assert counts == list(range(1, WRITES + 1))


@pytest.mark.parametrize("writes", range(1, WRITES + 1))
def test_killed_after_any_write_the_old_tar_comes_back_and_the_next_push_goes_on_from_there(
    store: OpenStore, tar: Path, writes: int
) -> None:
    def killed() -> None:
        with pytest.MonkeyPatch.context() as patch:
            count_writes(patch, lambda count: die() if count == writes else None)
            patch.setattr("sapwood.upload._AT_ONCE", 1)
            push(store, tar)

    with pytest.raises(Killed):
        in_child(killed)
    assert_whole(Path(store.url))
    assert given_back(store) == (NEW if writes == WRITES else OLD)
    noted = len(store.pending())
    pushed = push(open_store(store.url), tar)
    assert pushed.packs_sent <= max(1, 3 - noted)
    assert pushed.unchanged == (writes == WRITES)
    assert given_back(store) == NEW
    assert verify(store, read_data=100).damages == ()


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_push_of_a_tar_leaves_the_store_whole_and_the_next_ends_the_work(
    tmp_path: Path, tar: Path, moment: float
) -> None:
    run = Sapwood(tmp_path)
    once = seconds(run, "push", tar, f"{tmp_path / 'other'}#main")
    shift = random.Random(moment).random() / len(MOMENTS)
    ended = interrupted(run, once * (moment + shift), "push", tar, "main")
    check(ended, once)
    if run.store.exists():
        assert_whole(run.store)
    run.good("push", tar, "main")
    run.good("tar", "main", "-o", "back.tar")
    assert (tmp_path / "back.tar").read_bytes() == NEW
    left = [path.name for path in tmp_path.iterdir() if "partial" in path.name]
    assert left == []


@pytest.mark.parametrize("moment", MOMENTS[::3])
def test_an_interrupted_tar_leaves_what_was_there(tmp_path: Path, tar: Path, moment: float) -> None:
    run = Sapwood(tmp_path)
    run.good("push", tar, "main")
    once = seconds(run, "tar", "main", "-o", "first")
    (tmp_path / "out").write_text("before")
    ended = interrupted(run, once * moment, "tar", f"{run.store}#main", "-o", tmp_path / "out")
    check(ended, once)
    # Ctrl-C may come when all is done.
    left = (tmp_path / "out").read_bytes()
    assert left == NEW or (ended.code == 130 and left == b"before")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("words", [("push", "{fifo}", "main"), ("tar", "{store}#main", "-o", "{fifo}")], ids=" ".join)
def test_a_pipe_that_nobody_serves_is_left_at_once(tmp_path: Path, tar: Path, words: tuple[str, ...]) -> None:
    run = Sapwood(tmp_path)
    run.good("push", tar, "main")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)
    try:
        ended = interrupted(run, 1.0, *(word.format(fifo=fifo, store=run.store) for word in words))
        assert ended.code == 130
        check(ended)
    finally:
        os.close(held)
    assert_whole(run.store)


def test_a_reader_who_has_enough_ends_it_without_a_word(tmp_path: Path, tar: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("push", tar, "main")
    command = run.command("tar", "main")
    with subprocess.Popen(command, env=run.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(512)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode != 0
