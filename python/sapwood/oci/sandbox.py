"""The place that a program of an image runs in: the image, a layer on top that takes changes, bubblewrap around.

Promise: the program sees the image and what was bound, no other process and no network unless it was asked for; what it
changes lies in the upper layer only. All mounts are in a namespace of this process, and end with it, however it ends.
Not here: what is run (`program`), the image's mount (`mount`).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sapwood.errors import ConflictError, DeniedError, InvalidInputError, UnavailableError
from sapwood.oci.program import Program, User

__all__ = ["Bind", "apart", "code_of", "command_line", "held", "layered", "program_below", "taken_away"]

_CLONE_NEWNS = 0x20000
_CLONE_NEWUSER = 0x10000000
_MS_SLAVE = 1 << 19
_MS_REC = 1 << 14
_MNT_DETACH = 2
_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10
# What docker gives to root, but for making devices.
_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP",
    "SETUID", "SYS_CHROOT", "AUDIT_WRITE",
)  # fmt: skip
_OF_THE_NETWORK = ("/etc/resolv.conf", "/etc/hosts")
_MOST_HOPS = 40


@dataclass(frozen=True)
class Bind:
    """A path of this machine, and where it is in the image."""

    here: str
    there: str
    is_readonly: bool

    @classmethod
    def parse(cls, text: str) -> Bind:
        """Read `HERE:THERE`, with `:ro` behind it if it is not to be changed.

        Raises:
            InvalidInputError: `bad-usage`: it is none, or there is nothing here.
        """
        words = text.split(":")
        is_readonly = len(words) == 3 and words[2] == "ro"
        if len(words) - is_readonly != 2 or not words[0] or not words[1].startswith("/"):
            raise InvalidInputError(f"--bind {text}: no HERE:/THERE", kind="bad-usage", hint="--bind data:/data:ro")
        if not os.path.exists(words[0]):
            raise InvalidInputError(f"--bind {text}: {words[0]} is not there", kind="bad-usage")
        return cls(os.path.abspath(words[0]), os.path.normpath(words[1]), is_readonly)


def apart() -> bool:
    """Give this process, which has one thread, mounts of its own; say whether it needed to be its own root for that.

    Raises:
        DeniedError: `namespace-denied`: this user may make no user namespaces.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    is_user = uid != 0
    if libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if is_user else 0)):
        raise DeniedError(
            f"no namespace of mounts: {os.strerror(ctypes.get_errno())}",
            kind="namespace-denied",
            hint="sysctl kernel.unprivileged_userns_clone=1 (as root)" if is_user else None,
        )
    if is_user:
        Path("/proc/self/setgroups").write_bytes(b"deny")
        Path("/proc/self/uid_map").write_bytes(b"0 %d 1" % uid)
        Path("/proc/self/gid_map").write_bytes(b"0 %d 1" % gid)
    # Nothing that is mounted here is seen elsewhere; what is unmounted there, and is shared, goes here, too.
    if libc.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None):
        raise DeniedError(f"mounts cannot be kept apart: {os.strerror(ctypes.get_errno())}", kind="namespace-denied")
    return is_user


@contextmanager
def held(place: Path | None) -> Iterator[None]:
    """Be the only one whose changes lie in `place`, if one is given; it is made.

    Raises:
        ConflictError: `keep-busy`: another is.
        OSError: it cannot be made.
    """
    if place is None:
        yield
        return
    place.mkdir(parents=True, exist_ok=True)
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"{place}: the changes of another run are kept there", kind="keep-busy", hint="wait for it to end"
            ) from None
        yield
    finally:
        os.close(handle)


def layered(tree: Path, root: Path, upper: Path, *, is_user: bool, is_kept: bool) -> None:
    """Mount a layer that takes changes over `tree` at `root`.

    They lie in `upper`, or in memory where that cannot hold them and they are not kept.

    Raises:
        UnavailableError: `mount-failed`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    error = _overlay(libc, tree, root, upper, is_user=is_user)
    if error and not is_kept:
        # As where this directory is on an overlay itself, in a container.
        if libc.mount(b"tmpfs", os.fsencode(upper), b"tmpfs", 0, None):
            raise _failed(ctypes.get_errno())
        error = _overlay(libc, tree, root, upper, is_user=is_user)
    if error:
        raise _failed(error)


def taken_away(*places: Path) -> None:
    """Unmount what is mounted at these places, whoever uses it."""
    libc = ctypes.CDLL(None)
    for place in places:
        libc.umount2(os.fsencode(place), _MNT_DETACH)


def _overlay(libc: ctypes.CDLL, tree: Path, root: Path, upper: Path, *, is_user: bool) -> int:
    """Return 0, or the number of the error."""
    places = (tree, upper / "upper", upper / "work")
    for place in places[1:]:
        place.mkdir(exist_ok=True)
    # By descriptors: there is no way to write a comma in a path.
    opened = [os.open(place, os.O_PATH | os.O_CLOEXEC) for place in places]
    try:
        below, above, work = (f"/proc/self/fd/{one}" for one in opened)
        options = f"lowerdir={below},upperdir={above},workdir={work}" + (",userxattr" if is_user else "")
        failed = libc.mount(b"overlay", os.fsencode(root), b"overlay", 0, options.encode())
        return ctypes.get_errno() if failed else 0
    finally:
        for one in opened:
            os.close(one)


def _failed(error: int) -> UnavailableError:
    return UnavailableError(
        f"no layer that takes changes could be mounted: {os.strerror(error)}", kind="mount-failed", retry_after_s=0.0
    )


def command_line(
    program: Program,
    user: User,
    root: Path,
    *,
    binds: Sequence[Bind],
    network: bool,
    is_user: bool,
    terminal: str | None,
    status: int,
) -> list[str]:
    """Return what runs a program in the image at `root`; what becomes of it is written to the descriptor `status`.

    Raises:
        UnavailableError: `sandbox-missing`: there is no bubblewrap.
        InvalidInputError: `not-supported`: links of the image lead in circles.
    """
    if shutil.which("bwrap") is None:
        raise UnavailableError(
            "there is no bwrap, in which images run", kind="sandbox-missing", hint="apt-get install bubblewrap"
        )
    # bwrap follows links of an image as if they were this machine's, and makes what is missing where they lead.
    proc, dev, sys = (_resolved(root, path) for path in ("/proc", "/dev", "/sys"))
    words = ["bwrap", "--bind", str(root), "/", "--proc", proc, "--dev", dev, "--ro-bind-try", "/sys", sys]
    # To who is root these would be open, and with them the machine: bwrap overlooks them.
    words += ["--ro-bind", "/proc/sys", f"{proc}/sys"]
    words += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--die-with-parent"]
    words += ["--hostname", "sapwood", "--clearenv", "--json-status-fd", str(status)]
    if not network:
        words.append("--unshare-net")
    else:
        for path in _OF_THE_NETWORK:
            there = _resolved(root, path)
            _make(root, there, is_directory=False)
            words += ["--ro-bind-try", path, there]
    for path in (proc, dev, sys, *(_resolved(root, path) for path in (*program.volumes, program.directory))):
        _make(root, path, is_directory=True)
    for bind in binds:
        there = _resolved(root, bind.there)
        _make(root, there, is_directory=os.path.isdir(bind.here))
        words += ["--ro-bind" if bind.is_readonly else "--bind", bind.here, there]
    environment = {"HOME": user.home} | ({"TERM": terminal} if terminal else {}) | program.environment
    for name, value in environment.items():
        words += ["--setenv", name, value]
    words += ["--chdir", program.directory]
    before: list[str] = []
    if user.uid == 0:
        for capability in _CAPABILITIES:
            words += ["--cap-add", f"CAP_{capability}"]
    else:
        words += ["--unshare-user", "--uid", str(user.uid), "--gid", str(user.gid)]
        if not is_user:
            groups = ["--groups", ",".join(map(str, user.groups))] if user.groups else ["--clear-groups"]
            before = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", *groups]
    return [*before, *words, "--", *program.command]


def code_of(code: int, status: bytes, program: Program, root: Path) -> int:
    """Return the code of a run that bubblewrap ended with `code`: the program's, or what shells and docker say of none.

    That is 127 if it is not there, and 126 if it is and cannot be run.
    """
    if code != 1 or b'"exit-code"' in status:
        return code
    name = program.command[0]
    folders = [""] if "/" in name else program.environment["PATH"].split(":")
    found = (_is_inside(root, os.path.join(program.directory, folder, name)) for folder in folders)
    return 126 if any(found) else 127


def _is_inside(root: Path, path: str) -> bool:
    """Say whether an image has something at a path, links followed as in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
    at = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found: int = libc.syscall(_OPENAT2, at, os.fsencode(path), how, ctypes.sizeof(how))
        if found >= 0:
            os.close(found)
        return found >= 0
    finally:
        os.close(at)


def program_below(bwrap: int) -> int:
    """Return the process that is the program, below bubblewrap and its first one; bubblewrap while there is none."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                stat = Path("/proc", entry, "stat").read_bytes()
            except OSError:
                continue
            # The first of several is the one that was there first.
            parents.setdefault(int(stat.rpartition(b")")[2].split()[1]), int(entry))
    return parents.get(parents.get(bwrap, -1), bwrap)


def _make(root: Path, path: str, *, is_directory: bool) -> None:
    """Make a directory, or an empty file, with the directories above it, where nothing is; nowhere through a link."""
    at = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    *above, last = path.strip("/").split("/")
    try:
        for name in [*above, *([last] if is_directory and last else ())]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=at)
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        if not is_directory:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(last, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=at))
    except OSError:
        pass  # what stands there instead is bubblewrap's to refuse
    finally:
        os.close(at)


def _resolved(root: Path, path: str) -> str:
    """Return where a path leads, links followed as in the image; what is not there is as it is said.

    Raises:
        InvalidInputError: `not-supported`: it leads in circles.
    """
    done: list[str] = []
    todo, hops = path.split("/")[::-1], 0
    while todo:
        name = todo.pop()
        if name == "..":
            del done[-1:]
        elif name not in ("", "."):
            try:
                target = os.readlink(os.path.join(root, *done, name))
            except OSError:
                done.append(name)
                continue
            hops += 1
            if hops > _MOST_HOPS:
                raise InvalidInputError(f"{path}: links of the image lead in circles", kind="not-supported")
            if target.startswith("/"):
                done.clear()
            todo += target.split("/")[::-1]
    return "/" + "/".join(done)
