"""ActionCache and Capabilities: results of actions, and what this server offers.

Invariant: a result is given only while every blob that it names is present, so that nobody builds on what is gone; it
is kept as it was sent, whichever version of the API its sender speaks.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import grpc

from sapwood.errors import CorruptError, InvalidInputError, NotFoundError
from sapwood.reapi.blobs import Name, walk
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import semver_pb2
from sapwood.reapi.protocol.remote_execution_pb2_grpc import ActionCacheServicer, CapabilitiesServicer
from sapwood.serve.answers import answering, name_of, require_instance
from sapwood.serve.blobs import EMPTY, Blobs
from sapwood.serve.cas import parsed
from sapwood.serve.limits import BATCH_BYTES

__all__ = ["Actions", "Capabilities"]

_LOW = (2, 0)
_HIGH = (2, 12)
_AVERAGE_CHUNK = 512 << 10


class Actions(ActionCacheServicer):
    """The service, of the instance `instance`; `staged` are the results that no pack holds yet."""

    def __init__(self, instance: str, blobs: Blobs, staged: list[tuple[str, bytes]]) -> None:
        self._instance = instance
        self._blobs = blobs
        self._lock = threading.Lock()
        self._new: dict[str, bytes] = dict(staged)

    @answering
    def GetActionResult(self, request: reapi.GetActionResultRequest, context: grpc.ServicerContext) -> Any:  # noqa: ARG002
        require_instance(self._instance, request)
        action, _ = name_of(request.action_digest)
        raw = self._new.get(action)
        if raw is None:
            blob = self._blobs.packed.actions.get(action)
            if blob is None:
                raise _no_result(action, "there is none")
            raw = self._blobs.read(blob)
        result: reapi.ActionResult = parsed(reapi.ActionResult(), raw, (action, len(raw)))
        try:
            gone = self._blobs.missing(self._needs(result))
        except (InvalidInputError, CorruptError) as error:
            # It is made anew, as one of which something is gone.
            raise _no_result(action, str(error)) from error
        if gone:
            raise _no_result(action, f"blob {gone[0][0][:12]}/{gone[0][1]} of it is gone")
        return result

    @answering
    def UpdateActionResult(self, request: reapi.UpdateActionResultRequest, context: grpc.ServicerContext) -> Any:  # noqa: ARG002
        require_instance(self._instance, request)
        action, _ = name_of(request.action_digest)
        raw = request.action_result.SerializeToString(deterministic=True)
        self._blobs.staging.add([], [(action, raw)])
        with self._lock:
            self._new[action] = raw
        return request.action_result

    def packed(self, actions: dict[str, tuple[str, int]]) -> None:
        """Forget results that packs hold now, unless newer ones came."""
        import hashlib

        with self._lock:
            for action, (name, _) in actions.items():
                raw = self._new.get(action)
                if raw is not None and hashlib.sha256(raw).hexdigest() == name:
                    del self._new[action]

    def _needs(self, result: reapi.ActionResult) -> list[Name]:
        """Return the blobs that a result names, and those that its trees name."""
        needs = [name_of(file.digest) for file in result.output_files]
        for digest in (result.stdout_digest, result.stderr_digest):
            if digest.hash:
                needs.append(name_of(digest))
        for output in result.output_directories:
            if output.tree_digest.hash:
                blob = name_of(output.tree_digest)
                try:
                    tree: reapi.Tree = parsed(reapi.Tree(), self._blobs.read(blob), blob)
                except NotFoundError:
                    return [blob]
                for directory in (tree.root, *tree.children):
                    needs += [name_of(file.digest) for file in directory.files]
            if output.root_directory_digest.hash:
                lacking: list[Name] = []
                read = partial(self._directory, lacking)
                needs += [file for _, at in walk(name_of(output.root_directory_digest), read) for file in at.files]
                if lacking:
                    return lacking
        return needs

    def _directory(self, lacking: list[Name], name: Name) -> bytes:
        """Return a Directory, or note that it is gone; then what is in it does not matter."""
        if name == EMPTY:
            return b""
        try:
            return self._blobs.read(name)
        except NotFoundError:
            lacking.append(name)
            return b""


class Capabilities(CapabilitiesServicer):
    """What is offered; `may_update` says whether a call may store results of actions."""

    def __init__(self, instance: str, may_update: Any) -> None:
        self._instance = instance
        self._may_update = may_update

    @answering
    def GetCapabilities(self, request: reapi.GetCapabilitiesRequest, context: grpc.ServicerContext) -> Any:
        if request.instance_name != self._instance:
            raise NotFoundError(
                f"there is no instance {request.instance_name[:80]!r} here, only {self._instance!r}",
                kind="instance-missing",
                hint=f"--remote_instance_name={self._instance}",
            )
        zstd = [reapi.Compressor.ZSTD]
        return reapi.ServerCapabilities(
            cache_capabilities=reapi.CacheCapabilities(
                digest_functions=[reapi.DigestFunction.SHA256],
                action_cache_update_capabilities=reapi.ActionCacheUpdateCapabilities(
                    update_enabled=self._may_update(context)
                ),
                max_batch_total_size_bytes=BATCH_BYTES,
                symlink_absolute_path_strategy=reapi.SymlinkAbsolutePathStrategy.ALLOWED,
                supported_compressors=zstd,
                supported_batch_update_compressors=zstd,
                split_blob_support=True,
                splice_blob_support=True,
                fast_cdc_2020_params=reapi.FastCdc2020Params(avg_chunk_size_bytes=_AVERAGE_CHUNK, seed=0),
            ),
            low_api_version=semver_pb2.SemVer(major=_LOW[0], minor=_LOW[1]),
            high_api_version=semver_pb2.SemVer(major=_HIGH[0], minor=_HIGH[1]),
        )


def _no_result(action: str, why: str) -> NotFoundError:
    return NotFoundError(f"no result of action {action[:12]}: {why}", kind="result-missing", action=action)
