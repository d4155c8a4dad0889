"""A mount shows the tree that was pushed, to every program, from the first moment."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from stat import S_ISREG

import pytest

from sapwood import open_store
from sapwood.errors import InvalidInputError
from sapwood.mount import holder, mounts, unmount
from sapwood.mount.server import Tier
from tests.support.cli import Sapwood
from tests.support.kernelcaches import dropped
from tests.support.mounting import is_mounted, mounted, pushed, shell
from tests.support.nobody import NOBODY, as_nobody, fuse_for_users, nobodys_directory

SAPWOOD = Path(sys.executable).with_name("sapwood")
LARGE = os.urandom(5_000_000)
KIND = "fuse.sapwood"


# Serves in its own process, which is why it lets another one read.
AS_NOBODY = """
import pathlib, subprocess, sys
from sapwood.mount import serve, unmount
home = pathlib.Path(sys.argv[1])

def ready():
    sys.stdout.write(subprocess.check_output(["cat", home / "mount/bin/hello"], text=True))
    unmount(home / "mount", cache_dir=home / "cache")

serve(f"{home}/store#main", home / "mount", cache_dir=home / "cache", ready=ready)
"""


def sapwood(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SAPWOOD, *arguments], capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "bin" / "hello").write_text('#!/bin/sh\necho "hello from $(basename "$0")"\n')
    (root / "bin" / "hello").chmod(0o755)
    (root / "bin" / "link").symlink_to("hello")
    (root / "large").write_bytes(LARGE)
    os.link(root / "large", root / "again")
    (root / "empty-file").touch()
    os.setxattr(root / "bin" / "hello", "user.note", b"kept")
    for number in range(300):
        (root / "bin" / f"file-{number:03}").write_text(f"content {number}\n" * number)
    os.utime(root / "bin", ns=(0, 1_000_000_001))
    return root


def test_a_mount_is_what_was_pushed(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    with mounted(pushed(tree, tmp_path / "store"), place, cache_dir):
        assert shell(f"diff -r {tree} {place} && echo same").stdout == "same\n"
        columns = "%P %y %m %s %T@ %l %U %G\\n"
        listing = f"find . -type f -printf '{columns}' -o -type l -printf '{columns}' | sort"
        assert shell(f"cd {place} && {listing}").stdout == shell(f"cd {tree} && {listing}").stdout
        assert shell(f"{place}/bin/hello").stdout == "hello from hello\n"
        assert shell(f"stat -c '%h %i' {place}/large").stdout == shell(f"stat -c '%h %i' {place}/again").stdout
        assert shell(f"stat -c %y {place}/bin").stdout.startswith("1970-01-01 00:00:01.000000001")
        read = "import os, sys; print(os.getxattr(sys.argv[1], 'user.note'), os.listxattr(sys.argv[1]))"
        assert subprocess.check_output([sys.executable, "-c", read, place / "bin/hello"]) == b"b'kept' ['user.note']\n"
        for refused in ("touch new", "rm large", "mv large other", "chmod 600 large"):
            assert "Read-only file system" in shell(f"cd {place} && {refused}").stderr
        [mine] = [mount for mount in mounts() if mount.path == place]
        assert mine.alive
        assert mine.address.endswith("#main")
    assert not is_mounted(place)


def test_a_mapped_file_is_read_where_it_is_touched(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    script = "import mmap, sys; f = open(sys.argv[1]); print(mmap.mmap(f.fileno(), 0, access=1)[4000000:4000004].hex())"
    with mounted(pushed(tree, tmp_path / "store"), place, cache_dir, prefetch=False):
        found = subprocess.check_output([sys.executable, "-c", script, place / "large"], text=True, timeout=100)
    assert found.strip() == LARGE[4_000_000:4_000_004].hex()


def test_without_prefetch_only_what_is_read_is_fetched(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    place, stats = tmp_path / "mount", tmp_path / "stats.json"
    address = pushed(tree, tmp_path / "store")
    with mounted(address, place, cache_dir, prefetch=False, stats=str(stats)):
        assert shell(f"cat {place}/bin/file-007").stdout == "content 7\n" * 7
    counts = json.loads(stats.read_text())
    assert counts["files_read"] == 1
    assert counts["bytes_read"] == len("content 7\n" * 7)
    assert 0 < counts["bytes_fetched"] < 300_000 < len(LARGE)


def test_the_second_mount_reads_from_the_cache_of_the_first(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address = pushed(tree, tmp_path / "store")
    for number in range(2):
        place, stats = tmp_path / f"mount-{number}", tmp_path / f"stats-{number}.json"
        with mounted(address, place, cache_dir, prefetch=False, stats=str(stats)):
            assert shell(f"cat {place}/large | cmp - {tree}/large && cat {place}/bin/* > /dev/null").returncode == 0
    assert '"frames_fetched": 0' in (tmp_path / "stats-1.json").read_text()


def test_a_pinned_snapshot_stays_when_the_ref_moves(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store = open_store(str(tmp_path / "store"), create=True)
    first = store.push(tree, "main")
    (tree / "bin" / "hello").write_text("changed")
    store.push(tree, "main")
    place = tmp_path / "mount"
    with mounted(f"{tmp_path}/store#main@{first.snapshot}", place, cache_dir):
        assert "hello from" in shell(f"cat {place}/bin/hello").stdout


def test_an_ordinary_user_mounts_through_fusermount(tree: Path) -> None:
    with fuse_for_users(), nobodys_directory() as home:
        pushed(tree, home / "store")
        (home / "mount").mkdir()
        os.chown(home / "mount", NOBODY, NOBODY)
        done = as_nobody(AS_NOBODY, home)
        assert (done.err, done.code) == ("", 0)
        assert done.out == (tree / "bin/hello").read_text()
        assert not is_mounted(home / "mount")


@pytest.mark.parametrize(("made", "why"), [("nothing", "no such"), ("file", "not a directory"), ("full", "not empty")])
def test_a_mount_point_that_cannot_be_is_named(
    made: str, why: str, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    place = tmp_path / "mount"
    if made == "file":
        place.touch()
    if made == "full":
        (place / "something").mkdir(parents=True)
    done = subprocess.run(
        [SAPWOOD, "mount", pushed(tree, tmp_path / "store"), place],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert str(place) in done.stderr
    assert why in done.stderr.lower()
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_in_use_is_not_mounted_over(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with mounted(address, place, cache_dir):
        done = subprocess.run(
            [SAPWOOD, "mount", address, place], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 2
        assert done.stderr == f"sapwood: {place}: is already a mount\nhint: sapwood umount {place}\n"


@pytest.mark.parametrize("words", [["main"], ["nosuch"], ["--tier", "native", "main"], ["--writable", "main"]])
def test_a_mount_that_is_refused_leaves_the_one_that_is_there(words: list[str], tree: Path, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("push", tree, "main")
    (tmp_path / "mnt").mkdir()
    run.good("mount", "main", "mnt")
    [before] = [one for one in run.good("mounts", "--json").document if one["path"] == f"{tmp_path}/mnt"]

    def kept() -> dict[str, bytes]:
        # Its server notes in the last of them what has come, each time by way of a temporary file.
        names = [path for path in (run.cache / "mounts").iterdir() if path.suffix not in (".json", ".tmp")]
        return {path.name: path.read_bytes() for path in names}

    [log] = (run.cache / "mounts").glob("*.log")
    log.write_text("what it has said\n")
    (tree / "new").write_text("of another tree")
    run.good("push", tree, "main")
    found = kept()
    assert sorted(Path(name).suffix for name in found) == [".log", ".map"]
    try:
        assert run("mount", *words, "mnt").code != 0
        assert kept() == found
        assert shell(f"cat {tmp_path}/mnt/bin/file-001").stdout == "content 1\n"
        [after] = [one for one in run.good("mounts", "--json").document if one["path"] == f"{tmp_path}/mnt"]
        assert (after["pid"], after["server"]) == (before["pid"], before["server"])
    finally:
        run.good("umount", "mnt")


@pytest.mark.parametrize("name", ["link", "parent/mnt", "d/../mnt", "link/."])
def test_a_mount_has_one_name_however_its_place_was_named(name: str, tree: Path, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("push", tree, "main")
    for made in ("mnt", "d"):
        (tmp_path / made).mkdir()
    (tmp_path / "link").symlink_to("mnt")
    (tmp_path / "parent").symlink_to(tmp_path)
    made = run.good("mount", "--wait", "--json", "--writable", "main", name).document
    [shown] = [one for one in run.good("mounts", "--json").document if one["path"] == f"{tmp_path}/mnt"]
    assert (made["path"], made["pid"], made["address"]) == (shown["path"], shown["pid"], shown["address"])
    (tmp_path / "mnt" / "new").write_text("new")
    users = subprocess.Popen(["sleep", "600"], cwd=tmp_path / "mnt")
    try:
        refused = run("umount", "--discard", name)
        assert (refused.code, "is in use by sleep" in refused.err) == (6, True)
        assert (tmp_path / "mnt" / "new").read_text() == "new"
    finally:
        users.kill()
        users.wait()
    assert f"sapwood umount --discard {tmp_path}/mnt" in run.good("umount", name).err
    run.good("umount", "--discard", name)
    assert os.listdir(os.environ["SAPWOOD_CHANGES"]) == []


def test_a_mount_over_its_own_cache_is_refused(tree: Path, tmp_path: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    with pytest.raises(InvalidInputError) as refused, mounted(address, place, place / "cache"):
        pass
    assert refused.value.kind == "own-mount"


def test_what_is_no_mount_is_not_unmounted(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as refused:
        unmount(tmp_path)
    assert (refused.value.kind, refused.value.hint) == ("bad-mount-point", "sapwood mounts")
    assert "not mounted" in str(refused.value)


def test_the_api_mounts_for_the_life_of_a_block(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    store, place = open_store(str(tmp_path / "store"), create=True), tmp_path / "mount"
    store.push(tree, "main")
    place.mkdir()
    with store.mount("main", place) as server:
        assert shell(f"{place}/bin/link").stdout == "hello from link\n"
    assert not is_mounted(place)
    assert server.process.poll() is not None


@pytest.mark.parametrize(("tier", "kind"), [("fuse", KIND), ("native", "overlay"), ("libfuse", KIND)])
def test_the_api_mounts_by_the_tier_that_is_said(
    tier: Tier, kind: str, tree: Path, tmp_path: Path, cache_dir: Path
) -> None:
    store, place = open_store(str(tmp_path / "store"), create=True), tmp_path / "mount"
    store.push(tree, "main")
    place.mkdir()
    with store.mount("main", place, tier=tier):
        assert f" {place} {kind} ro," in Path("/proc/mounts").read_text()
        # Which of the two it is says who holds it.
        assert [mount.is_held for mount in mounts() if mount.path == place] == [tier != "libfuse"]
        assert shell(f"{place}/bin/link").stdout == "hello from link\n"
    assert not is_mounted(place)


def test_the_api_says_how_long_reads_wait_and_how_much_is_kept(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    pushed(tree, tmp_path / "store")
    place = tmp_path / "mount"
    place.mkdir()
    words = [sys.executable, "-m", "tests.support.webserver", tmp_path / "store", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as web:
        assert web.stdout is not None
        url = web.stdout.readline().rpartition(" ")[2].strip()
        # What is larger than its cache is fetched only as far as it is read.
        with open_store(url).mount("main", place, deadline_s=5, cache_size=1):
            # Where the server is slow itself a read ends so, too, and the next one does not.
            assert any(shell(f"cat {place}/bin/file-007").returncode == 0 for _ in range(10))
            web.kill()
            assert "Input/output error" in shell(f"cat {place}/large > /dev/null").stderr


@pytest.mark.parametrize(("signo", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (None, 0)])
def test_a_mount_in_the_foreground_ends_by_a_signal_or_umount(
    signo: int | None, code: int, tree: Path, tmp_path: Path
) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    with subprocess.Popen(
        [SAPWOOD, "mount", "--foreground", address, place], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == f"{place}\n"
        if signo:
            server.send_signal(signo)
        else:
            unmount(place)
        assert server.wait(60) == code
    assert not is_mounted(place)


# Sends a signal to itself when a named function of its own is called: at a moment that is hard to hit from outside.
MOUNT_AND_SIGNAL = """
import os, signal, sys
from importlib import import_module
from sapwood.cli.main import run
module, name, signo, *sys.argv[1:] = sys.argv[1:]
module = import_module(module)
function = getattr(module, name)
def hit(*arguments):
    os.kill(os.getpid(), int(signo))
    return function(*arguments)
setattr(module, name, hit)
run()
"""


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("module", "name", "is_left"),
    [
        ("sapwood.mount.process", "_hear", False),
        ("sapwood.mount.process", "_heed", False),
        ("sapwood.cli.show", "line", True),
    ],
)
def test_a_mount_command_that_is_stopped_says_so_or_leaves_a_mount_never_both(
    module: str, name: str, is_left: bool, signo: int, tree: Path, tmp_path: Path
) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    words = [sys.executable, "-c", MOUNT_AND_SIGNAL, module, name, str(int(signo)), "mount", address, str(place)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    left = is_mounted(place)
    if left:
        unmount(place)
    assert (done.returncode, left) == ((0, True) if is_left else (128 + signo, False)), done.stderr


def test_a_server_whose_starter_has_gone_takes_its_mount_away(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    address, place = pushed(tree, tmp_path / "store"), tmp_path / "mount"
    place.mkdir()
    reading, writing = os.pipe()
    os.close(reading)
    call = "\0" + json.dumps({"address": address, "place": str(place), "cache_dir": str(cache_dir), "log": None})
    words = [sys.executable, holder.__file__, str(writing)]
    done = subprocess.run(
        words, input=call, pass_fds=[writing], capture_output=True, text=True, timeout=100, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_mounted(place)


def test_run_without_prefetch_fetches_what_is_read(tree: Path, tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    address = pushed(tree, tmp_path / "store")
    done = sapwood("run", "--no-prefetch", "--stats", stats, address, "--", "cat", "{}/bin/file-002")
    assert (done.stdout, done.stderr) == ("content 2\n" * 2, "")
    assert json.loads(stats.read_text())["bytes_fetched"] < 300_000


def test_the_cache_is_held_to_its_size_and_what_went_is_fetched_again(tmp_path: Path, cache_dir: Path) -> None:
    tree, place, bound = tmp_path / "tree", tmp_path / "mount", 3_000_000
    tree.mkdir()
    for number in range(40):
        (tree / f"{number}").write_bytes(os.urandom(200_000))
    summing = "find . -type f | sort | xargs sha256sum"
    expected = shell(f"cd {tree} && {summing}").stdout

    def taken() -> int:
        found = 0
        for path in (cache_dir / "objects").rglob("*"):
            # The server removes what it lists here.
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                found += stat.st_blocks * 512 if S_ISREG(stat.st_mode) else 0
        return found

    with mounted(pushed(tree, tmp_path / "store"), place, cache_dir, cache_size=bound) as started:
        assert shell(f"cd {place} && {summing}").stdout == expected
        waiting = started.process
        while taken() > bound:
            assert waiting.poll() is None, "the watchdog ended it"
            os.sched_yield()
        with dropped():
            shell("echo 3 > /proc/sys/vm/drop_caches")
        assert shell(f"cd {place} && {summing}").stdout == expected
    assert taken() > 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--cache-size", "much"], "--cache-size much: no size"),
        (["--cache-size", "-1"], "--cache-size"),
        (["--tier", "fast"], "--tier fast: no tier"),
    ],
)
def test_a_tier_or_a_size_that_is_none_is_refused(words: list[str], why: str, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    said = sapwood("mount", *words, "main", tmp_path / "mount")
    assert said.returncode == 2
    assert why in said.stderr
    assert not is_mounted(tmp_path / "mount")


def test_what_brings_the_background_leaves_the_processor_to_others(tree: Path, tmp_path: Path, cache_dir: Path) -> None:
    with mounted(pushed(tree, tmp_path / "store"), tmp_path / "mount", cache_dir):
        [mount] = [mount for mount in mounts() if mount.path == tmp_path / "mount"]
        deadline = time.monotonic() + 60
        while (nice := nice_of_threads(mount.server)).count(15) != 5:
            assert time.monotonic() < deadline, nice
            time.sleep(0.01)
        assert set(nice) == {os.getpriority(os.PRIO_PROCESS, mount.server), 15}


def nice_of_threads(pid: int) -> list[int]:
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            found.append(os.getpriority(os.PRIO_PROCESS, int(thread)))
    return found
