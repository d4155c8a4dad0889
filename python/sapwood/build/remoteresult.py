"""What a remote action made: outputs that lie in the CAS of who made them, and are read only when somebody asks.

Invariant: names in it are plain names, so that nothing is written outside the place that it is read to; what is read is
what its digest says. Not here: outputs in a store (`results`), the CAS (`sapwood.reapi.cas`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from google.protobuf import message

from sapwood.build.derivation import Derivation
from sapwood.build.inputs import Folder, Node, digest, fold
from sapwood.digests import TreeDigest, digest_of, parse_digest
from sapwood.errors import CorruptError, InvalidInputError
from sapwood.reapi.cas import Cas, Name, message_of, name_of
from sapwood.reapi.protocol import remote_execution_pb2 as reapi

__all__ = ["RemoteResult", "read_result", "seconds_of"]

_PIECE_BYTES = 1 << 20
"""Files of less are read many at a time."""
_HELD_BYTES = 32 << 20
# What a directory, or the end of a file, takes of a disk.
_ENTRY_BYTES = 4096
_ENTRIES = 1_000_000
# No longer path can be opened.
_PATH_BYTES = 4095


@dataclass(frozen=True, slots=True, eq=False)
class RemoteResult:
    """As `Result`, but what it names lies in `cas`. `trees` are Directories that only a Tree message there holds."""

    action: str
    outputs: Mapping[str, Node]
    seconds: float
    log: bytes
    cas: Cas
    trees: Mapping[Name, bytes]

    def node(self, path: str | None) -> Node:
        """Return an output as an input of something else; None: the directory of all."""
        if path is not None:
            return self.outputs[path]
        tree, size = digest(fold(self.outputs.items()))
        return Node("dir", tree, size, origin=self, path=b"")

    def blobs(self) -> list[Name]:
        """Return what the CAS must have for this to be worth anything, as far as that is known without reading it."""
        return [node.blob for node in self.outputs.values() if node.kind != "symlink" and self.has(node)]

    def has(self, node: Node) -> bool:
        """Say whether the Directory of a node of this result is a blob of the CAS, as far as is known."""
        return bool(node.path) and node.blob not in self.trees

    def children(self, node: Node) -> Mapping[bytes, Folder | Node]:
        """Return what is in a directory of this result that the CAS may lack; errors as `fetch`."""
        if not node.path:
            return fold(self.outputs.items())
        listed = _parse(self.trees[node.blob])
        found: dict[bytes, Folder | Node] = {}
        for link in listed.symlinks:
            found[link.name.encode()] = Node("symlink", target=link.target.encode())
        for file in listed.files:
            found[file.name.encode()] = _node("reg", file.digest, self, node, file.name, executable=file.is_executable)
        for folder in listed.directories:
            found[folder.name.encode()] = _node("dir", folder.digest, self, node, folder.name)
        return found

    def fetch(self, place: Path, most: int) -> None:
        """Write all outputs below `place`, which is empty: `most` bytes, and a million files and directories.

        A tree of a few directories can be larger than any disk: each has the next one twice.

        Raises:
            NotFoundError: `executor-lacks`.
            CorruptError: `blob-corrupt`; `directory-corrupt`.
            InvalidInputError: `build-failed`: they are more than that.
            SapwoodError: as `Cas.read`.
        """
        files: list[tuple[Name, str, bool]] = []
        entries = size = 0
        level: list[tuple[str, Name]] = []
        for path, node in sorted(self.outputs.items()):
            where = os.path.join(place, path)
            os.makedirs(os.path.dirname(where), exist_ok=True)
            if node.kind == "symlink":
                os.symlink(node.target, where)
            elif node.kind == "reg":
                files.append((node.blob, where, node.executable))
            else:
                level.append((where, node.blob))
        size = sum(name[1] for name, _, _ in files)
        while level:
            messages = _directories(self.cas, [name for _, name in level], self.trees)
            below: list[tuple[str, Name]] = []
            for where, name in level:
                begun = len(files)
                _lay(where, messages[name], files, below)
                entries += 1 + len(files) - begun
                size += sum(name[1] for name, _, _ in files[begun:])
                if entries > _ENTRIES or size + entries * _ENTRY_BYTES > most:
                    raise InvalidInputError(
                        f"what the command made is more than {most:,} bytes or {_ENTRIES:,} files and directories",
                        kind="build-failed",
                        hint="disk=BYTES in its derivation, if that is what it should make",
                    )
            level = below
        self._write(files)

    def _write(self, files: list[tuple[Name, str, bool]]) -> None:
        batch: list[tuple[Name, str, bool]] = []
        room = _HELD_BYTES
        for file in sorted(files):
            (name, where, executable) = file
            if name[1] >= _PIECE_BYTES:
                with _created(where, executable=executable) as out:
                    for piece in self.cas.read(name):
                        out.write(piece)
                continue
            if name[1] > room:
                self._write_batch(batch)
                batch, room = [], _HELD_BYTES
            batch.append(file)
            room -= name[1]
        self._write_batch(batch)

    def _write_batch(self, batch: list[tuple[Name, str, bool]]) -> None:
        found = self.cas.read_small([name for name, _, _ in batch])
        for name, where, executable in batch:
            with _created(where, executable=executable) as out:
                out.write(found[name])


def _digest(found: reapi.Digest) -> TreeDigest:
    try:
        return parse_digest(TreeDigest, f"sha256:{found.hash}")
    except InvalidInputError as error:
        raise CorruptError(f"a result names no blob: {error}", kind="directory-corrupt") from error


def _node(
    kind: str, found: reapi.Digest, origin: RemoteResult, above: Node, name: str, *, executable: bool = False
) -> Node:
    path = above.path + b"/" + name.encode()
    return Node(kind, f"sha256:{found.hash}", found.size_bytes, executable=executable, origin=origin, path=path)


def _created(where: str, *, executable: bool) -> BinaryIO:
    handle = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755 if executable else 0o644)
    return os.fdopen(handle, "wb")


def _lay(where: str, data: bytes, files: list[tuple[Name, str, bool]], below: list[tuple[str, Name]]) -> None:
    found = _parse(data)
    names = [one.name for kind in (found.files, found.directories, found.symlinks) for one in kind]
    if len(set(names)) < len(names) or any(name in ("", ".", "..") or "/" in name or "\0" in name for name in names):
        raise CorruptError(f"a directory of an output has names that none has: {names[:5]}", kind="directory-corrupt")
    if max(len(os.fsencode(os.path.join(where, name))) for name in (*names, "")) > _PATH_BYTES:
        raise CorruptError(f"a directory of an output lies too deep: {where[-40:]}", kind="directory-corrupt")
    os.mkdir(where)
    for link in found.symlinks:
        os.symlink(_target(link.target), os.path.join(where, link.name))
    files += [(name_of(one.digest), os.path.join(where, one.name), one.is_executable) for one in found.files]
    below += [(os.path.join(where, one.name), name_of(one.digest)) for one in found.directories]


def _target(text: str) -> str:
    if not text or "\0" in text:
        raise CorruptError(f"a link in what was made leads nowhere: {text!r}", kind="directory-corrupt")
    return text


def _directories(cas: Cas, names: list[Name], trees: Mapping[Name, bytes]) -> dict[Name, bytes]:
    found = {name: trees[name] for name in names if name in trees}
    found.update(cas.read_small([name for name in dict.fromkeys(names) if name not in found]))
    return found


def _parse(data: bytes) -> reapi.Directory:
    try:
        return reapi.Directory.FromString(data)
    except message.DecodeError as error:
        raise CorruptError(f"a directory of an output is none: {error}", kind="directory-corrupt") from error


def read_result(one: Derivation, action: str, said: reapi.ActionResult, cas: Cas, log: bytes) -> RemoteResult:
    """Return what a result says, whose command ended well; Tree messages in it are read.

    Raises:
        InvalidInputError: `output-missing`: it lacks an output that is declared.
        CorruptError: `directory-corrupt`: it names what can be nothing.
        SapwoodError: as `Cas.read_small`.
    """
    trees: dict[Name, bytes] = {}
    outputs: dict[str, Node] = {}
    links = (said.output_symlinks, said.output_file_symlinks, said.output_directory_symlinks)
    for link in (link for kind in links for link in kind):
        outputs[link.path] = Node("symlink", target=_target(link.target).encode())
    for file in said.output_files:
        outputs[file.path] = Node("reg", _digest(file.digest), file.digest.size_bytes, executable=file.is_executable)
    for folder in said.output_directories:
        name = name_of(folder.root_directory_digest)
        if not name[0]:
            name = _read_tree(cas, name_of(folder.tree_digest), trees)
        outputs[folder.path] = Node("dir", _digest(message_of(name)), name[1])
    lacking = [path for path in one.outputs if path not in outputs]
    if lacking:
        raise InvalidInputError(
            f"derivation {one.name}: its command has not made {lacking[0]}",
            kind="output-missing",
            hint="outputs are relative to where the command runs",
        )
    held: dict[str, Node] = {}
    result = RemoteResult(action, held, seconds_of(said), log, cas, trees)
    for path in one.outputs:
        held[path] = replace(outputs[path], origin=result, path=path.encode())
    return result


def _read_tree(cas: Cas, name: Name, trees: dict[Name, bytes]) -> Name:
    """Read a Tree message, note its Directories in `trees`, as they are hashed here, and return the root's name."""
    _digest(message_of(name))
    try:
        tree = reapi.Tree.FromString(cas.read_small([name])[name])
    except message.DecodeError as error:
        raise CorruptError(f"a Tree of an output is none: {error}", kind="directory-corrupt") from error
    known = {_name(child.SerializeToString(deterministic=True)): child for child in tree.children}
    # By its digest, like the others: so nothing in it can be itself.
    root = _name(tree.root.SerializeToString(deterministic=True))
    known[root] = tree.root
    # Others may write their messages in another way; digests in keys are those of ours. From the leaves up.
    ours: dict[Name, Name] = {}
    way = [root]
    while way:
        at = way[-1]
        if at not in known:
            raise CorruptError(f"a Tree of an output lacks directory {at[0][:12]}", kind="directory-corrupt")
        deeper = [name_of(child.digest) for child in known[at].directories if name_of(child.digest) not in ours]
        if deeper:
            way.append(deeper[0])
            continue
        data = _canonical(known[at], ours)
        ours[at] = _name(data)
        trees[ours[at]] = data
        way.pop()
    return ours[root]


def _canonical(found: reapi.Directory, ours: Mapping[Name, Name]) -> bytes:
    """Return a directory as we write it; `ours` are our names of those in it."""
    written = reapi.Directory()
    for file in sorted(found.files, key=lambda each: each.name.encode()):
        written.files.add(name=file.name, digest=file.digest, is_executable=file.is_executable)
    for child in sorted(found.directories, key=lambda each: each.name.encode()):
        written.directories.add(name=child.name, digest=message_of(ours[name_of(child.digest)]))
    for link in sorted(found.symlinks, key=lambda each: each.name.encode()):
        written.symlinks.add(name=link.name, target=link.target)
    return written.SerializeToString(deterministic=True)


def _name(data: bytes) -> Name:
    return digest_of(TreeDigest, data).removeprefix("sha256:"), len(data)


def seconds_of(said: reapi.ActionResult) -> float:
    """Return how long a builder took, as far as its result tells."""
    told = said.execution_metadata
    if told.HasField("virtual_execution_duration"):
        return float(told.virtual_execution_duration.ToNanoseconds() / 1e9)
    took = told.execution_completed_timestamp.ToNanoseconds() - told.execution_start_timestamp.ToNanoseconds()
    return max(0.0, took / 1e9)
