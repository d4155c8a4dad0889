"""A content-addressable storage (CAS) of the Remote Execution API as a client sees it.

Invariant: what is returned was hashed and is what its name says. Calls are bounded in number and in bytes at a time;
what does not answer is asked again. Not here: channels and refusals (`channel`), storing (`sapwood.serve`).
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import grpc

from sapwood._core.serve import Expand, compress
from sapwood.errors import CorruptError, NotFoundError, StoppedError
from sapwood.reapi.channel import Peer, Refused, Tries, trying
from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.reapi.protocol import bytestream_pb2_grpc as bytestream_grpc
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc

__all__ = ["Cas", "Name", "Offers", "Open", "message_of", "name_of", "plain_of"]

Name = tuple[str, int]
"""A blob: hex digits of its SHA-256, and its size."""
Open = Callable[[], Iterable[bytes]]
"""What begins to read a blob, from its first byte."""

_BATCH_BYTES = 3 << 20
"""What is put into one message, unless the server wants less."""
_ASKED = 10_000
"""Digests in one question: below a message's 4 MiB."""
_BATCHED = 1_000
_AT_ONCE = 8
_PIECE = 1 << 20
_CALL_S = 300.0
# What is read whole is in memory: messages and small files. No message of use is larger, whatever a digest says.
_WHOLE_BYTES = 256 << 20
_ZSTD = reapi.Compressor.ZSTD
_PLAIN = reapi.Compressor.IDENTITY


def name_of(digest: reapi.Digest) -> Name:
    """Return the blob that a digest of the protocol names."""
    return digest.hash, digest.size_bytes


def message_of(name: Name) -> reapi.Digest:
    """Return a blob's digest as the protocol has it."""
    return reapi.Digest(hash=name[0], size_bytes=name[1])


@dataclass(frozen=True)
class Offers:
    """What a server says that it can."""

    batch_bytes: int
    streams_zstd: bool
    batches_zstd: bool
    executes: bool


class Cas:
    """The CAS at `peer`, in the instance `instance`; `cancel` ends what is going on."""

    def __init__(self, peer: Peer, instance: str, cancel: threading.Event) -> None:
        self.peer = peer
        self.instance = instance
        self._cancel = cancel
        services: Any = reapi_grpc  # which tells no types
        streams: Any = bytestream_grpc
        self._blobs = services.ContentAddressableStorageStub(peer.channel)
        self._stream = streams.ByteStreamStub(peer.channel)
        self._capabilities = services.CapabilitiesStub(peer.channel)

    @cached_property
    def offers(self) -> Offers:
        """What the server can; asked once.

        Raises:
            SapwoodError: as `trying`.
        """
        request = reapi.GetCapabilitiesRequest(instance_name=self.instance)
        told = self._try("ask what it can", lambda: self._capabilities.GetCapabilities(request, timeout=_CALL_S))
        cache = told.cache_capabilities
        return Offers(
            min(cache.max_batch_total_size_bytes or _BATCH_BYTES, _BATCH_BYTES),
            _ZSTD in cache.supported_compressors,
            _ZSTD in cache.supported_batch_update_compressors,
            told.execution_capabilities.exec_enabled,
        )

    # What is there

    def missing(self, blobs: Iterable[Name]) -> list[Name]:
        """Return those that are not there; errors as `trying`."""
        wanted = list(dict.fromkeys(blobs))
        parts = [wanted[at : at + _ASKED] for at in range(0, len(wanted), _ASKED)]

        def ask(part: list[Name]) -> list[Name]:
            request = reapi.FindMissingBlobsRequest(
                instance_name=self.instance, blob_digests=[message_of(name) for name in part]
            )
            answer = self._try("ask what is there", lambda: self._blobs.FindMissingBlobs(request, timeout=_CALL_S))
            return [name_of(one) for one in answer.missing_blob_digests]

        return [name for found in self._each(ask, parts) for name in found]

    # Giving

    def give(self, blobs: Mapping[Name, Open], sent: Callable[[int], None] = lambda _: None) -> None:
        """Store blobs; `sent` hears of plain bytes that are stored.

        Raises:
            SapwoodError: as `trying`; what opening a blob raises.
        """
        little: list[Name] = []
        large: list[Name] = []
        for name in sorted(blobs, key=lambda each: each[1]):
            (little if name[1] <= self.offers.batch_bytes // 4 else large).append(name)
        batches: list[list[Name]] = []
        room, number = 0, 0
        for name in little:
            if not batches or name[1] > room or number == _BATCHED:
                batches.append([])
                room, number = self.offers.batch_bytes, 0
            batches[-1].append(name)
            room, number = room - name[1], number + 1

        def one(part: list[Name]) -> None:
            if len(part) == 1 and part[0][1] > self.offers.batch_bytes // 4:
                self._write(part[0], blobs[part[0]])
            else:
                self._update({name: b"".join(blobs[name]()) for name in part})
            sent(sum(size for _, size in part))

        self._each(one, [*([name] for name in reversed(large)), *batches])

    def _update(self, data: Mapping[Name, bytes]) -> None:
        requests = []
        for name, plain in data.items():
            packed = compress(plain) if self.offers.batches_zstd else plain
            # What does not shrink goes as it is.
            short = packed if len(packed) < len(plain) else plain
            requests.append(
                reapi.BatchUpdateBlobsRequest.Request(
                    digest=message_of(name), data=short, compressor=_PLAIN if short is plain else _ZSTD
                )
            )
        request = reapi.BatchUpdateBlobsRequest(instance_name=self.instance, requests=requests)

        def call() -> None:
            answer = self._blobs.BatchUpdateBlobs(request, timeout=_CALL_S)
            for one in answer.responses:
                if one.status.code:
                    raise Refused(one.status)

        self._try(f"store {len(data)} blobs", call)

    def _write(self, name: Name, open_blob: Open) -> None:
        packs = self.offers.streams_zstd
        resource = f"uploads/{uuid.uuid4()}/{'compressed-blobs/zstd' if packs else 'blobs'}/{name[0]}/{name[1]}"

        def requests() -> Iterator[bytestream.WriteRequest]:
            at = 0
            for piece in _in_pieces(open_blob()):
                data = compress(piece) if packs else piece
                yield bytestream.WriteRequest(
                    resource_name=self._resource(resource) if at == 0 else "", write_offset=at, data=data
                )
                at += len(data)
            yield bytestream.WriteRequest(
                resource_name=self._resource(resource) if at == 0 else "", write_offset=at, finish_write=True
            )

        def call() -> None:
            failed: list[BaseException] = []
            try:
                self._stream.Write(_noting(requests(), failed))
            except grpc.RpcError:
                # What gRPC makes of an error in reading the blob is no answer of the server.
                if failed:
                    raise failed[0] from None
                raise

        self._try(f"store blob {name[0][:12]}", call)

    # Taking

    def read(self, name: Name) -> Iterator[bytes]:
        """Yield a blob, proved when all of it was; pieces of what stopped are not given again.

        Raises:
            NotFoundError: `executor-lacks`.
            CorruptError: `blob-corrupt`: it is not what its name says.
            SapwoodError: as `trying`.
        """
        taken, at = hashlib.sha256(), 0
        tries, before = Tries(self.peer), 0
        while at < name[1]:
            try:
                for piece in self._pieces(name, at):
                    taken.update(piece)
                    at += len(piece)
                    if at > name[1]:
                        break  # however much more would come
                    yield piece
                self.peer.answered()
                break
            except (grpc.RpcError, ValueError) as error:
                if self._cancel.is_set():
                    raise StoppedError("stopped", kind="stopped") from error
                if not isinstance(error, grpc.RpcError):
                    raise
                if at > before:
                    tries, before = Tries(self.peer), at
                self._cancel.wait(tries.after(error, f"read blob {name[0][:12]}"))
        if taken.hexdigest() != name[0]:
            raise CorruptError(
                f"{self.peer.url}: blob {name[0][:12]} is not what its name says", kind="blob-corrupt", digest=name[0]
            )

    def _pieces(self, name: Name, offset: int) -> Iterator[bytes]:
        packs = self.offers.streams_zstd
        resource = f"{'compressed-blobs/zstd' if packs else 'blobs'}/{name[0]}/{name[1]}"
        request = bytestream.ReadRequest(resource_name=self._resource(resource), read_offset=offset)
        answers = self._stream.Read(request)
        if not packs:
            for answer in answers:
                yield answer.data
            return
        expand = Expand()
        for answer in answers:
            expand.feed(answer.data)
            while piece := expand.take(_PIECE):
                yield piece

    def read_small(self, blobs: Sequence[Name]) -> dict[Name, bytes]:
        """Return small blobs, many in a call, proved.

        Raises:
            NotFoundError: `executor-lacks`; `missing` lists all that are not there.
            CorruptError: `blob-corrupt`; one of more than 256 MiB is for nobody who reads it whole.
            SapwoodError: as `trying`.
        """
        batches: list[list[Name]] = []
        room = 0
        for name in dict.fromkeys(blobs):
            if not batches or name[1] > room or len(batches[-1]) == _BATCHED:
                batches.append([])
                room = self.offers.batch_bytes
            batches[-1].append(name)
            room -= name[1]
        found: dict[Name, bytes] = {}
        for part in self._each(self._read_batch, batches):
            found.update(part)
        return found

    def _read_batch(self, part: list[Name]) -> dict[Name, bytes]:
        if len(part) == 1 and part[0][1] > self.offers.batch_bytes:
            if part[0][1] > _WHOLE_BYTES:
                raise CorruptError(
                    f"{self.peer.url}: blob {part[0][0][:12]} is too large for what it should be: {part[0][1]:,} bytes",
                    kind="blob-corrupt",
                    digest=part[0][0],
                )
            return {part[0]: b"".join(self.read(part[0]))}
        request = reapi.BatchReadBlobsRequest(
            instance_name=self.instance,
            digests=[message_of(name) for name in part],
            acceptable_compressors=[_ZSTD] if self.offers.batches_zstd else [],
        )

        def call() -> dict[Name, bytes]:
            answered: dict[Name, bytes] = {}
            lacking: list[Name] = []
            for one in self._blobs.BatchReadBlobs(request, timeout=_CALL_S).responses:
                name = name_of(one.digest)
                if one.status.code == grpc.StatusCode.NOT_FOUND.value[0]:
                    lacking.append(name)
                elif one.status.code:
                    raise Refused(one.status)
                else:
                    answered[name] = plain_of(one.data, one.compressor, name[1])
            if lacking:
                raise NotFoundError(
                    f"{self.peer.url}: blob {lacking[0][0][:12]} is not there", kind="executor-lacks", missing=lacking
                )
            return answered

        found: dict[Name, bytes] = self._try(f"read {len(part)} blobs", call)
        for name in part:
            if hashlib.sha256(found.get(name, b"")).hexdigest() != name[0]:
                raise CorruptError(
                    f"{self.peer.url}: blob {name[0][:12]} is not what its name says",
                    kind="blob-corrupt",
                    digest=name[0],
                )
        return found

    # Calls

    def _resource(self, rest: str) -> str:
        return f"{self.instance}/{rest}" if self.instance else rest

    def _try(self, what: str, call: Callable[[], Any]) -> Any:
        return trying(call, self.peer, what, self._cancel)

    def _each(self, work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """Return what `work` makes of each part, some at a time; after a failure no more are begun."""
        if len(parts) < 2:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            futures = [pool.submit(work, part) for part in parts]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise


def _noting(requests: Iterator[Any], failed: list[BaseException]) -> Iterator[Any]:
    try:
        yield from requests
    except GeneratorExit:  # the server has it by now, and takes no more
        raise
    except BaseException as error:
        failed.append(error)
        raise


def plain_of(data: bytes, compressor: int, size: int) -> bytes:
    """Return what a batch has of a blob of `size` bytes, in plain, with at most one byte more than that."""
    if compressor != _ZSTD:
        return data
    expand = Expand()
    expand.feed(data)
    # One more than it should be shows that it is too long.
    pieces = []
    while size >= 0 and (piece := expand.take(size + 1)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _in_pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of up to a MiB, as few as they can be."""
    held = bytearray()
    for part in parts:
        held += part
        while len(held) >= _PIECE:
            yield bytes(held[:_PIECE])
            del held[:_PIECE]
    if held:
        yield bytes(held)
