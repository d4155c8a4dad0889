"""Ctrl-C at any moment of push, pull and cp: out at once, quiet, nothing half-made, and the next run ends the work."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from sapwood.store.objects import open_objects
from tests.support.cli import Sapwood
from tests.support.objects import assert_whole
from tests.support.storeplaces import S3Place
from tests.support.trees import MIB, differences, make_links, noise

MOMENTS = [number / 8 for number in range(9)]
"""As shares of the time that an uninterrupted run takes; each is shifted by up to an eighth."""

# Says when it begins; what comes after its end is not of interest. Whoever runs the tests may ignore SIGINT, as shells
# do for what they run in the background.
_COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from sapwood.cli.main import main
try:
    print("begins", flush=True)
    code = main(sys.argv[1:])
except KeyboardInterrupt as interrupt:
    if interrupt.__traceback__.tb_next:
        raise  # out of the command, which is to catch it itself; else it came before the command was called
    code = 130
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.exit(code)
"""


@dataclass
class Ended:
    code: int
    err: str
    seconds_after_signal: float


def interrupted(run: Sapwood, after_s: float, *words: str | Path) -> Ended:
    """Run `sapwood WORDS…` and interrupt it so many seconds after its beginning."""
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *map(str, words)],
        env=run.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(after_s)  # the moment is what is tried, nothing waits for anything
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        process.stdout.read()
        err = process.stderr.read()
        return Ended(process.wait(60), err, time.monotonic() - sent)


def seconds(run: Sapwood, *words: str | Path) -> float:
    """Return how long `sapwood WORDS…` takes."""
    started = time.monotonic()
    run.good(*words)
    return time.monotonic() - started


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough to be interrupted at."""
    root = tmp_path_factory.mktemp("tree") / "tree"
    make_links(root)
    for folder in range(30):
        (root / f"folder-{folder}").mkdir()
        for file in range(60):
            (root / f"folder-{folder}" / f"file-{file}").write_bytes(noise(2000, folder * 60 + file))
        (root / f"folder-{folder}").chmod(0o555)
    for number in range(12):
        (root / f"large-{number}").write_bytes(noise(4 * MIB, 5000 + number))
    return root


def check(ended: Ended, once: float = 0.0) -> None:
    """See that it was out at once; uninterrupted it takes `once` seconds, many on a busy machine."""
    assert ended.code in (0, 130)
    if ended.code:
        assert ended.err == ""
        # On a busy machine the end of a Python process alone takes seconds; who waits for what hangs takes longer.
        assert ended.seconds_after_signal < max(10.0, once)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_push_leaves_the_store_whole_and_the_next_ends_the_work(
    run: Sapwood, tree: Path, tmp_path: Path, moment: float
) -> None:
    once = seconds(run, "push", tree, f"{tmp_path / 'other'}#main")
    shift = random.Random(moment).random() / len(MOMENTS)
    ended = interrupted(run, once * (moment + shift), "push", tree, "main")
    check(ended, once)
    if run.store.exists():
        assert_whole(run.store)
    if ended.code:
        assert run("ls", "main").code in (0, 2, 3), "the old state: no such store or ref; or the new one"
    run.good("push", tree, "main")
    run.good("pull", "main", "out")
    assert differences(tree, tmp_path / "out") == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_pull_leaves_nothing_and_the_next_ends_the_work(
    run: Sapwood, tree: Path, tmp_path: Path, moment: float
) -> None:
    run.good("push", tree, "main")
    once = seconds(run, "pull", "main", "first")
    shift = random.Random(moment).random() / len(MOMENTS)
    place = tmp_path / "place"
    place.mkdir()
    ended = interrupted(run, once * (moment + shift), "pull", "main", place / "out")
    check(ended, once)
    left = os.listdir(place)
    assert left in ([], ["out"])
    if left:
        assert differences(tree, place / "out") == []
    else:
        assert ended.code == 130
        run.good("pull", "main", place / "out")
        assert differences(tree, place / "out") == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupted_copy_leaves_the_other_store_whole_and_the_next_ends_the_work(
    run: Sapwood, tree: Path, tmp_path: Path, moment: float
) -> None:
    run.good("push", tree, "main")
    once = seconds(run, "cp", "main", f"{tmp_path / 'other'}")
    shift = random.Random(moment).random() / len(MOMENTS)
    place = tmp_path / "place"
    ended = interrupted(run, once * (moment + shift), "cp", "main", place)
    check(ended, once)
    if place.exists():
        assert_whole(place)
    run.good("cp", "main", place)
    run.good("pull", f"{place}#main", "out")
    assert differences(tree, tmp_path / "out") == []


# At its first request a signal comes; the reply never does, unless the signal is ignored.
_SIGNALLED = """
import os, signal, threading
from sapwood.cli.main import run
from sapwood.store.store import Store
read_ranges, first, signo = Store.read_ranges, threading.Semaphore(1), int(os.environ["SIGNO"])
def signalled(*arguments):
    if first.acquire(blocking=False):
        os.kill(os.getpid(), signo)
    if signal.getsignal(signo) != signal.SIG_IGN:
        threading.Event().wait()
    return read_ranges(*arguments)
Store.read_ranges = signalled
run()
"""


def pull_signalled(run: Sapwood, signo: signal.Signals, *before: str) -> int:
    """Pull to `place/out` in a process that gets a signal, and return its code."""
    words = [*before, sys.executable, "-c", _SIGNALLED, "pull", "main", "place/out"]
    environment = {**run.environment, "SIGNO": str(int(signo))}
    return subprocess.run(words, cwd=run.home, env=environment, timeout=60, check=False).returncode


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGHUP])
def test_a_pull_that_is_asked_to_end_leaves_nothing(run: Sapwood, tree: Path, signo: signal.Signals) -> None:
    run.good("push", tree, "main")
    (run.home / "place").mkdir()
    assert pull_signalled(run, signo) == 128 + signo
    assert os.listdir(run.home / "place") == []


def test_a_pull_heeds_no_signal_that_is_ignored(run: Sapwood, tree: Path) -> None:
    run.good("push", tree, "main")
    (run.home / "place").mkdir()
    assert pull_signalled(run, signal.SIGHUP, "nohup") == 0
    assert os.listdir(run.home / "place") == ["out"]


def assert_old_or_new(ended: Ended, place: Path) -> None:
    """`out` is what was there or all of the new, `first`; that if it ended well. Ctrl-C may come when all is done."""
    old, new = b"before", (place / "first").read_bytes()
    left = (place / "out").read_bytes()
    assert left == new or (ended.code == 130 and left == old)


@pytest.mark.parametrize("words", [("pack",), ("pack", "--zstd")], ids=" ".join)
@pytest.mark.parametrize("moment", MOMENTS[::3])
def test_an_interrupted_pack_leaves_what_was_there_or_all_of_the_new(
    run: Sapwood, tree: Path, tmp_path: Path, moment: float, words: tuple[str, ...]
) -> None:
    once = seconds(run, *words, tree, tmp_path / "first")
    (tmp_path / "out").write_text("before")
    ended = interrupted(run, once * moment, *words, tree, tmp_path / "out")
    check(ended, once)
    assert_old_or_new(ended, tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_a_pack_into_a_pipe_that_nobody_reads_is_out_at_once(run: Sapwood, tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out")
    reading = os.open(tmp_path / "out", os.O_RDWR)
    try:
        ended = interrupted(run, 1.0, "pack", tree, tmp_path / "out")
        assert ended.code == 130
        check(ended)
    finally:
        os.close(reading)


def test_an_interrupted_upload_of_an_archive_leaves_no_object_or_all_of_it(
    run: Sapwood, tree: Path, s3_place: S3Place
) -> None:
    once = seconds(run, "pack", "--level", "12", tree, f"{s3_place.url}/first.tar.gz")
    ended = interrupted(run, once / 2, "pack", "--level", "12", tree, f"{s3_place.url}/second.tar.gz")
    check(ended, once)
    objects = open_objects(s3_place.url)[0]
    assert ended.code == 130 or objects.exists("second.tar.gz")
    if objects.exists("second.tar.gz"):
        assert objects.get("second.tar.gz") == objects.get("first.tar.gz")


@pytest.mark.parametrize("moment", MOMENTS[::3])
def test_an_interrupted_index_of_an_archive_leaves_what_was_there_or_all_of_the_new(
    run: Sapwood, tree: Path, tmp_path: Path, moment: float
) -> None:
    archive = tmp_path / "tree.tar.gz"
    subprocess.run(["tar", "-C", tree, "-I", "gzip -1", "-cf", archive, "."], check=True)
    index = ("index", archive, "--output")
    once = seconds(run, *index, tmp_path / "first")
    (tmp_path / "out").write_text("before")
    ended = interrupted(run, once * moment, *index, tmp_path / "out")
    check(ended, once)
    assert_old_or_new(ended, tmp_path)
    assert not list(tmp_path.glob(".*"))
