"""One command in a sandbox: bubblewrap's, with nothing of this machine but its tools and what is bound.

Invariant: when `run` returns no process of the command is left, however it ended; it saw no network unless it may use
it, no other process, and a user, a host name and an environment that are the same everywhere. docs/build.md, "The
sandbox". Not here: which inputs are bound (`local`), limits (`limits`), what is done with what was made (`outputs`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import selectors
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from sapwood.build.limits import Watch, Written
from sapwood.errors import InvalidInputError, StoppedError, UnavailableError

__all__ = ["PLACE", "Ended", "Sandbox", "run"]

PLACE = "/build"
"""Where a command runs: the input root."""
_USER = 1000
_TICK_S = 0.05
_GONE_S = 2.0
# Of the host, as far as they are there: programs, and what finds them. No key tells of them.
_TOOLS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives", "/etc/ld.so.cache")
_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/services")
_PASSWD = f"root:x:0:0::/homeless:/bin/sh\nbuilder:x:{_USER}:{_USER}::/homeless:/bin/sh\n"
# What bwrap says of a program that is none, and the code that a shell has for that.
_UNRUNNABLE = {
    **dict.fromkeys(map(os.strerror, (errno.ENOENT, errno.ENOTDIR)), 127),
    **dict.fromkeys(map(os.strerror, (errno.EACCES, errno.EISDIR, errno.ENOEXEC, errno.ELOOP)), 126),
}
_GROUP = f"root:x:0:\nbuilder:x:{_USER}:\n"


@dataclass
class Sandbox:
    """What a command gets: `root` is its directory, writable; `binds` are pairs of a path here and a place below it.

    Limits are in seconds and bytes.
    """

    root: Path
    binds: list[tuple[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    network: bool = False
    timeout_s: float | None = None
    memory: int | None = None
    disk: int | None = None
    directory: str = ""
    """Where below the root it runs."""
    changes: Path | None = None
    """Where what it writes lies, if that is not the root."""
    blocked_s: Callable[[], float] = lambda: 0.0
    """For how long the command has waited for what no limit counts."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: `code` as a shell would have it; `stopped` says which limit ended it, if one did."""

    code: int
    seconds: float
    stopped: str | None = None
    is_late: bool = False
    """Whether that was its time."""


def run(
    command: tuple[str, ...],
    sandbox: Sandbox,
    said: Callable[[bytes], object],
    cancel: threading.Event,
    errors: Callable[[bytes], object] | None = None,
) -> Ended:
    """Run a command to its end; `said` gets what it writes to stdout and stderr, or `errors` the latter.

    Raises:
        InvalidInputError: `bad-action`: no command, or words that no process can be given.
        UnavailableError: `sandbox-missing`: there is no bubblewrap; `sandbox-failed`: it could not begin.
        StoppedError: `stopped`: `cancel` was set.
    """
    _require_words(command, sandbox.environment)
    program = shutil.which("bwrap")
    if program is None:
        raise UnavailableError(
            "there is no bwrap, in which builders run", kind="sandbox-missing", hint="apt-get install bubblewrap"
        )
    if sandbox.memory is not None:
        # Of each process at once; of all together `Watch` finds out soon.
        command = ("/bin/sh", "-c", 'ulimit -d "$0" && exec "$@"', str(sandbox.memory // 1024), *command)
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as words, open(reading, "rb", buffering=0) as status:
        try:
            words.write(
                b"\0".join(word.encode("utf-8", "surrogateescape") for word in _words(sandbox, writing)) + b"\0"
            )
            words.seek(0)
            started = [program, "--args", str(words.fileno()), "--", *command]
            began = time.monotonic()
            process = subprocess.Popen(
                started,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if errors is None else subprocess.PIPE,
                pass_fds=(words.fileno(), writing),
                start_new_session=True,
                env={"PATH": os.defpath},
            )
        finally:
            os.close(writing)
        until = None if sandbox.timeout_s is None else began + sandbox.timeout_s
        disk = None if sandbox.disk is None else Written(sandbox.changes or sandbox.root, sandbox.disk)
        watch = Watch(process.pid, sandbox.timeout_s, until, sandbox.blocked_s, sandbox.memory, disk, cancel)
        try:
            tail = _listen(process, said, errors, watch)
        finally:
            # Its first process ends with it, and with that all that it ever started; but not one that has just begun,
            # and has not asked to be ended so. That is in the same group, or has a number by now.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        code = _told(status, b"\0".join(map(os.fsencode, started)))
    seconds = time.monotonic() - began
    if cancel.is_set():
        raise StoppedError("stopped", kind="stopped")
    if watch.stopped is None and code is None and (code := _unrunnable(tail)) is None:
        raise UnavailableError(
            f"bwrap could not begin: {tail.decode(errors='backslashreplace').strip() or 'it says nothing'}",
            kind="sandbox-failed",
            hint='may this user make user namespaces? see docs/build.md, "The sandbox"',
        )
    return Ended(137 if code is None else code, seconds, watch.stopped, watch.is_late)


def _require_words(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    # A NUL is where bwrap's next word begins: what came behind it would be an option of the sandbox itself.
    if not command or not command[0] or any("\0" in word for word in (*command, *environment, *environment.values())):
        raise InvalidInputError("no command, or a NUL in it or its environment", kind="bad-action")
    for name in environment:
        if not name or "=" in name:
            raise InvalidInputError(f"{name!r} names no variable", kind="bad-action")


def _words(sandbox: Sandbox, status: int) -> list[str]:
    words = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += [] if sandbox.network else ["--unshare-net"]
    words += ["--uid", str(_USER), "--gid", str(_USER), "--hostname", "sapwood", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--new-session", "--json-status-fd", str(status), "--clearenv"]
    for name, value in sorted(sandbox.environment.items()):
        words += ["--setenv", name, value]
    for path in (*_TOOLS, *(_NETWORK if sandbox.network else ())):
        if os.path.islink(path) and path.count("/") == 1:
            words += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            words += ["--ro-bind", os.path.realpath(path), path]
    etc = sandbox.root.parent
    for name, content in (("passwd", _PASSWD), ("group", _GROUP)):
        (etc / name).write_text(content)
        words += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    # Whose builders are run by root, they are the machine's root to files that ask for no more: bwrap overlooks these.
    words += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"]
    # What lies in /tmp is memory.
    words += ["--dev", "/dev", *([] if sandbox.memory is None else ["--size", str(sandbox.memory)]), "--tmpfs", "/tmp"]
    words += ["--bind", str(sandbox.root), PLACE]
    for here, place in sandbox.binds:
        words += ["--ro-bind", here, f"{PLACE}/{place}"]
    return [*words, "--remount-ro", "/", "--chdir", f"{PLACE}/{sandbox.directory}" if sandbox.directory else PLACE]


def _listen(
    process: subprocess.Popen[bytes],
    said: Callable[[bytes], object],
    errors: Callable[[bytes], object] | None,
    watch: Watch,
) -> bytes:
    """Pass on what is said until nobody can say more; return the end of it."""
    assert process.stdout
    tail = b""
    with selectors.DefaultSelector() as selector, process.stdout, process.stderr or contextlib.nullcontext():
        selector.register(process.stdout, selectors.EVENT_READ, said)
        if process.stderr:
            selector.register(process.stderr, selectors.EVENT_READ, errors)
        while selector.get_map() and not watch.is_over():
            for key, _ in selector.select(_TICK_S):
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                tail = (tail + data)[-400:]
                key.data(data)
    while not watch.is_over() and process.poll() is None:
        # It has closed its stdout and stderr, and goes on.
        try:
            process.wait(_TICK_S)
        except subprocess.TimeoutExpired:
            continue
    return tail


def _unrunnable(tail: bytes) -> int | None:
    """Return the code of a command whose program could not be run, if that is the last that bwrap has said; else None.

    It tells no code itself then, as when it cannot begin; but that is the command's own failure, and nowhere mended by
    trying again.
    """
    *_, last = tail.splitlines() or [b""]
    reason = last.rpartition(b": ")[2].decode(errors="replace")
    return _UNRUNNABLE.get(reason) if last.startswith(b"bwrap: execvp ") else None


def _told(status: BinaryIO, words: bytes) -> int | None:
    """Return the code that bwrap says its command ended with, once all of it is gone; None: it did not get that far.

    `words` are those of bwrap itself, and so of the first process in the sandbox.
    """
    said: dict[str, int] = {}
    # What is left in there may still hold the other end: until it is gone, if nobody knows its number yet.
    os.set_blocking(status.fileno(), False)
    lines = status.read()
    if lines is None:
        select.select([status], [], [], _GONE_S)
    for line in (lines or b"").splitlines():
        said.update(json.loads(line))
    with contextlib.suppress(KeyError, ProcessLookupError, FileNotFoundError):
        # The first process of the sandbox ends after all others.
        descriptor = os.pidfd_open(said["child-pid"])
        try:
            if Path("/proc", str(said["child-pid"]), "cmdline").read_bytes() == words + b"\0":
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [])
        finally:
            os.close(descriptor)
    return said.get("exit-code")
