"""What every tier of the mount promises to those who read: POSIX, as a local disk has it, mostly a read-only one.

A tier is a subclass. The tree is the same for all, and is read by programs of their own: the process of the test must
not wait for a mount.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sapwood import open_store
from sapwood.mount import mounts, unmount
from tests.support.kernelcaches import dropped
from tests.support.mounting import is_mounted, mounted, shell
from tests.support.nobody import NOBODY, as_nobody, nobodys_directory

# More than 32 bits say.
LARGE = (4 << 30) + (64 << 20)
MANY = 5000
LONG_NAME = "n" * 255
# All tests of a tier use one mount.
_PATIENCE_S = 1200.0


def hard_tree(root: Path, largest: int = LARGE) -> None:
    """Make a tree of all that a file system can be asked for; its largest file is nearly all a hole."""
    root.mkdir()
    root.chmod(0o755)
    (root / "d").mkdir()
    (root / "d" / "closed").mkdir(mode=0o700)
    (root / "d" / "closed" / "inside").write_text("nobody sees this")
    (root / "d" / "empty").mkdir()
    (root / "empty file").touch()
    (root / "private").write_text("mine")
    (root / "private").chmod(0o600)
    (root / "script").write_text('#!/bin/sh\necho "from $0 with $1"\n')
    (root / "script").chmod(0o755)
    shutil.copy("/bin/true", root / "program")
    (root / "blob").write_bytes(os.urandom(5_000_001))
    os.link(root / "blob", root / "d" / "again")
    os.link(root / "blob", root / "z")
    (root / "link").symlink_to("d/again")
    (root / "far").symlink_to("x/" * 2047)
    (root / "dangling").symlink_to("nowhere")
    os.mknod(root / "pipe", 0o644 | 0o010000)
    os.mknod(root / "device", 0o600 | 0o020000, os.makedev(1, 3))
    (root / LONG_NAME).write_text("long")
    (root / os.fsdecode(b"not \xff UTF-8")).write_text("bytes")
    (root / "noted").write_text("noted")
    os.setxattr(root / "noted", "user.note", b"kept")
    os.setxattr(root / "noted", "user.empty", b"")
    os.setxattr(root / "noted", "trusted.overlay.opaque", b"n")
    # cap_net_raw=ep, version 2.
    os.setxattr(root / "program", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    shutil.copy("/bin/cat", root / "raised")
    (root / "raised").chmod(0o4755)
    # All of them, version 2.
    os.setxattr(root / "raised", "security.capability", bytes.fromhex("01000002ffffffff00000000ffffffff00000000"))
    (root / "owned").write_text("theirs")
    os.chown(root / "owned", 65533, 4_000_000_000)
    (root / "many").mkdir()
    for number in range(MANY):
        (root / "many" / f"{number:05}").write_text(str(number))
    with open(root / "sparse", "wb") as sparse:
        sparse.seek(3 << 20)
        sparse.write(b"data" * 4096)
        sparse.truncate(9 << 20)
    with open(root / "large", "wb") as large:
        large.seek(largest - 5)
        large.write(b"here\n")
    os.utime(root / "empty file", ns=(0, -1_500_000_000))
    os.utime(root / "d" / "empty", ns=(0, 5_000_000_000_123_456_789))


@pytest.fixture(scope="session")
def hard_pushed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The hard tree, and its address in a store."""
    work = tmp_path_factory.mktemp("hard")
    hard_tree(work / "tree")
    store = open_store(str(work / "store"), create=True, cache_dir=work / "cache")
    store.push(work / "tree", "main")
    return work / "tree", f"{work / 'store'}#main"


def python(code: str, *arguments: str | Path) -> Any:
    """Run Python code, which prints JSON, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def out(command: str) -> str:
    """Return what a command prints, which must succeed and complain of nothing."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return os.fsdecode(done.stdout)


class ReadContract:
    """Everything that can be asked of a mounted tree by who reads."""

    options: ClassVar[dict[str, object]]
    """Of `process.start`."""
    numbered: ClassVar = ""
    """For `find`: what keeps its inode number when the kernel has forgotten it."""
    holes: ClassVar = True
    """Whether they are told."""
    noted: ClassVar = ("noted", "program", "raised")
    """Files whose extended attributes are all shown."""

    @pytest.fixture(scope="class")
    @classmethod
    def tree(cls, hard_pushed: tuple[Path, str]) -> Path:
        return hard_pushed[0]

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, hard_pushed: tuple[Path, str]) -> Iterator[Path]:
        with nobodys_directory() as home:
            place = home / "mount"
            with mounted(hard_pushed[1], place, home / "cache", _PATIENCE_S, prefetch=False, **cls.options):
                if cls.options.get("passthrough"):
                    # What is complete is passed through when it is opened the next time.
                    out(f"find {place} -type f ! -name large -exec cat {{}} + >/dev/null")
                yield place

    def test_every_attribute_of_every_entry_is_that_of_the_tree(self, tree: Path, place: Path) -> None:
        files = "find . ! -type d -printf '%P %y %m %U %G %s %T@ %n %l\\n' | sort"
        directories = "find . -type d -printf '%P %m %U %G %T@\\n' | sort"
        for listing in (files, directories):
            assert out(f"cd {place} && {listing}") == out(f"cd {tree} && {listing}")

    def test_every_content_is_that_of_the_tree(self, tree: Path, place: Path) -> None:
        summing = "find . -type f ! -name large -exec sha256sum {} + | sort"
        assert out(f"cd {place} && {summing}") == out(f"cd {tree} && {summing}")

    def test_a_very_large_file_is_read_at_its_end(self, tree: Path, place: Path) -> None:
        assert out(f"tail -c 9 {place}/large | od -An -c").split() == ["\\0"] * 4 + list("here") + ["\\n"]
        assert out(f"stat -c %s {place}/large") == out(f"stat -c %s {tree}/large")

    def test_names_of_one_inode_are_one_file(self, place: Path) -> None:
        assert len(set(out(f"cd {place} && stat -c '%i %h' blob d/again z").splitlines())) == 1

    def test_an_inode_keeps_its_number_when_the_kernel_has_forgotten_it(self, place: Path) -> None:
        numbers = f"cd {place} && find . {self.numbered} -printf '%i %P\\n' | sort"
        before = out(numbers)
        with dropped():
            out("echo 2 > /proc/sys/vm/drop_caches")
        assert out(numbers) == before

    def test_what_is_not_there_is_said_so(self, place: Path) -> None:
        code = """
import errno, json, os, sys
place, found = sys.argv[1], []
for name in ("nothing", "d/nothing", "blob/below", "n" * 256, "dangling", "d/../blob", "d/.", "empty file/"):
    try:
        os.stat(f"{place}/{name}")
        found.append(None)
    except OSError as error:
        found.append(errno.errorcode[error.errno])
print(json.dumps(found))
"""
        told = ["ENOENT", "ENOENT", "ENOTDIR", "ENAMETOOLONG", "ENOENT", None, None, "ENOTDIR"]
        assert python(code, place) == told

    def test_a_directory_is_read_on_from_any_place_while_others_read_it(self, place: Path) -> None:
        code = """
import ctypes, json, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
for call in (libc.readdir, libc.telldir, libc.rewinddir, libc.closedir):
    call.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
path = os.fsencode(sys.argv[1]) + b"/many"
def names(stream, most=None):
    found = []
    while most is None or len(found) < most:
        line = libc.readdir(stream)
        if not line:
            break
        found.append(ctypes.string_at(line + 19).decode())
    return found
done = threading.Event()
def load():
    while not done.is_set():
        os.listdir(path)
loads = [threading.Thread(target=load) for _ in range(4)]
[thread.start() for thread in loads]
stream = libc.opendir(path)
first = names(stream, 1234)
at = libc.telldir(stream)
rest = names(stream)
libc.seekdir(stream, at)
again = names(stream)
libc.rewinddir(stream)
whole = names(stream)
libc.closedir(stream)
done.set()
[thread.join() for thread in loads]
print(json.dumps([rest == again, whole == first + rest, len(set(whole)), len(whole)]))
"""
        assert python(code, place) == [True, True, MANY + 2, MANY + 2]

    def test_files_are_mapped_and_private_changes_stay_private(self, place: Path) -> None:
        code = """
import errno, json, mmap, os, sys
path = sys.argv[1] + "/blob"
with open(path, "rb") as file:
    shared = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
    private = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    before = shared[4_000_000:4_000_010]
    private[4_000_000:4_000_010] = b"overwrites"
    same = shared[4_000_000:4_000_010] == before == os.pread(file.fileno(), 10, 4_000_000)
    try:
        mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        refused = None
    except OSError as error:
        refused = errno.errorcode[error.errno]
    print(json.dumps([same, private[4_000_000:4_000_010] == b"overwrites", refused, shared[:] == file.read()]))
"""
        assert python(code, place) == [True, True, "EACCES", True]

    def test_programs_are_executed(self, place: Path) -> None:
        assert out(f"{place}/program && {place}/script x") == f"from {place}/script with x\n"

    def test_bytes_are_sent_and_spliced_without_passing_a_program(self, tree: Path, place: Path) -> None:
        code = """
import json, os, sys
tree, place = sys.argv[1:]
with open(f"{tree}/blob", "rb") as file:
    expected = file.read()
size, found = len(expected), []
with open(f"{place}/blob", "rb") as file:
    with os.fdopen(os.memfd_create("sent"), "w+b") as sent:
        at = 0
        while at < size:
            at += os.sendfile(sent.fileno(), file.fileno(), at, size)
        sent.seek(0)
        found.append(sent.read() == expected)
    reading, writing = os.pipe()
    spliced, at = b"", 0
    while at < size:
        n = os.splice(file.fileno(), writing, 65536, offset_src=at)
        at += n
        while n:
            piece = os.read(reading, n)
            n -= len(piece)
            spliced += piece
    found.append(spliced == expected)
print(json.dumps(found))
"""
        assert python(code, tree, place) == [True, True]

    def test_reads_past_the_page_cache_give_the_same_bytes(self, tree: Path, place: Path) -> None:
        code = """
import json, mmap, os, sys
tree, place = sys.argv[1:]
buffer = mmap.mmap(-1, 1 << 20)
file = os.open(f"{place}/blob", os.O_RDONLY | os.O_DIRECT)
read = os.preadv(file, [buffer], 1 << 20)
with open(f"{tree}/blob", "rb") as same:
    print(json.dumps([read, buffer[:] == os.pread(same.fileno(), 1 << 20, 1 << 20)]))
"""
        assert python(code, tree, place) == [1 << 20, True]

    def test_what_is_said_to_be_a_hole_has_no_data(self, tree: Path, place: Path) -> None:
        code = """
import errno, json, os, sys
tree, place = sys.argv[1:]
with open(f"{tree}/sparse", "rb") as same:
    expected = same.read()
file = os.open(f"{place}/sparse", os.O_RDONLY)
at, covered = 0, []
while True:
    try:
        start = os.lseek(file, at, os.SEEK_DATA)
    except OSError as error:
        last = errno.errorcode[error.errno]
        break
    at = os.lseek(file, start, os.SEEK_HOLE)
    covered.append((start, at))
zero, end = True, 0
for start, stop in [*covered, (len(expected), len(expected))]:
    zero = zero and not any(expected[end:start])
    end = stop
whole = os.lseek(file, 0, os.SEEK_HOLE) <= len(expected) == os.lseek(file, 0, os.SEEK_END)
told = sum(stop - start for start, stop in covered) < len(expected)
print(json.dumps([zero, whole, told, last, os.pread(file, len(expected), 0) == expected]))
"""
        assert python(code, tree, place) == [True, True, self.holes, "ENXIO", True]

    def test_extended_attributes_are_those_of_the_tree(self, tree: Path, place: Path) -> None:
        code = """
import errno, json, os, sys
found = []
for name in sys.argv[2:]:
    path = f"{sys.argv[1]}/{name}"
    found.append(sorted((key, os.getxattr(path, key).hex()) for key in os.listxattr(path)))
try:
    os.getxattr(f"{sys.argv[1]}/noted", "user.other")
except OSError as error:
    found.append(errno.errorcode[error.errno])
print(json.dumps(found))
"""
        assert python(code, place, *self.noted) == python(code, tree, *self.noted)

    def test_others_may_read_what_its_mode_lets_them(self, place: Path) -> None:
        for command, allowed in [
            (f"cat {place}/script", True),
            (f"{place}/script x", True),
            (f"ls {place}/d", True),
            (f"cat {place}/private", False),
            (f"ls {place}/d/closed", False),
            (f"cat {place}/d/closed/inside", False),
        ]:
            said = as_nobody("import subprocess; sys.exit(subprocess.call(['sh', '-c', sys.argv[1]]))", command)
            assert (said.code == 0) is allowed, command
            assert allowed or "Permission denied" in said.err

    def test_neither_set_id_bits_nor_capabilities_give_anybody_more(self, place: Path) -> None:
        raised = f"import os; os.execv({str(place / 'raised')!r}, ['raised', '/proc/self/status'])"
        said = as_nobody(raised)
        assert said.code == 0, said.err
        status = dict(line.split(":\t", 1) for line in said.out.splitlines() if ":\t" in line)
        assert status["Uid"].split() == [str(NOBODY)] * 4
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0

    def test_many_readers_of_one_file_get_the_same_bytes(self, tree: Path, place: Path) -> None:
        expected = out(f"sha256sum < {tree}/blob")
        readers = " & ".join([f"sha256sum < {place}/blob"] * 8)
        assert out(f"{readers} & wait") == expected * 8


class ReadOnlyContract(ReadContract):
    """And by who would change it."""

    def test_the_file_system_is_full_read_only_and_takes_long_names(self, place: Path) -> None:
        code = """
import json, os, sys
found = os.statvfs(sys.argv[1])
print(json.dumps([found.f_bavail, found.f_namemax, bool(found.f_flag & os.ST_RDONLY)]))
"""
        assert python(code, place) == [0, 255, True]

    @pytest.mark.parametrize(
        "change",
        ["touch new", "echo x >> blob", "rm blob", "mv blob other", "chmod 600 blob", "ln blob other", "mkdir new"],
    )
    def test_nothing_can_be_changed(self, place: Path, change: str) -> None:
        assert "Read-only file system" in shell(f"cd {place} && {change}").stderr


class MountContract(ReadOnlyContract):
    """And by who mounts it again; of what is served, and is read-only."""

    def test_a_mount_made_right_after_another_one_ended_stays(
        self, hard_pushed: tuple[Path, str], tmp_path: Path, cache_dir: Path
    ) -> None:
        place = tmp_path / "again"
        for _ in range(5):
            with mounted(hard_pushed[1], place, cache_dir, prefetch=False, **self.options) as first:
                unmount(place, cache_dir=cache_dir)
                place.rmdir()
                with mounted(hard_pushed[1], place, cache_dir, prefetch=False, **self.options):
                    # The other one has noticed by now that it has ended.
                    first.process.wait(_PATIENCE_S)
                    assert is_mounted(place)
                    assert [mount.alive for mount in mounts(cache_dir) if mount.path == place] == [True]
                    assert out(f"cat {place}/owned") == "theirs"
            place.rmdir()
