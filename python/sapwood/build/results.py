"""The build cache: what actions made, by their keys, in a store.

Invariant: a result is written after what it names, and is believed only as far as it can be read; one whose outputs are
gone is none. Bytes: docs/build.md, "Results". Not here: making outputs (`outputs`), refs and packs (`store`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from google.protobuf import any_pb2, message, wrappers_pb2

from sapwood.build.inputs import Node, digest, fold
from sapwood.digests import SnapshotDigest, TreeDigest, parse_digest
from sapwood.errors import ConflictError, InvalidInputError, NotFoundError
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.store.ref import is_ref_name

if TYPE_CHECKING:
    from sapwood.build.signing import Signer, Trusted
    from sapwood.store.store import Store

__all__ = ["GoneError", "Result", "Results", "ref_of"]

_SAPWOOD = "type.googleapis.com/sapwood.Snapshot"
"""Type of the metadata that says where the outputs lie: a string, `REF@DIGEST`."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What an action made. `outputs` are nodes by path; `store` is the URL of the store whose `ref` had them then.

    `log` is the end of what the builder said; `seconds` it took.
    """

    action: str
    outputs: Mapping[str, Node]
    store: str
    ref: str
    snapshot: SnapshotDigest
    seconds: float
    log: bytes

    @property
    def address(self) -> str:
        """Where the outputs are, pinned."""
        return f"{self.store}#{self.ref}@{self.snapshot}"

    def node(self, path: str | None) -> Node:
        """Return an output as an input of something else; None: the directory of all."""
        if path is not None:
            return self.outputs[path]
        tree, size = digest(fold(self.outputs.items()))
        return Node("dir", tree, size, origin=self, path=b"")


class GoneError(Exception):
    """Outputs that an action needs are not there any more; `action` is whose they are."""

    def __init__(self, action: str) -> None:
        super().__init__(action)
        self.action = action


def ref_of(name: str) -> str:
    """Return the ref under which a store keeps what a derivation made."""
    return f"build/{name}"


class Results:
    """Where results are looked for, and in the first of `stores` kept, signed by `signer`.

    With `trusted` nothing else is believed; `distrusted` are the actions that nobody trusted had a result for.
    """

    def __init__(self, stores: list[Store], signer: Signer | None = None, trusted: Trusted | None = None) -> None:
        self.stores = stores
        self.distrusted: set[str] = set()
        self._signer = signer
        self._trusted = trusted
        self._there: dict[str, bool] = {}

    @property
    def is_wary(self) -> bool:
        """Whether only signed results are believed."""
        return self._trusted is not None

    @property
    def store(self) -> Store:
        """Where they are kept."""
        return self.stores[0]

    def find(self, action: str, paths: tuple[str, ...]) -> Result | None:
        """Return the result of an action that makes `paths`, of the first store that has one; else None."""
        for store in self.stores:
            found = store.read_action(action.removeprefix("sha256:"))
            said = found and self._believed(action, found[0])
            result = said and _decode(said, action, store.url)
            if result and set(result.outputs) == set(paths):
                self.distrusted.discard(action)
                return result
        return None

    def _believed(self, action: str, data: bytes) -> bytes | None:
        """Return what of a result is believed, if anything."""
        if self._trusted is None:
            return data
        body = self._trusted.body(action, data)
        if body is None:
            self.distrusted.add(action)
        return body

    def keep(self, result: Result) -> None:
        """Write a result; whoever wrote one at the same time has written as good a one."""
        name = result.action.removeprefix("sha256:")
        found = self.store.read_action(name)
        data = _encode(result)
        if self._signer is not None:
            data = self._signer.sign(result.action, data)
        with contextlib.suppress(ConflictError):
            self.store.swap_action(name, data, found[1] if found else None)

    def is_there(self, result: Result) -> bool:
        """Say whether the outputs of a result can still be read: its snapshot, and every pack that it lists."""
        if result.snapshot not in self._there:
            self._there[result.snapshot] = self._look(result)
        return self._there[result.snapshot]

    def _look(self, result: Result) -> bool:
        store = next(each for each in self.stores if each.url == result.store)
        try:
            return store.has_packs(store.read_snapshot(result.snapshot).packs)
        except NotFoundError:
            return False


def _encode(result: Result) -> bytes:
    said = reapi.ActionResult(stdout_raw=result.log)
    for path, node in sorted(result.outputs.items()):
        if node.kind == "symlink":
            said.output_symlinks.add(path=path, target=node.target.decode("utf-8", "surrogateescape"))
            continue
        digest = reapi.Digest(hash=node.digest.removeprefix("sha256:"), size_bytes=node.size)
        if node.kind == "dir":
            said.output_directories.add(path=path, root_directory_digest=digest)
        else:
            said.output_files.add(path=path, digest=digest, is_executable=node.executable)
    said.execution_metadata.virtual_execution_duration.FromNanoseconds(int(result.seconds * 1e9))
    where = wrappers_pb2.StringValue(value=f"{result.ref}@{result.snapshot}")
    said.execution_metadata.auxiliary_metadata.append(
        any_pb2.Any(type_url=_SAPWOOD, value=where.SerializeToString(deterministic=True))
    )
    return said.SerializeToString(deterministic=True)


def _decode(data: bytes, action: str, store: str) -> Result | None:
    """Return what a result says; None: it is damaged, of a failure, or says not where its outputs lie."""
    try:
        said = reapi.ActionResult.FromString(data)
        where = next(
            wrappers_pb2.StringValue.FromString(one.value).value
            for one in said.execution_metadata.auxiliary_metadata
            if one.type_url == _SAPWOOD
        )
        ref, _, pin = where.partition("@")
        snapshot = parse_digest(SnapshotDigest, pin)
        outputs = {one.path: Node("symlink", target=one.target.encode()) for one in said.output_symlinks}
        for one in said.output_files:
            outputs[one.path] = Node("reg", _digest(one.digest), one.digest.size_bytes, executable=one.is_executable)
        for each in said.output_directories:
            found = each.root_directory_digest
            outputs[each.path] = Node("dir", _digest(found), found.size_bytes)
    except (message.DecodeError, StopIteration, InvalidInputError, UnicodeEncodeError):
        return None
    if said.exit_code or not is_ref_name(ref):
        return None
    seconds = said.execution_metadata.virtual_execution_duration.ToNanoseconds() / 1e9
    result = Result(action, outputs, store, ref, snapshot, seconds, said.stdout_raw)
    for path, node in outputs.items():
        outputs[path] = replace(node, origin=result, path=path.encode())
    return result


def _digest(found: reapi.Digest) -> TreeDigest:
    return parse_digest(TreeDigest, f"sha256:{found.hash}")
