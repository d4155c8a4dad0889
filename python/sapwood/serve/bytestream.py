"""ByteStream: one blob of any size, read from anywhere, written with resumption.

Invariant: a write is acknowledged when the blob is durable; one that stopped can be resumed by who knows its resource
name until it was left alone for ten minutes; a write of what is here already ends at once.
Protobuf is kept from copying: what is read is put behind the few bytes that make it a message, and what is written is
taken from where it lies in its message.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import grpc

from sapwood._core.serve import Expand, Piece, compress
from sapwood.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError, SapwoodError
from sapwood.reapi.blobs import Name
from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.serve.answers import Resource, answering, parse_resource, streaming
from sapwood.serve.arrivals import Arrivals, client_of
from sapwood.serve.blobs import EMPTY, Blobs
from sapwood.serve.limits import Limits
from sapwood.serve.session import Session
from sapwood.serve.staging import Upload, mismatch

__all__ = ["ByteStream", "add_to"]

_IDLE_S = 600.0
# So many stopped writes are remembered, of all clients; the oldest goes first.
_RESUMABLE = 256
_PIECE = 1 << 20


class _Write:
    """A write that has begun: what came of it so far. `received` counts bytes as they are sent."""

    def __init__(self, upload: Upload, *, is_zstd: bool) -> None:
        self.upload = upload
        self.received = 0
        self.expand = Expand() if is_zstd else None
        self.lock = threading.Lock()
        self.touched_s = time.monotonic()

    def take(self, data: memoryview) -> None:
        self.received += len(data)
        if self.expand is None:
            self.upload.write(data)
            return
        self.expand.feed(bytes(data))
        try:
            while piece := self.expand.take(_PIECE):
                self.upload.write(piece)
        except CorruptError as error:
            raise mismatch(self.upload.name, self.upload.size, str(error)) from error

    def finish(self) -> None:
        if self.expand is not None and not self.expand.is_whole():
            raise mismatch(self.upload.name, self.upload.size, "what came is no whole zstd stream")
        self.upload.finish()


class ByteStream:
    """The service, of the instance `instance`."""

    def __init__(self, instance: str, blobs: Blobs, limits: Limits, arrivals: Arrivals) -> None:
        self._instance = instance
        self._blobs = blobs
        self._limits = limits
        self._arrivals = arrivals
        self._lock = threading.Lock()
        self._writes: OrderedDict[tuple[str, Name, bool], _Write] = OrderedDict()

    @streaming
    def Read(self, request: bytestream.ReadRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        resource = parse_resource(self._instance, request.resource_name, is_upload=False)
        _, size = resource.blob
        offset, limit = request.read_offset, request.read_limit
        if limit < 0:
            raise InvalidInputError(f"a read limit of {limit}", kind="bad-limit", hint="0 means to the end")
        if resource.is_zstd and limit:
            raise InvalidInputError("a read limit for a compressed blob", kind="bad-limit", hint="0 means to the end")
        if not 0 <= offset <= size:
            raise InvalidInputError(f"offset {offset} of a blob of {size} bytes", kind="out-of-range")
        with self._arrivals.stream(resource.blob, self._limits, context):
            for piece in self._blobs.stream(resource.blob, offset, limit or None):
                yield compress(piece) if resource.is_zstd else piece

    @answering
    def Write(self, requests: Iterator[Piece], context: grpc.ServicerContext) -> Any:
        first = next(requests, None)
        if first is None:
            raise InvalidInputError("a write without a request", kind="bad-write")
        resource = parse_resource(self._instance, first.resource_name, is_upload=True)
        if self._is_here(resource.blob):
            return bytestream.WriteResponse(committed_size=-1 if resource.is_zstd else resource.blob[1])
        session = self._arrivals.session(context)
        with self._limits.call(client_of(context)):
            self._limits.admit(self._blobs.staging)
            try:
                return self._write(resource, first, _heard(session, requests))
            except SapwoodError as error:
                self._arrivals.cut_off(session, error)
                raise

    def _write(self, resource: Resource, first: Piece, requests: Iterator[Piece]) -> Any:
        key = (resource.upload or "", resource.blob, resource.is_zstd)
        write = self._begun(key, resource)
        if not write.lock.acquire(blocking=False):
            raise ConflictError(
                f"{first.resource_name[:160]}: another stream writes this",
                kind="write-taken",
                hint="wait for it to end",
            )
        try:
            request, finished = first, False
            while True:
                if request.resource_name not in ("", first.resource_name):
                    raise InvalidInputError("one stream writes one resource", kind="bad-write")
                if finished:
                    raise InvalidInputError("a request after the one that finishes the write", kind="bad-write")
                if request.write_offset != write.received:
                    if request.write_offset == 0 and request is first:
                        # Who begins anew has forgotten what came before.
                        write.lock.release()
                        self._forget(key, write)
                        write = self._begun(key, resource)
                        write.lock.acquire()
                    else:
                        raise InvalidInputError(
                            f"a write at {request.write_offset}, and {write.received} bytes are here",
                            kind="bad-offset",
                            hint="QueryWriteStatus says where to go on",
                        )
                try:
                    write.take(request.data)
                except SapwoodError:
                    self._forget(key, write)  # also for the room that it has on a disk that is full
                    raise
                finished = request.finish_write
                following = next(requests, None)
                if following is None:
                    break
                request = following
                if self._is_here(resource.blob) and not finished:
                    # Somebody else was faster.
                    self._forget(key, write)
                    return bytestream.WriteResponse(committed_size=-1 if resource.is_zstd else resource.blob[1])
            if finished:
                self._forget_name(key)
                try:
                    write.finish()
                finally:
                    write.upload.drop()
            return bytestream.WriteResponse(committed_size=write.received)
        finally:
            write.touched_s = time.monotonic()
            write.lock.release()

    @answering
    def QueryWriteStatus(self, request: bytestream.QueryWriteStatusRequest, context: Any) -> Any:  # noqa: ARG002
        resource = parse_resource(self._instance, request.resource_name, is_upload=True)
        if self._is_here(resource.blob):
            return bytestream.QueryWriteStatusResponse(committed_size=resource.blob[1], complete=True)
        with self._lock:
            write = self._writes.get((resource.upload or "", resource.blob, resource.is_zstd))
        if write is None:
            raise NotFoundError(f"{request.resource_name[:160]}: nothing of it came", kind="write-missing")
        return bytestream.QueryWriteStatusResponse(committed_size=write.received)

    def _is_here(self, blob: Name) -> bool:
        return blob == EMPTY or self._blobs.has(blob)

    def _begun(self, key: tuple[str, Name, bool], resource: Resource) -> _Write:
        with self._lock:
            now_s = time.monotonic()
            for old, write in list(self._writes.items()):
                is_idle = write.touched_s < now_s - _IDLE_S or len(self._writes) >= _RESUMABLE
                if old != key and is_idle and write.lock.acquire(blocking=False):
                    del self._writes[old]
                    write.upload.drop()
                    write.lock.release()
            if key not in self._writes:
                self._writes[key] = _Write(self._blobs.staging.upload(*resource.blob), is_zstd=resource.is_zstd)
            return self._writes[key]

    def _forget(self, key: tuple[str, Name, bool], write: _Write) -> None:
        self._forget_name(key)
        write.upload.drop()

    def _forget_name(self, key: tuple[str, Name, bool]) -> None:
        with self._lock:
            self._writes.pop(key, None)


def _heard(session: Session | None, requests: Iterator[Piece]) -> Iterator[Piece]:
    for request in requests:
        if session is not None:
            session.heard_s = time.monotonic()
        yield request


def _message(piece: bytes) -> bytes:
    """Return a ReadResponse of `piece`: field 10, its length as a varint, and it."""
    size, head = len(piece), bytearray(b"\x52")
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return b"".join((head, piece))


def add_to(service: ByteStream, server: grpc.Server) -> None:
    """Let a server speak it."""
    handlers: dict[str, Any] = {
        "Read": grpc.unary_stream_rpc_method_handler(
            service.Read, bytestream.ReadRequest.FromString, _message
        ),
        "Write": grpc.stream_unary_rpc_method_handler(
            service.Write, Piece, bytestream.WriteResponse.SerializeToString
        ),
        "QueryWriteStatus": grpc.unary_unary_rpc_method_handler(
            service.QueryWriteStatus,
            bytestream.QueryWriteStatusRequest.FromString,
            bytestream.QueryWriteStatusResponse.SerializeToString,
        ),
    }  # fmt: skip
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("google.bytestream.ByteStream", handlers),))
