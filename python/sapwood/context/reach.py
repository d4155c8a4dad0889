"""Reaching the sapwood of another machine: an ssh that starts it there.

Promise: connecting begins before anything else is done, or imported, for it takes longer than all of that; so this
imports little. Who may get in, and how, is ssh's matter. It also keeps the connection for the next time, in the way of
the user's configuration if that has one. Not here: what is said to the other side (`near`).
"""

from __future__ import annotations

import os
import subprocess

from sapwood.errors import InvalidInputError, UnavailableError
from sapwood.places import connections_dir

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["far_command", "keeping", "reach"]

# How long ssh keeps a connection that nobody uses: connecting takes eight round trips and 0.1 s of processor.
_KEPT_S = 300
# A socket's name has 107 bytes, and ssh makes it with 17 more.
_LONGEST = 90


def far_command(on: str) -> tuple[list[str], str]:
    """Return the command that reaches the sapwood at `ssh://[USER@]HOST[:PORT]`, and what to call that.

    Raises:
        InvalidInputError: `bad-far`.
    """
    scheme, _, there = on.rstrip("/").partition("://")
    user, at, place = there.rpartition("@")
    if place.startswith("["):  # an address of IPv6
        host, closed, port = place[1:].partition("]")
        is_right = bool(closed) and port[:1] in ("", ":")
        port = port[1:]
    else:
        host, colon, port = place.partition(":")
        is_right = bool(port) or not colon
    is_right &= not port or (port.isascii() and port.isdigit() and int(port) < 1 << 16)
    if scheme != "ssh" or not is_right or not host or host.startswith("-") or set(there) & set("/?# "):
        is_right = False
    if not is_right or (at and not user) or ":" in user or user.startswith("-"):
        raise InvalidInputError(
            f"--on {on}: not ssh://[USER@]HOST[:PORT]", kind="bad-far", hint="--on ssh://builder.example.org"
        )
    # A connection that is dead is noticed within a minute.
    command = ["ssh", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", "-T"]
    command += ["-p", port] if port else []
    command += ["-l", user] if user else []
    return [*command, "--", host, "sapwood context far"], f"ssh://{there}"


def keeping(command: list[str], name: str) -> list[str]:
    """Return a command of `far_command` that also keeps the connection, or uses the one that was kept."""
    place = os.path.join(connections_dir(), name.removeprefix("ssh://"))
    if len(os.fsencode(place)) > _LONGEST:
        return command
    if not os.path.exists(place):
        if _user_keeps(command):
            return command
        os.makedirs(os.path.dirname(place), 0o700, exist_ok=True)
    kept = ["-S", place.replace("%", "%%"), "-o", "ControlMaster=auto", "-o", f"ControlPersist={_KEPT_S}"]
    return [command[0], *kept, *command[1:]]


def _user_keeps(command: Sequence[str]) -> bool:
    """Say whether the user's configuration has a place for connections that are kept."""
    try:
        said = subprocess.run([command[0], "-G", *command[1:]], stdin=subprocess.DEVNULL, capture_output=True)
    except OSError:  # whoever runs it finds out why
        return False
    return any(line.startswith(b"controlpath ") for line in said.stdout.splitlines())


def reach(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the command that reaches the other machine.

    Raises:
        UnavailableError: `far-unreachable`: there is no such command.
    """
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        raise UnavailableError(f"{command[0]}: {error.strerror}", kind="far-unreachable") from error
