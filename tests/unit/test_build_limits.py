"""What a builder may use, and how many run: real commands in real sandboxes that want more."""

import threading
from pathlib import Path

import pytest

from sapwood.build import derivation
from sapwood.errors import InvalidInputError
from tests.support.building import Heard, Place

# More levels than Python calls deep, in more bytes than a path has.
DEEPER = """import os
for _ in range(1200):
    os.mkdir("deep" * 10); os.chdir("deep" * 10)"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.sources.mkdir()
    return place


def make(place: Place, name: str, command: str, **words: object):
    return derivation(name, command, base=place.sources, **words)


def refused(place: Place, *targets, **options) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as error:
        place.build(*targets, **options)
    return error.value


def test_time_and_memory_have_limits(place):
    error = refused(place, make(place, "slow", "sleep 1000", timeout_s=0.3))
    assert (error.kind, str(error)) == ("build-failed", "derivation slow: it took more than 0.3 s")
    hungry = "python3 -c 'x = bytearray(400 << 20); print(len(x))'"
    error = refused(place, make(place, "hungry", hungry, memory=200 << 20))
    assert error.kind == "build-failed"
    many = "for i in 1 2 3 4; do python3 -c 'import time; x = b\"x\" * (90 << 20); time.sleep(1000)' & done; wait"
    error = refused(place, make(place, "many", many, memory=200 << 20, timeout_s=60))
    assert "bytes of memory" in str(error)


def test_the_disk_has_a_limit_for_one_large_file_and_for_many(place):
    """By default, too: no builder fills the disk of the machine."""
    limit = 8 << 20
    for name, command in (
        ("large", "exec cat /dev/zero >large"),
        ("many", "mkdir d; i=0; while :; do i=$((i + 1)); echo $i >d/$i; done"),
        ("empty", "mkdir d; i=0; while :; do i=$((i + 1)); : >d/$i; done"),
        ("deep", f'python3 -c \'{DEEPER}\nopen("x", "wb").write(bytes(60 << 20))\'; exec sleep 1000'),
        ("linked", "head -c 1000000 /dev/zero >a; i=0; while :; do i=$((i + 1)); cp a b$i; ln a c$i; done"),
    ):
        error = refused(place, make(place, name, command, disk=limit, timeout_s=60))
        assert (error.kind, str(error)) == (
            "build-failed",
            f"derivation {name}: it wrote more than {limit:,} bytes to the disk",
        )
    assert list((place.cache / "scratch").iterdir()) == []
    links = "head -c 5000000 /dev/urandom >a; for i in 1 2 3 4 5; do ln a b$i; done; sleep 1; echo 1 >out"
    built = place.build(make(place, "links", links, disk=limit, outputs=["out"]))
    assert place.read(built, "links", b"out") == b"1\n"


def test_a_tree_deeper_than_any_path_is_removed_and_is_no_output(place):
    """Nor does it stand in the way of the next build."""
    closed = f'python3 -c \'{DEEPER}\nos.mkdir("e"); os.mkdir("e/f"); os.chmod("e", 0)\''
    place.build(make(place, "beside", f"{closed}; echo >out", outputs=["out"]))
    error = refused(place, make(place, "within", f"mkdir out; cd out; {closed}", outputs=["out"]), keep_failed=True)
    assert (error.kind, "deeper" in str(error)) == ("output-unusable", True)
    refused(place, make(place, "within", "false"), keep_failed=True)
    assert list((place.cache / "failed" / "within").iterdir()) == []
    assert list((place.cache / "scratch").iterdir()) == []


def test_without_a_word_a_builder_may_write_what_is_usual(place, monkeypatch):
    monkeypatch.setattr("sapwood.build.local.DISK", 4 << 20)
    error = refused(place, make(place, "one", "exec cat /dev/zero >large", timeout_s=60))
    assert "4,194,304 bytes to the disk" in str(error)


def test_what_lies_in_tmp_is_memory_and_has_its_limit(place):
    one = make(place, "one", "head -c 90000000 /dev/zero >/tmp/x || echo full >out", memory=64 << 20, outputs=["out"])
    assert place.read(place.build(one), "one", b"out") == b"full\n"


def test_as_many_builders_run_at_a_time_as_there_may_and_no_more(place):
    """Each waits until there are so many, and a while for one too many."""

    class Counting(Heard):
        running = most = 0

        def __init__(self) -> None:
            super().__init__()
            self.lock, self.enough, self.more = threading.Lock(), threading.Event(), threading.Event()

        def begun(self, one) -> None:
            with self.lock:
                self.running += 1
                self.most = max(self.most, self.running)
                (self.enough if self.running == 3 else self.more if self.running > 3 else threading.Event()).set()

        def said(self, one, data) -> None:
            assert self.enough.wait(60)
            self.more.wait(0.2)
            with self.lock:
                self.running -= 1

    counting = Counting()
    place.build(*(make(place, f"d{number}", f"echo {number}") for number in range(8)), jobs=3, listener=counting)
    assert counting.most == 3
