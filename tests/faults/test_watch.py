"""A watcher that is killed, stopped, flooded or fooled: a hash is right all the same, and does not wait for it."""

from __future__ import annotations

import mmap
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sapwood import hash_tree, open_store, places, status
from sapwood.errors import InvalidInputError, NotFoundError
from sapwood.tree import watched
from sapwood.tree.index import Index, default_index_path, watcher_name
from sapwood.tree.options import Options
from sapwood.watch import start, stop, watchers
from tests.support.clock import settle
from tests.support.nobody import as_nobody, nobodys_directory
from tests.support.reapi_digest import tree_digest
from tests.support.rooted import takes_root
from tests.support.smalldisk import small_disk
from tests.support.unmounting import take_away
from tests.support.watching import answers, check, run_to_end, watching

# The kernel keeps so many notices for a watcher that does not read them.
QUEUE = 16_384


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small tree that has been hashed."""
    tree = tmp_path / "tree"
    for name in ("a", "b/c", "b/d/e", "b/d/f", "g/h"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    hash_tree(tree)
    return tree


def socket_of(root: Path) -> Path:
    return Path(places.watch_dir(), f"{watcher_name(root, Options())}.sock")


def await_end(root: Path) -> None:
    """Wait until the watcher of `root` has ended: it holds a lock until then."""
    run_to_end(["flock", str(socket_of(root).with_suffix(".lock")), "true"])


def log_of(root: Path) -> str:
    return socket_of(root).with_suffix(".log").read_text()


class TestDeath:
    def test_after_a_kill_a_hash_scans_and_a_new_watcher_starts(self, root: Path) -> None:
        with watching(root) as started:
            (root / "a").write_text("told")
            os.kill(started.pid, signal.SIGKILL)
            await_end(root)
            (root / "b/c").write_text("not told")
            check(root, by_watcher=False)
            assert socket_of(root).exists()
            assert watchers() == []
            assert not socket_of(root).exists()
        with watching(root):
            (root / "b/c").write_text("told again")
            check(root)

    def test_one_that_hangs_is_not_waited_for_and_is_killed_in_the_end(self, root: Path) -> None:
        with watching(root) as started:
            os.kill(started.pid, signal.SIGSTOP)
            (root / "a").write_text("nobody is told")
            check(root, by_watcher=False)
            os.kill(started.pid, signal.SIGCONT)
            # It read none of this, and the index is not the one that it wrote.
            check(root)

    def test_stopping_it_stops_its_work_and_whoever_asked_scans(self, root: Path) -> None:
        with open(root / "large", "wb") as file:
            file.truncate(1 << 30)
        begun, hashed = threading.Event(), []

        def ask() -> None:
            hashed.append(hash_tree(root, progress=lambda done: begun.set() if done.bytes_done else None))

        with watching(root):
            asking = threading.Thread(target=ask)
            asking.start()
            assert begun.wait(60)
            stop(root)
            assert watchers() == []
        asking.join()
        assert hashed[0].digest == tree_digest(root)

    def test_work_that_nobody_waits_for_is_stopped_and_done_for_the_next(self, root: Path) -> None:
        with open(root / "large", "wb") as file:
            file.truncate(1 << 30)

        class Enough(Exception):
            pass

        def leave(done: object) -> None:
            raise Enough

        with watching(root):
            with answers() as counted, pytest.raises(Enough):
                hash_tree(root, progress=leave)
            assert counted.given == counted.refused == 0
            check(root)

    def test_a_start_that_nobody_waits_for_leaves_no_watcher(self, root: Path) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        call = pickle.dumps((str(root), None, Options())).hex()
        start(root)  # makes the directory that the process expects
        stop(root)
        subprocess.run([sys.executable, "-m", "sapwood.watch", str(writing), call], pass_fds=[writing], check=True)
        os.close(writing)
        await_end(root)
        assert watchers() == []


class TestLostNotices:
    def test_an_overflow_costs_a_look_at_everything_and_nothing_else(self, root: Path) -> None:
        with watching(root) as started:
            os.kill(started.pid, signal.SIGSTOP)
            for number in range(QUEUE // 2):
                (root / "b/d" / f"n{number}").touch()
            (root / "new").mkdir()
            (root / "new/n").write_text("lost")
            (root / "a").write_text("lost")
            os.kill(started.pid, signal.SIGCONT)
            with answers() as counted:
                found = status(root)
            assert counted.given == 1
            assert {b"new", b"new/n"} <= set(found.added)
            assert found.changed == (b"a",)
            check(root)
            (root / "new/n").write_text("told")
            assert check(root) == 1

    @takes_root("mounting takes root")
    def test_what_is_mounted_and_unmounted_below_is_noticed(self, root: Path) -> None:
        with watching(root):
            with small_disk(root / "disk", 1 << 20) as disk:
                (disk / "f").write_text("on the disk")
                check(root)
                (disk / "f").write_text("on the disk, changed")
                assert check(root) == 1
            check(root)
            (root / "disk/f").write_text("below the disk")
            assert check(root) == 1
            run_to_end(["mount", "--bind", str(root / "b"), str(root / "disk")])
            try:
                check(root)
                (root / "b/c").write_text("seen at two places")
                assert check(root) == 2
            finally:
                take_away(root / "disk")
            check(root)

    def test_an_index_that_was_replaced_damaged_or_removed_is_not_believed(self, root: Path, tmp_path: Path) -> None:
        index = Path(default_index_path(root))
        with watching(root):
            (root / "a").write_text("changed")
            hash_tree(root)
            index.write_bytes(b"not an index")
            check(root)
            index.unlink()
            check(root)
            other = tmp_path / "other"
            shutil.copytree(root, other)
            hash_tree(other)
            shutil.copy(default_index_path(other), index)
            (root / "b/c").write_text("changed too")
            check(root)

    def test_an_index_of_another_selection_is_not_believed(self, root: Path, tmp_path: Path) -> None:
        index, without = tmp_path / "shared.index", Options(exclude=["h"])
        settle()
        hash_tree(root, index=index, options=without)
        with watching(root, index), answers() as counted:
            assert status(root, index=index).added == (b"g/h",)
            assert hash_tree(root, index=index).digest == tree_digest(root)
            hash_tree(root, index=index, options=without)  # it does not answer this
            assert status(root, index=index).added == (b"g/h",)
            assert hash_tree(root, index=index).digest == tree_digest(root)
            assert (counted.given, counted.refused) == (4, 0)

    def test_a_push_and_a_partial_look_beside_it_leave_it_right(self, root: Path, tmp_path: Path) -> None:
        store = open_store(str(tmp_path / "store"), create=True)
        with watching(root):
            (root / "a").write_text("pushed")
            store.push(root, "main")
            assert status(root).changed == ()
            (root / "b/c").write_text("looked at in part")
            assert [path for path, _ in Index.read(default_index_path(root), root).list()]
            (root / "g/h").write_text("told")
            check(root)


class TestWhatIsNotTold:
    def test_writes_through_a_mapping_are_found_while_it_is_mapped(self, root: Path) -> None:
        with watching(root):
            with open(root / "b/d/e", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
                file.close()
                for byte in b"xyz":
                    mapped[0] = byte
                    mapped.flush()
                    check(root)
                (root / "b").rename(root / "moved")
                mapped[0] = ord("q")
                mapped.flush()
                check(root)
            check(root)

    def test_a_mapping_that_was_there_before_the_watcher_is_looked_at_too(self, root: Path) -> None:
        with open(root / "b/d/e", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            file.close()
            with watching(root):
                for byte in b"xyz":
                    mapped[0] = byte
                    mapped.flush()
                    check(root)

    def test_a_link_made_within_the_tree_binds_its_names(self, root: Path) -> None:
        with watching(root):
            os.link(root / "a", root / "b/d/second")
            check(root)
            (root / "b/d/second").write_text("through the second")
            check(root)
            (root / "a").write_text("through the first")
            check(root)

    @pytest.mark.parametrize("place", ["/proc/self", "/sys/kernel"])
    def test_a_file_system_without_notices_is_refused(self, place: str) -> None:
        with pytest.raises(InvalidInputError) as refused:
            start(place)
        assert refused.value.kind == "unwatchable"
        assert watchers() == []

    def test_a_directory_that_may_not_be_read_is_noticed_when_it_may(self) -> None:
        program = """
import os
from pathlib import Path
os.environ["SAPWOOD_CACHE"] = sys.argv[1] + "/cache"
from sapwood import hash_tree
from sapwood.tree.options import Options
from sapwood.watch import serve, stop
from tests.support.watching import check
root = Path(sys.argv[1], "tree")
(root / "closed").mkdir(parents=True)
(root / "closed/f").write_text("x")
check(root, by_watcher=False)
# Nobody may not run the interpreter here, so the watcher is a fork.
reading, writing = os.pipe()
if os.fork() == 0:
    serve(root, None, ready=lambda: os.close(writing))
    os._exit(0)
os.close(writing)
assert os.read(reading, 1) == b""
check(root)
(root / "closed").chmod(0)
skipped = hash_tree(root, options=Options(skip_unreadable=True))
assert skipped.unreadable == (os.fsencode(root / "closed"),), skipped.unreadable
os.chdir(root.parent)
# As a scan names it: by the name of the directory that was given.
assert hash_tree("tree", options=Options(skip_unreadable=True)).unreadable == (b"tree/closed",)
(root / "closed").chmod(0o700)
check(root)
(root / "closed/f").write_text("y")
check(root)
stop(root)
"""
        with nobodys_directory() as place:
            said = as_nobody(program, place)
        assert said.code == 0, said


class TestWhereItIsStarted:
    def test_what_lies_there_is_not_run(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("pickle.py", "select.py", "sapwood.py"):
            (root / name).write_text("raise SystemExit('run')")
        monkeypatch.chdir(root)
        with watching(root):
            check(root)


class TestTheTreeItself:
    def test_a_link_that_led_to_it_may_lead_elsewhere_later(self, root: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(root)
        with watching(link):
            link.unlink()
            link.symlink_to(tmp_path)
            check(root)

    def test_removing_it_ends_the_watcher(self, root: Path) -> None:
        with watching(root):
            shutil.rmtree(root)
            await_end(root)
            with pytest.raises(NotFoundError):
                hash_tree(root)
            assert watchers() == []
        assert "is not where it was" in log_of(root)

    def test_another_directory_in_its_place_is_not_taken_for_it(self, root: Path) -> None:
        with watching(root) as started:
            os.kill(started.pid, signal.SIGSTOP)
            root.rename(root.with_name("old"))
            (root / "b").mkdir(parents=True)
            (root / "b/c").write_text("another")
            os.kill(started.pid, signal.SIGCONT)
            check(root, by_watcher=False)

    @takes_root("mounting takes root")
    def test_unmounting_it_is_noticed(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        with small_disk(disk, 1 << 20):
            (disk / "f").write_text("on the disk")
            hash_tree(disk)
            with watching(disk):
                run_to_end(["umount", "--lazy", str(disk)])
                check(disk, by_watcher=False)
                run_to_end(["mount", "-t", "tmpfs", "tmpfs", str(disk)])
                (disk / "g").write_text("another disk")
                check(disk, by_watcher=False)


LIMITED = "echo {limit} > /proc/sys/user/max_inotify_watches && exec {python} -m sapwood watch {root}"


@takes_root("making a user namespace may take root")
class TestLimits:
    def limited(self, root: Path, limit: int) -> subprocess.CompletedProcess[str]:
        script = LIMITED.format(limit=limit, python=sys.executable, root=root)
        command = ["unshare", "--user", "--map-root-user", "sh", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def test_too_few_watches_are_explained_with_the_remedy(self, root: Path) -> None:
        said = self.limited(root, 3)
        assert said.returncode == 6
        assert "fs.inotify.max_user_watches" in said.stderr
        assert "hint: sudo sysctl fs.inotify.max_user_watches=" in said.stderr
        assert watchers() == []
        check(root, by_watcher=False)

    def test_one_that_meets_the_limit_later_ends_and_says_why(self, root: Path) -> None:
        assert self.limited(root, 8).returncode == 0
        try:
            check(root)
            for number in range(8):
                (root / f"more{number}").mkdir()
            check(root, by_watcher=False)
            await_end(root)
        finally:
            for watching in watchers():
                stop(watching.root)
        assert "fs.inotify.max_user_watches" in log_of(root)
        check(root, by_watcher=False)


class TestTheSocket:
    def test_only_its_user_may_reach_it(self, root: Path) -> None:
        with watching(root):
            assert socket_of(root).stat().st_mode & 0o777 == 0o600
            assert socket_of(root).parent.stat().st_mode & 0o777 == 0o700

    @takes_root("becoming somebody else takes root")
    def test_another_user_is_neither_answered_nor_believed(self, root: Path) -> None:
        with watching(root):
            socket, folder = socket_of(root), socket_of(root).parent
            connect = "from sapwood.tree import watched; watched.connect(sys.argv[1])"
            # Let in by everything but the two ends' own check.
            opened = [folder, *folder.parents]
            modes = [place.stat().st_mode for place in opened]
            try:
                for place in opened:
                    place.chmod(0o777)
                socket.chmod(0o777)
                said = as_nobody(connect, socket)
            finally:
                for place, mode in zip(opened, modes, strict=True):
                    place.chmod(mode)
            assert "another user's" in said.err
            check(root)

    @pytest.mark.parametrize(
        "sent",
        [b"", b"\n", b"[]\n", b"{}\n", b'{"version":2,"do":"hash"}\n', b'{"version":1,"do":"x"}\n', b"x" * 70_000],
    )
    def test_nonsense_disturbs_nobody(self, root: Path, sent: bytes) -> None:
        with watching(root):
            connection = watched.connect(str(socket_of(root)))
            try:
                connection.sendall(sent)
                connection.shutdown(1)
                said = b"".join(watched.lines(connection))
            except OSError:
                said = b""
            finally:
                connection.close()
            assert said == b"" or b'"no"' in said
            check(root)

    def test_two_at_once_and_writers_beside_are_all_answered_rightly(self, root: Path) -> None:
        failures = []

        def ask() -> None:
            try:
                for _ in range(20):
                    hash_tree(root)
                    status(root)
            except Exception as error:  # noqa: BLE001 - told at the end, whatever it is
                failures.append(error)

        with watching(root), answers() as counted:
            asking = [threading.Thread(target=ask) for _ in range(3)]
            for thread in asking:
                thread.start()
            number = 0
            while any(thread.is_alive() for thread in asking):
                number += 1
                (root / "b" / f"n{number % 7}").mkdir(exist_ok=True)
                (root / "b" / f"n{number % 7}" / "f").write_text(str(number))
                shutil.rmtree(root / "b" / f"n{(number + 3) % 7}", ignore_errors=True)
            for thread in asking:
                thread.join()
            assert failures == []
            assert counted.given >= 60
            check(root)
