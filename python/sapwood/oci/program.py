"""What an image says is to be run in it, and how.

Invariant: what it says wrongly is an error or left out, never a word to the sandbox that it did not mean. Not here: the
sandbox (`sandbox`). Source: OCI image-spec 1.1, config.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapwood.errors import InvalidInputError

__all__ = ["Program", "User", "program_of", "user_of"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_OF_A_TABLE = 1 << 20
_MOST_OF_A_NUMBER = 20


@dataclass(frozen=True)
class Program:
    """A command line, and what it wants: `user` as the image says it, directories that are to be there."""

    command: tuple[str, ...]
    environment: dict[str, str]
    user: str
    directory: str
    volumes: tuple[str, ...]


@dataclass(frozen=True)
class User:
    """Numbers, the further groups, and where it is at home."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def program_of(config: dict[str, Any], command: list[str], where: str) -> Program:
    """Return what to run: the entrypoint with `command`, or with what the image says if that is empty.

    Raises:
        InvalidInputError: `bad-usage`: neither says anything; `not-supported`: what the image says cannot be.
    """
    said = config.get("config")
    said = said if isinstance(said, dict) else {}
    words = _words(said, "Entrypoint", where) + (command or _words(said, "Cmd", where))
    if not words:
        raise InvalidInputError(
            f"{where}: the image does not say what to run", kind="bad-usage", hint=f"sapwood run {where} -- /bin/sh"
        )
    pairs = [text.partition("=") for text in _words(said, "Env", where)]
    environment = {"PATH": _PATH} | {name: value for name, equals, value in pairs if name and equals}
    volumes = said.get("Volumes")
    user, directory = said.get("User") or "", said.get("WorkingDir") or "/"
    if not isinstance(user, str) or not isinstance(directory, str):
        raise _wrong(where, "User or WorkingDir")
    return Program(
        tuple(words),
        environment,
        user,
        _inside(directory, where),
        tuple(_inside(path, where) for path in (volumes if isinstance(volumes, dict) else {})),
    )


def user_of(text: str, root: Path, where: str) -> User:
    """Return who `text`, `USER[:GROUP]` by names or numbers, is in the image at `root`; nothing means root.

    Raises:
        InvalidInputError: `not-supported`: the image has no such user or group.
    """
    name, _, group = text.partition(":")
    users, groups = _table(root, "passwd"), _table(root, "group")
    row = next((row for row in users if len(row) >= 6 and (row[0] == name or row[2] == (name or "0"))), None)
    if row is None and not name.isdecimal() and name:
        raise _nobody(where, f"user {name}")
    uid = _number(row[2] if row else name or "0", where)
    gid = _number(row[3] if row else "0", where)
    if group:
        found = next((one for one in groups if len(one) >= 3 and group in (one[0], one[2])), None)
        if found is None and not group.isdecimal():
            raise _nobody(where, f"group {group}")
        gid = _number(found[2] if found else group, where)
    mine = row[0] if row else ""
    more = () if group else (one[2] for one in groups if len(one) >= 4 and mine and mine in one[3].split(","))
    home = row[5] if row else "/"
    return User(uid, gid, tuple(sorted(_number(one, where) for one in more)), home or "/")


def _table(root: Path, name: str) -> list[list[str]]:
    """Return the rows of `/etc/NAME` of an image; none if it is no plain file in a plain directory."""
    try:
        etc = os.open(root / "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=etc)
    except OSError:
        return []
    finally:
        os.close(etc)
    with os.fdopen(file, "rb") as table:
        if not stat.S_ISREG(os.fstat(table.fileno()).st_mode):
            return []
        text = table.read(_MOST_OF_A_TABLE).decode("utf-8", "surrogateescape")
    return [line.split(":") for line in text.splitlines() if "\0" not in line]


def _words(said: dict[str, Any], key: str, where: str) -> list[str]:
    words = said.get(key) or []
    if not isinstance(words, list) or not _are_words(words):
        raise _wrong(where, key)
    return words


def _are_words(words: Iterable[object]) -> bool:
    return all(isinstance(word, str) and _is_word(word) for word in words)


def _is_word(text: str) -> bool:
    """Say whether a program can be told it."""
    return "\0" not in text and not any("\ud800" <= one <= "\udfff" for one in text)


def _inside(path: str, where: str) -> str:
    """Return a path of the image without `..`."""
    if not _is_word(path):
        raise _wrong(where, "a path")
    return posixpath.normpath("/" + path.lstrip("/"))


def _number(text: str, where: str) -> int:
    if not text.isdecimal() or len(text) > _MOST_OF_A_NUMBER or int(text) >= 1 << 31:
        raise _nobody(where, f"user or group {text[:20]}")
    return int(text)


def _nobody(where: str, who: str) -> InvalidInputError:
    return InvalidInputError(f"{where}: it is to be run as {who}, which it has not", kind="not-supported")


def _wrong(where: str, what: str) -> InvalidInputError:
    return InvalidInputError(f"{where}: what its configuration says of {what} cannot be", kind="not-supported")
