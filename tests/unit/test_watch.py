"""`sapwood watch` as people use it, and the promise that it changes no answer."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sapwood import hash_tree, status
from sapwood.errors import ConflictError
from sapwood.tree import watched
from sapwood.tree.options import Options
from sapwood.watch import start, stop, watchers
from tests.support.cli import Sapwood
from tests.support.watching import PatientSapwood, answers, check, watching


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy a watcher that lives may say nothing for a while."""
    monkeypatch.setattr(watched, "_PATIENCE_S", 60.0)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Sapwood]:
    """Commands in a directory that has a tree, `src`; no watcher of theirs is left."""
    sapwood = PatientSapwood(tmp_path)
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/f").write_text("x")
    yield sapwood
    for tree in sapwood.good("watch", "--list", "--json").document:
        sapwood("watch", "--stop", tree["path"])
    assert sapwood.good("watch", "--list").out == ""


class TestCommand:
    def test_it_starts_tells_what_it_watches_and_stops(self, run: Sapwood) -> None:
        digest = run.good("hash", "src").out
        said = run.good("watch", "src")
        assert (said.out, said.err) == ("", "watching src; end it with: sapwood watch --stop src\n")
        listed = run.good("watch", "--list").out
        assert re.fullmatch(rf"{run.home}/src  process \d+, 2 directories\n", listed)
        assert run.good("hash", "src").out == digest
        (run.home / "src/new").write_text("y")
        assert run.good("status", "src").out == "A new\n"
        assert run.good("hash", "src").out != digest
        assert run.good("watch", "--stop", "src").out == ""
        assert run.good("watch", "--list").out == ""
        again = run("watch", "--stop", "src")
        assert (again.code, again.err) == (3, "sapwood: src is not watched\nhint: sapwood watch --list\n")

    def test_starting_it_again_is_no_mistake_but_with_another_index_it_is(self, run: Sapwood) -> None:
        run.good("watch", "src")
        assert run.good("watch", "src").err == "src is watched already\n"
        other = run("watch", "--index", "other.index", "src")
        assert other.code == 4
        assert other.err.splitlines()[1] == f"hint: sapwood watch --stop {run.home}/src"

    def test_json_names_process_and_log(self, run: Sapwood) -> None:
        started = run.good("watch", "--json", "src").document
        assert started.keys() == {"path", "pid", "log"}
        (listed,) = run.good("watch", "--list", "--json").document
        assert listed["pid"] == started["pid"]
        assert listed["path"] == started["path"] == f"{run.home}/src"
        assert listed.keys() == {"path", "index", "pid", "directories"}

    @pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("by_first_thread", [True, False])
    def test_in_the_foreground_it_ends_with_a_signal(
        self, run: Sapwood, signo: signal.Signals, by_first_thread: bool
    ) -> None:
        command = run.command("watch", "--foreground", "src")
        with subprocess.Popen(command, cwd=run.home, env=run.environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                assert process.stderr.readline() == "watching src\n"
                assert [watched["pid"] for watched in run.good("watch", "--list", "--json").document] == [process.pid]
                if by_first_thread:
                    process.send_signal(signo)
                else:
                    # The kernel may give what is sent to the process to any of its threads.
                    others = {int(tid) for tid in os.listdir(f"/proc/{process.pid}/task")} - {process.pid}
                    # The oldest: one that answers ends with its answer.
                    assert ctypes.CDLL(None).tgkill(process.pid, min(others), signo) == 0
                assert process.wait(100) == 128 + signo
                assert process.stderr.read() == ""
            finally:
                process.kill()

    def test_mistakes_are_told_by_their_names(self, run: Sapwood) -> None:
        (run.home / "file").write_text("")
        for words, code, line in [
            (["missing"], 3, "sapwood: cannot open {home}/missing: No such file or directory"),
            (["file"], 2, "sapwood: {home}/file is not a directory"),
            ([], 2, "sapwood: watch: no directory"),
            (["/proc/self"], 2, "cannot be watched: its file system of type 0x9fa0 may change"),
        ]:
            said = run("watch", *words)
            assert said.code == code
            assert line.format(home=run.home) in said.err


class TestAnswers:
    def test_they_count_only_what_was_read(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("12345")
        (tmp_path / "d").mkdir()
        with watching(tmp_path), answers() as counted:
            first = hash_tree(tmp_path)
            assert (first.files, first.directories, first.bytes, first.files_hashed) == (1, 1, 5, 1)
            second = hash_tree(tmp_path)
            assert (second.files_hashed, second.bytes_hashed, second.bytes) == (0, 0, 5)
            assert second.digest == first.digest
            assert second.size == first.size
            assert counted.given == 2

    def test_names_of_any_bytes_come_through(self, tmp_path: Path) -> None:
        hash_tree(tmp_path)
        name = b"\xff\n \xed\xb2\x80"
        with watching(tmp_path), answers() as counted:
            (Path(os.fsdecode(bytes(tmp_path) + b"/" + name))).write_text("x")
            assert status(tmp_path).added == (name,)
            assert counted.given == 1

    def test_other_options_or_another_index_are_not_answered(self, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        tree.mkdir()
        digest = hash_tree(tree).digest
        with watching(tree), answers() as counted:
            assert hash_tree(tree, index=tmp_path / "other.index").digest == digest
            assert hash_tree(tree, options=Options(trust_ctime=False)).digest == digest
            assert hash_tree(tree, options=Options(one_file_system=True)).digest == digest
            assert counted.given == 0
            check(tree)

    def test_one_that_was_started_with_options_answers_for_them(self, tmp_path: Path) -> None:
        options = Options(one_file_system=True)
        start(tmp_path, options=options)
        try:
            with answers() as counted:
                hash_tree(tmp_path)
                assert counted.given == 0
                hash_tree(tmp_path, options=options)
                assert counted.given == 1
            with watching(tmp_path):
                assert [watched.root for watched in watchers()] == [tmp_path, tmp_path]
        finally:
            if watchers():
                stop(tmp_path)
        assert watchers() == []

    def test_it_is_watched_once(self, tmp_path: Path) -> None:
        with watching(tmp_path), pytest.raises(ConflictError) as twice:
            start(tmp_path)
        assert twice.value.kind == "watched"
        assert watchers() == []

    def test_a_cache_of_any_length_will_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAPWOOD_CACHE", str(tmp_path.joinpath(*["cache" * 10] * 4)))
        tree = tmp_path / "tree"
        tree.mkdir()
        with watching(tree):
            check(tree)
