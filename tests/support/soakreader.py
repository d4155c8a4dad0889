"""A reader of a mount that compares all it reads with the tree that was pushed; run by `tests.soak_mount`.

Promise: it imports nothing of sapwood, says in its log when each operation has ended, and ends with 3 if it saw a wrong
byte or a wrong name. An error of the mount is no wrong byte: it is counted, and logged with when its operation began
and ended, by the clock that all processes share (CLOCK_MONOTONIC).

    python soakreader.py MOUNT TREE LOG SEED SECONDS
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable

WRONG = 3
# What a mount says that lost its store, its server, or its place.
_PASSED = {errno.EIO, errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.ESTALE}
_BUS = "SIGBUS"
_ENOUGH = 20


class Reader:
    """Reads below an open directory, so that what becomes of its place does not matter."""

    def __init__(self, mount: str, tree: str, seed: int) -> None:
        self._root = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
        self.is_mounted = os.fstat(self._root).st_dev != os.stat(f"{mount}/..").st_dev
        self._mount = mount
        self._tree = tree
        self._files = sorted(
            os.path.relpath(os.path.join(path, name), tree) for path, _, names in os.walk(tree) for name in names
        )
        self._dice = random.Random(seed)
        self.begun = 0.0
        self._operations: list[Callable[[], None]] = [self.whole, self.parts, self.mapped, self.find, self.hashed]

    def operate(self) -> str:
        """Do something; return what came of it.

        Raises:
            AssertionError: something was read that is not so.
        """
        operation = self._dice.choice(self._operations)
        self.begun = time.monotonic()
        try:
            operation()
        except OSError as error:
            if error.errno not in _PASSED:
                raise AssertionError(f"{operation.__name__}: {error}") from error
            return errno.errorcode[error.errno or 0]
        except BufferError:
            return _BUS
        return operation.__name__

    def _open(self) -> tuple[str, int, bytes]:
        name = self._dice.choice(self._files)
        with open(f"{self._tree}/{name}", "rb") as file:
            truth = file.read()
        return name, os.open(name, os.O_RDONLY, dir_fd=self._root), truth

    def whole(self) -> None:
        name, there, truth = self._open()
        with open(there, "rb") as file:
            _same(name, 0, file.read(), truth)

    def parts(self) -> None:
        name, there, truth = self._open()
        with open(there, "rb") as file:
            for _ in range(10):
                offset, length = self._dice.randrange(len(truth) + 1), self._dice.randrange(1, 300_000)
                wanted = truth[offset : offset + length]
                _same(name, offset, _pread(file.fileno(), len(wanted), offset), wanted)

    def mapped(self) -> None:
        name, there, truth = self._open()
        with open(there, "rb") as file:
            if not truth:
                return
            # A page that does not come is a SIGBUS.
            child = os.fork()
            if child == 0:
                os._exit(_compare_mapped(file.fileno(), truth))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code in (1, -signal.SIGBUS):
            raise BufferError
        assert code == 0, f"{name}: mapped, {code}"

    def hashed(self) -> None:
        name, there, truth = self._open()
        with open(there, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        assert found == hashlib.sha256(truth).hexdigest(), f"{name}: hashed"

    def find(self) -> None:
        found = []

        def failed(error: OSError) -> None:
            raise error

        for path, _, names, there in os.fwalk(".", dir_fd=self._root, onerror=failed):
            for name in names:
                found.append(os.path.normpath(os.path.join(path, name)))
                os.stat(name, dir_fd=there, follow_symlinks=False)
        if not found and not os.path.ismount(self._mount):
            # docs/writable.md: of a mount that has ended, whose upper layer was removed under its users.
            raise OSError(errno.ESTALE, "taken away")
        missing, more = set(self._files) - set(found), set(found) - set(self._files)
        assert sorted(found) == self._files, (
            f"find: {len(missing)} missing, {len(more)} more: {sorted(missing | more)[:5]}"
        )


def _compare_mapped(descriptor: int, truth: bytes) -> int:
    try:
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as pages:
            found = pages[:]
    except OSError as error:
        return 1 if error.errno in _PASSED else 2
    return 0 if found == truth else WRONG


def _pread(descriptor: int, length: int, offset: int) -> bytes:
    """Read all of it: where a page does not come, the kernel first returns those before it."""
    found = b""
    while len(found) < length and (more := os.pread(descriptor, length - len(found), offset + len(found))):
        found += more
    return found


def _same(name: str, offset: int, found: bytes, truth: bytes) -> None:
    if found != truth:
        first = next((at for at, pair in enumerate(zip(found, truth, strict=False)) if pair[0] != pair[1]), len(found))
        raise AssertionError(f"{name} from {offset}: {len(found)} of {len(truth)} bytes, wrong from {first}")


def main(mount: str, tree: str, log: str, seed: str, seconds: str) -> int:
    """Read for so long."""
    until = time.monotonic() + float(seconds)
    did: Counter[str] = Counter()
    with open(log, "a", encoding="utf-8") as said:
        try:
            reader = Reader(mount, tree, int(seed))
            # A mount that has ended does not come back.
            while reader.is_mounted and time.monotonic() < until and did["ENOTCONN"] < _ENOUGH:
                did[what := reader.operate()] += 1
                said.write("." if what.islower() else f"\nerror {what} {reader.begun} {time.monotonic()}\n")
                said.flush()
        except AssertionError as error:
            said.write(f"\nwrong: {mount}: {error}\n")
            return WRONG
        except OSError as error:  # the mount has just ended
            did[errno.errorcode[error.errno or 0]] += 1
        said.write("\n" + " ".join(f"{what}={times}" for what, times in did.items()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
