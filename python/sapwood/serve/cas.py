"""ContentAddressableStorage: many blobs at a time.

Invariant: a blob is acknowledged when it is durable, each of a batch by itself; what is not what its digest says is
refused, and nothing of it stays. Not here: blobs of any size (`bytestream`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.rpc import code_pb2, status_pb2

from sapwood._core.serve import Batch, Finding, compress
from sapwood.errors import InvalidInputError, NotFoundError, SapwoodError, UnavailableError
from sapwood.reapi.blobs import Name
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.serve.answers import answering, bad_digest, name_of, require_instance, status_of, streaming
from sapwood.serve.arrivals import Arrivals
from sapwood.serve.blobs import EMPTY, Blobs
from sapwood.serve.limits import BATCH_BYTES, Limits
from sapwood.serve.staging import mismatch

__all__ = ["Cas", "add_to"]

_ZSTD = reapi.Compressor.ZSTD
_LARGE_TREE = 1000
_CDC = reapi.ChunkingFunction.FAST_CDC_2020


class Cas:
    """The service, of the instance `instance`."""

    def __init__(self, instance: str, blobs: Blobs, limits: Limits, arrivals: Arrivals) -> None:
        self._instance = instance
        self._blobs = blobs
        self._limits = limits
        self._arrivals = arrivals

    @answering
    def FindMissingBlobs(self, request: Finding, context: grpc.ServicerContext) -> bytes:  # noqa: ARG002
        require_instance(self._instance, request)
        if bad := request.bad():
            raise bad_digest(*bad)
        return self._blobs.answer(request)

    @answering
    def BatchUpdateBlobs(self, request: Batch, context: grpc.ServicerContext) -> bytes:
        require_instance(self._instance, request)
        session = self._arrivals.session(context)
        _require_size(request.size)
        statuses = dict[int, bytes]()
        for row, told, kind, found in request.prove():
            error = _wrong(told, kind, found)
            self._arrivals.cut_off(session, error)
            statuses[row] = _status(error).SerializeToString()
        if records := self._blobs.records(request):
            self._limits.admit(self._blobs.staging)
            self._blobs.staging.add_batch(request, records)
        return request.answer(statuses)

    @answering
    def BatchReadBlobs(self, request: reapi.BatchReadBlobsRequest, context: grpc.ServicerContext) -> Any:
        require_instance(self._instance, request)
        _require_size(sum(max(0, digest.size_bytes) for digest in request.digests))
        answer = reapi.BatchReadBlobsResponse()
        is_zstd = _ZSTD in request.acceptable_compressors
        lost = self._arrivals.wait([(digest.hash, digest.size_bytes) for digest in request.digests], context) or {}
        for digest in request.digests:
            reply = answer.responses.add(digest=digest)
            try:
                blob = name_of(digest)
                if blob in lost:
                    raise lost[blob]
                data = self._blobs.read(blob)
            except SapwoodError as error:
                reply.status.CopyFrom(_status(error))
                continue
            if is_zstd and len(shorter := compress(data)) < len(data):
                reply.data, reply.compressor = shorter, _ZSTD
            else:
                reply.data = data
        return answer

    @streaming
    def GetTree(self, request: reapi.GetTreeRequest, context: grpc.ServicerContext) -> Iterator[Any]:
        require_instance(self._instance, request)
        page = min(request.page_size, _LARGE_TREE) if request.page_size > 0 else _LARGE_TREE
        try:
            skip = int(request.page_token or 0)
        except ValueError:
            raise InvalidInputError(f"{request.page_token[:40]!r}: no page token", kind="bad-page-token") from None
        answer, size, given = reapi.GetTreeResponse(), 0, 0
        for number, (raw, directory) in enumerate(self._directories(name_of(request.root_digest), context)):
            if number < skip:
                continue
            if answer.directories and (len(answer.directories) >= page or size + len(raw) > BATCH_BYTES):
                answer.next_page_token = str(skip + given)
                yield answer
                answer, size = reapi.GetTreeResponse(), 0
            answer.directories.append(directory)
            size += len(raw)
            given += 1
        yield answer

    def _directories(self, root: Name, context: grpc.ServicerContext) -> Iterator[tuple[bytes, reapi.Directory]]:
        """Yield every directory once, level by level; what is missing below the root is left out."""
        level, seen = [root], {root}
        while level:
            below = list[Name]()
            self._arrivals.require(level, context)
            for blob in level:
                try:
                    raw = self._blobs.read(blob) if blob != EMPTY else b""
                except NotFoundError:
                    if blob == root:
                        raise
                    continue
                directory = parsed(reapi.Directory(), raw, blob)
                yield raw, directory
                for node in directory.directories:
                    if (name := name_of(node.digest)) not in seen:
                        seen.add(name)
                        below.append(name)
            level = below

    @answering
    def SplitBlob(self, request: reapi.SplitBlobRequest, context: grpc.ServicerContext) -> Any:  # noqa: ARG002
        require_instance(self._instance, request)
        blob = name_of(request.blob_digest)
        if blob == EMPTY:
            return reapi.SplitBlobResponse(chunking_function=_CDC)
        if self._blobs.staging.find(*blob) and not self._blobs.packed.has(*blob):
            # It is cut when it is packed.
            self._limits.pack_now()
            if not self._blobs.packed.has(*blob):
                raise UnavailableError(f"blob {blob[0][:12]}/{blob[1]} is not packed yet", kind="not-packed")
        chunks = self._blobs.chunks(blob)
        return reapi.SplitBlobResponse(chunk_digests=map(_digest, chunks), chunking_function=_CDC)

    @answering
    def SpliceBlob(self, request: reapi.SpliceBlobRequest, context: grpc.ServicerContext) -> Any:  # noqa: ARG002
        require_instance(self._instance, request)
        chunks = [name_of(digest) for digest in request.chunk_digests]
        size = sum(size for _, size in chunks)
        told = request.blob_digest
        if not told.hash:
            raise InvalidInputError(
                "the digest of the whole blob is left out", kind="bad-digest", hint="send blob_digest"
            )
        blob = name_of(told)
        if size != blob[1]:
            raise mismatch(*blob, f"its chunks have {size} bytes")
        if not self._blobs.missing([blob]):
            return reapi.SpliceBlobResponse(blob_digest=told)
        if missing := self._blobs.missing(chunks):
            raise NotFoundError(f"chunk {missing[0][0][:12]}/{missing[0][1]} is not here", kind="blob-missing")
        self._limits.admit(self._blobs.staging)
        upload = self._blobs.staging.upload(*blob)
        try:
            for chunk in chunks:
                for piece in self._blobs.stream(chunk):
                    upload.write(piece)
            upload.finish()
        finally:
            upload.drop()
        return reapi.SpliceBlobResponse(blob_digest=told)


def parsed(message: Any, raw: bytes, blob: Name) -> Any:
    """Parse a blob as `message`.

    Raises:
        InvalidInputError: `bad-message`.
    """
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise InvalidInputError(
            f"blob {blob[0][:12]}/{blob[1]} is no {type(message).__name__}", kind="bad-message"
        ) from error
    return message


def _require_size(size: int) -> None:
    if size > BATCH_BYTES:
        raise InvalidInputError(
            f"the batch has {size} bytes, at most {BATCH_BYTES} may come or go at a time",
            kind="batch-too-large",
            hint="send less at a time, or use ByteStream",
        )


def _wrong(told: tuple[str, int], kind: str, found: str) -> InvalidInputError:
    if kind == "bad-digest":
        return bad_digest(*told)
    if kind == "bad-compressor":
        return InvalidInputError(f"blob {told[0][:12]}: compressor {found} is none of this server's", kind=kind)
    return mismatch(*told, found)


def _digest(blob: Name) -> reapi.Digest:
    return reapi.Digest(hash=blob[0], size_bytes=blob[1])


def _status(error: SapwoodError) -> status_pb2.Status:
    code, text = status_of(error)
    return status_pb2.Status(code=code_pb2.Code.Value(code.name), message=text)


def add_to(service: Cas, server: grpc.Server) -> None:
    """Let a server speak it. What is called most, and what has the most bytes, protobuf has no part in."""
    unary = grpc.unary_unary_rpc_method_handler
    handlers: dict[str, Any] = {
        "FindMissingBlobs": unary(service.FindMissingBlobs, Finding),
        "BatchUpdateBlobs": unary(service.BatchUpdateBlobs, Batch),
        "BatchReadBlobs": unary(service.BatchReadBlobs, reapi.BatchReadBlobsRequest.FromString, _encoded),
        "GetTree": grpc.unary_stream_rpc_method_handler(service.GetTree, reapi.GetTreeRequest.FromString, _encoded),
        "SplitBlob": unary(service.SplitBlob, reapi.SplitBlobRequest.FromString, _encoded),
        "SpliceBlob": unary(service.SpliceBlob, reapi.SpliceBlobRequest.FromString, _encoded),
    }
    name = "build.bazel.remote.execution.v2.ContentAddressableStorage"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def _encoded(message: Any) -> bytes:
    return bytes(message.SerializeToString())
