"""What a command has made, as an `ActionResult`: hashed, uploaded, and told in the form that its client asked for.

Invariant: nothing outside the input root is read, whatever links a command has made: no link is followed on the way to
an output, nor in it. Nothing is told of before it is stored. Not here: running the command (`action`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from functools import partial

from sapwood.errors import InvalidInputError, StoppedError
from sapwood.reapi.cas import Cas, Name, Open, message_of
from sapwood.reapi.protocol import remote_execution_pb2 as reapi

__all__ = ["declared", "make_room", "parts_of", "send"]

_PIECE = 1 << 20
_NOFOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Deeper trees nobody makes who means well.
_DEEPEST = 500
# No client of ours takes more of one action, and each is held in memory.
_ENTRIES = 1_000_000


def parts_of(path: str, what: str) -> list[bytes]:
    """Return the names of a relative path.

    Raises:
        InvalidInputError: `bad-action`: it is absolute, or leads upwards.
    """
    parts = path.split("/") if path else []
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise InvalidInputError(f"{what} {path}: it leads out of the input root", kind="bad-action")
    return [os.fsencode(part) for part in parts]


def declared(command: reapi.Command) -> dict[str, list[bytes]]:
    """Return each output of a command, with the names of the way to it from the input root; errors as `parts_of`."""
    paths = command.output_paths or [*command.output_files, *command.output_directories]
    directory = parts_of(command.working_directory, "working directory")
    return {path: directory + parts_of(path, "output") for path in dict.fromkeys(paths)}


def make_room(root: str, way: list[bytes]) -> None:
    """Make the directories of a way that are missing below `root`, as far as no link is on it."""
    above = os.open(root, _FOLDER)
    try:
        for name in way:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=above)
            try:
                below = os.open(name, _FOLDER, dir_fd=above)
            except OSError:
                return
            os.close(above)
            above = below
    finally:
        os.close(above)


def send(
    root: str, outputs: dict[str, list[bytes]], command: reapi.Command, cas: Cas, cancel: threading.Event
) -> reapi.ActionResult:
    """Store what was made of `outputs`, and return what there is of it.

    Raises:
        StoppedError: `stopped`: `cancel` was set; however large a file is.
        InvalidInputError: `output-unusable`: a device, a name that is not UTF-8, or too many files and directories.
        SapwoodError: as `Cas.give`; an `OSError` when an input that became an output cannot be read.
    """
    sending = _Sending(root, command, cancel)
    result = reapi.ActionResult()
    for path, way in outputs.items():
        sending.add(path, way, result)
    missing = set(cas.missing(sending.blobs))
    cas.give({name: opened for name, opened in sending.blobs.items() if name in missing})
    return result


class _Sending:
    def __init__(self, root: str, command: reapi.Command, cancel: threading.Event) -> None:
        self._root = root
        self._command = command
        self._cancel = cancel
        self._entries = 0
        self.blobs: dict[Name, Open] = {}

    def add(self, path: str, way: list[bytes], result: reapi.ActionResult) -> None:
        """Tell of an output, if it was made."""
        try:
            above = self._reach(way[:-1])
        except OSError:
            return
        try:
            name = way[-1] if way else b"."
            try:
                found = os.stat(name, dir_fd=above, follow_symlinks=False)
            except FileNotFoundError:
                return
            if stat.S_ISDIR(found.st_mode):
                self._tell_directory(path, name, way, above, result)
            elif stat.S_ISLNK(found.st_mode):
                self._tell_link(path, _text(os.readlink(name, dir_fd=above), path), result)
            else:
                digest = self._file(path, way, found)
                result.output_files.add(path=path, digest=digest, is_executable=_is_executable(found))
        finally:
            os.close(above)

    def _tell_link(self, path: str, target: str, result: reapi.ActionResult) -> None:
        link = reapi.OutputSymlink(path=path, target=target)
        result.output_symlinks.append(link)
        # Where clients of API 2.0 look for it.
        if not self._command.output_paths:
            is_file = path in self._command.output_files
            (result.output_file_symlinks if is_file else result.output_directory_symlinks).append(link)

    def _tell_directory(self, path: str, name: bytes, way: list[bytes], above: int, result: reapi.ActionResult) -> None:
        messages: dict[Name, bytes] = {}
        root = self._directory(path, name, way, above, messages)
        told = result.output_directories.add(path=path)
        form = self._command.output_directory_format
        if form != reapi.Command.DIRECTORY_ONLY:
            children = [message for each, message in messages.items() if each != root]
            tree = reapi.Tree(
                root=reapi.Directory.FromString(messages[root]), children=map(reapi.Directory.FromString, children)
            )
            told.tree_digest.CopyFrom(message_of(self._message(tree.SerializeToString(deterministic=True))))
        if form != reapi.Command.TREE_ONLY:
            told.root_directory_digest.CopyFrom(message_of(root))
            for message in messages.values():
                self._message(message)

    def _directory(self, path: str, name: bytes, way: list[bytes], above: int, messages: dict[Name, bytes]) -> Name:
        """Add the messages of a directory and all below it, and return its name."""
        if len(way) > _DEEPEST:
            raise _unusable(path, way, "it lies deeper than outputs may")
        message = reapi.Directory()
        folder = os.open(name, _FOLDER, dir_fd=above)
        try:
            names = os.listdir(folder)
            self._entries += len(names)
            if self._entries > _ENTRIES:
                raise _unusable(path, way, f"there are more than {_ENTRIES:,} files and directories")
            for each in sorted(map(os.fsencode, names)):
                found = os.stat(each, dir_fd=folder, follow_symlinks=False)
                below, text = [*way, each], _text(each, path)
                if stat.S_ISDIR(found.st_mode):
                    child = self._directory(path, each, below, folder, messages)
                    message.directories.add(name=text, digest=message_of(child))
                elif stat.S_ISLNK(found.st_mode):
                    message.symlinks.add(name=text, target=_text(os.readlink(each, dir_fd=folder), path))
                else:
                    digest = self._file(path, below, found)
                    message.files.add(name=text, digest=digest, is_executable=_is_executable(found))
        finally:
            os.close(folder)
        encoded = message.SerializeToString(deterministic=True)
        named = hashlib.sha256(encoded).hexdigest(), len(encoded)
        messages[named] = encoded
        return named

    def _file(self, path: str, way: list[bytes], found: os.stat_result) -> reapi.Digest:
        if not stat.S_ISREG(found.st_mode):
            raise _unusable(path, way, "it is no file, directory or symlink")
        taken, size = hashlib.sha256(), 0
        for piece in self._pieces(way):
            taken.update(piece)
            size += len(piece)
        self.blobs[taken.hexdigest(), size] = partial(self._pieces, way)
        return message_of((taken.hexdigest(), size))

    def _message(self, message: bytes) -> Name:
        name = hashlib.sha256(message).hexdigest(), len(message)
        self.blobs[name] = lambda: [message]
        return name

    def _pieces(self, way: list[bytes]) -> Iterator[bytes]:
        above = self._reach(way[:-1])
        try:
            descriptor = os.open(way[-1], _NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
        with open(descriptor, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                if self._cancel.is_set():
                    raise StoppedError("stopped", kind="stopped")
                yield piece

    def _reach(self, way: list[bytes]) -> int:
        """Open a directory by a way without links."""
        above = os.open(self._root, _FOLDER)
        for name in way:
            try:
                below = os.open(name, _FOLDER, dir_fd=above)
            finally:
                os.close(above)
            above = below
        return above


def _is_executable(found: os.stat_result) -> bool:
    return bool(found.st_mode & 0o100)


def _text(name: bytes, path: str) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidInputError(
            f"output {path} has a name or a link that is not UTF-8", kind="output-unusable"
        ) from None


def _unusable(path: str, way: list[bytes], why: str) -> InvalidInputError:
    return InvalidInputError(
        f"output {path}: {os.fsdecode(b'/'.join(way[-3:]))}: {why}",
        kind="output-unusable",
        hint="let the command remove it",
    )
