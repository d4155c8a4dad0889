"""A client of the Remote Execution API that says exactly what it is told to, right or wrong."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import grpc

from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.reapi.protocol import bytestream_pb2_grpc as bytestream_grpc
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc


def digest_of(data: bytes) -> reapi.Digest:
    """Return the digest of `data`."""
    return reapi.Digest(hash=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def some(size: int, seed: int = 0) -> bytes:
    """Return bytes that nothing shrinks, for each size and seed others."""
    return random.Random(seed * 1_000_003 + size).randbytes(size)


class Client:
    """One channel to a server; a context."""

    def __init__(self, where: str, *, token: str | None = None, ca: bytes | None = None, instance: str = "") -> None:
        # By default channels of a process share connections: one to a server that was just killed may be taken for
        # alive, and who waits for the channel to be ready then is never told that it is, nor that it must connect.
        alone = [("grpc.use_local_subchannel_pool", 1)]
        if ca is None:
            self.channel = grpc.insecure_channel(where, alone)
        else:
            self.channel = grpc.secure_channel(where, grpc.ssl_channel_credentials(ca), alone)
        self.instance = instance
        self.metadata = [("authorization", f"Bearer {token}")] if token else []
        services: Any = reapi_grpc  # which, as the other, tells no types
        streams: Any = bytestream_grpc
        self.cas = services.ContentAddressableStorageStub(self.channel)
        self.actions = services.ActionCacheStub(self.channel)
        self.offers = services.CapabilitiesStub(self.channel)
        self.stream = streams.ByteStreamStub(self.channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def wait_until_ready(self) -> None:
        """Wait until the server listens, which one in Python takes a minute for on a busy machine."""
        grpc.channel_ready_future(self.channel).result(150)

    def capabilities(self) -> Any:
        return self.offers.GetCapabilities(
            reapi.GetCapabilitiesRequest(instance_name=self.instance), metadata=self.metadata
        )

    def find_request(self, blobs: Sequence[bytes]) -> reapi.FindMissingBlobsRequest:
        return reapi.FindMissingBlobsRequest(instance_name=self.instance, blob_digests=map(digest_of, blobs))

    def update_request(self, blobs: Sequence[bytes]) -> reapi.BatchUpdateBlobsRequest:
        requests = [reapi.BatchUpdateBlobsRequest.Request(digest=digest_of(blob), data=blob) for blob in blobs]
        return reapi.BatchUpdateBlobsRequest(instance_name=self.instance, requests=requests)

    def missing(self, blobs: Sequence[bytes]) -> list[bytes]:
        """Return those of `blobs` that the server says it lacks."""
        found = self.cas.FindMissingBlobs(self.find_request(blobs), metadata=self.metadata)
        lacking = {one.hash for one in found.missing_blob_digests}
        return [blob for blob in blobs if digest_of(blob).hash in lacking]

    def update(self, requests: Sequence[dict[str, Any]]) -> list[int]:
        """Send a batch as it stands, and return the status codes."""
        request = reapi.BatchUpdateBlobsRequest(
            instance_name=self.instance,
            requests=[reapi.BatchUpdateBlobsRequest.Request(**one) for one in requests],
        )
        return [one.status.code for one in self.cas.BatchUpdateBlobs(request, metadata=self.metadata).responses]

    def put(self, *blobs: bytes) -> None:
        """Store small blobs."""
        assert set(self.update([{"digest": digest_of(blob), "data": blob} for blob in blobs])) == {0}

    def get(self, *blobs: bytes, zstd: bool = False) -> list[tuple[int, bytes, int]]:
        """Ask for blobs by the digests of these, and return status, data and compressor of each."""
        request = reapi.BatchReadBlobsRequest(
            instance_name=self.instance,
            digests=map(digest_of, blobs),
            acceptable_compressors=[reapi.Compressor.ZSTD] if zstd else [],
        )
        answer = self.cas.BatchReadBlobs(request, metadata=self.metadata)
        return [(one.status.code, one.data, one.compressor) for one in answer.responses]

    def read(self, blob: bytes, offset: int = 0, limit: int = 0, *, form: str = "blobs") -> bytes:
        """Read a blob, by the digest of this, from a ByteStream."""
        return self.read_digest(digest_of(blob), offset, limit, form=form)

    def read_digest(self, digest: reapi.Digest, offset: int = 0, limit: int = 0, *, form: str = "blobs") -> bytes:
        return self.read_named(self.name(f"{form}/{digest.hash}/{digest.size_bytes}"), offset, limit)

    def read_named(self, name: str, offset: int = 0, limit: int = 0) -> bytes:
        request = bytestream.ReadRequest(resource_name=name, read_offset=offset, read_limit=limit)
        return b"".join(one.data for one in self.stream.Read(request, metadata=self.metadata))

    def read_through(self, name: str) -> int:
        """Read a resource to its end, keeping nothing, and return its bytes."""
        request = bytestream.ReadRequest(resource_name=name)
        return sum(len(one.data) for one in self.stream.Read(request, metadata=self.metadata))

    def name(self, rest: str) -> str:
        """Return a resource name in the client's instance."""
        return f"{self.instance}/{rest}" if self.instance else rest

    def upload_name(self, blob: bytes, upload: str = "one", form: str = "blobs") -> str:
        digest = digest_of(blob)
        return self.name(f"uploads/{upload}/{form}/{digest.hash}/{digest.size_bytes}")

    def write(self, name: str, pieces: Sequence[bytes], offset: int = 0, *, finish: bool = True) -> int:
        """Send pieces, the last of which finishes the write if `finish`, and return the committed size."""

        def requests() -> Iterator[bytestream.WriteRequest]:
            at = offset
            for number, piece in enumerate(pieces):
                is_last = finish and number == len(pieces) - 1
                yield bytestream.WriteRequest(
                    resource_name=name if number == 0 else "", write_offset=at, data=piece, finish_write=is_last
                )
                at += len(piece)

        return int(self.stream.Write(requests(), metadata=self.metadata).committed_size)

    def upload(self, blob: bytes, upload: str = "one", piece: int = 1 << 20) -> None:
        """Store a blob of any size."""
        pieces = [blob[at : at + piece] for at in range(0, len(blob), piece)] or [b""]
        assert self.write(self.upload_name(blob, upload), pieces) == len(blob)

    def status(self, name: str) -> tuple[int, bool]:
        """Return how much of a write has come, and whether it is complete."""
        request = bytestream.QueryWriteStatusRequest(resource_name=name)
        answer = self.stream.QueryWriteStatus(request, metadata=self.metadata)
        return answer.committed_size, answer.complete

    def result(self, action: bytes) -> Any:
        request = reapi.GetActionResultRequest(instance_name=self.instance, action_digest=digest_of(action))
        return self.actions.GetActionResult(request, metadata=self.metadata)

    def set_result(self, action: bytes, result: reapi.ActionResult) -> None:
        request = reapi.UpdateActionResultRequest(
            instance_name=self.instance, action_digest=digest_of(action), action_result=result
        )
        self.actions.UpdateActionResult(request, metadata=self.metadata)
