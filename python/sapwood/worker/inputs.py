"""Where a worker's inputs come from: directories, kept in memory, and blobs, each read by a call that can be ended.

Invariant: what is returned of directories was proved; blobs are proved by who keeps them. A read waits as long as the
server lets it, and goes on after a server that was away comes back; it ends at once when it cannot be had.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from sapwood._core.serve import Expand
from sapwood.errors import CorruptError, SapwoodError, StoppedError, UnavailableError
from sapwood.reapi.cas import Cas, Name, message_of, name_of, plain_of
from sapwood.reapi.channel import Refused, answer_of
from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.reapi.protocol import bytestream_pb2_grpc as bytestream_grpc
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc

__all__ = ["Directories", "RemoteBlobs"]

_KEPT_BYTES = 64 << 20
# Of the directories of one tree that are brought before anybody asks: 80,000 of the usual size.
_TREE_BYTES = 64 << 20
_TOGETHER = 100
_PIECE = 1 << 20
_ZSTD = reapi.Compressor.ZSTD
# A server that is away may come back for so long.
_PATIENCE_S = 60.0
_PAUSE_S = 0.5
# When it is back its clients take so long, at most, to promise again what they had promised.
_BACK_S = 10.0
_LOST = "announcer-lost"


class Directories:
    """The directories of trees; those that were used last are kept, for most actions have most of them in common."""

    def __init__(self, cas: Cas) -> None:
        self._cas = cas
        self._kept: OrderedDict[Name, bytes] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def read(self, root: Name) -> bytes:
        """Return a directory.

        Raises:
            NotFoundError: `executor-lacks`.
            CorruptError: `blob-corrupt`.
            SapwoodError: as `sapwood.reapi.channel.trying`.
        """
        return self.read_many([root])[root]

    def read_many(self, names: list[Name]) -> dict[Name, bytes]:
        """Return directories; errors as `read`."""
        return self._read(names)[0]

    def bring(
        self,
        root: Name,
        deliver: Callable[[bytes], None],
        learn: Callable[[Name, bytes], None],
        is_over: Callable[[], bool],
    ) -> None:
        """Give `deliver` the directories below one that are not kept here, a level after the other, until it `is_over`.

        `learn` gets all of them, with their names.
        Few at a time: who needs one now, or a file, is not to stand in line behind all of them. What cannot be had is
        left to who needs it.
        """
        known, todo = {root}, [root]
        room = _TREE_BYTES
        while todo and room > 0 and not is_over():
            part, todo = todo[:_TOGETHER], todo[_TOGETHER:]
            found, brought = self._read(part)
            for name in brought:
                deliver(found[name])
            room -= sum(map(len, found.values()))
            for name, message in found.items():
                learn(name, message)
                below = [child for child in _children(message) if child not in known]
                known.update(below)
                todo += dict.fromkeys(below)

    def _read(self, names: list[Name]) -> tuple[dict[Name, bytes], list[Name]]:
        """Return directories, and which of them were not kept."""
        with self._guard:
            found = {name: self._kept[name] for name in names if name in self._kept}
            for name in found:
                self._kept.move_to_end(name)
        lacking = [name for name in names if name not in found]
        if lacking:
            brought = self._cas.read_small(lacking)
            found |= brought
            with self._guard:
                for name, message in brought.items():
                    if name not in self._kept:
                        self._kept[name] = message
                        self._bytes += len(message)
                while self._bytes > _KEPT_BYTES:
                    self._bytes -= len(self._kept.popitem(last=False)[1])
        return found, lacking


def _children(message: bytes) -> list[Name]:
    try:
        return [name_of(node.digest) for node in reapi.Directory.FromString(message).directories]
    except DecodeError as error:
        raise CorruptError("the input root has a directory that is none", kind="damaged") from error


class RemoteBlobs:
    """The blobs of one mount; large ones are brought as files in `directory`. See `sapwood.mount.blobs.Blobs`.

    `wanted` hears of each that is read by itself.
    """

    def __init__(self, cas: Cas, directory: Path) -> None:
        self.wanted: Callable[[Name], None] = lambda _: None
        self._cas = cas
        self._directory = directory
        services: Any = reapi_grpc  # which tells no types
        streams: Any = bytestream_grpc
        self._blobs = services.ContentAddressableStorageStub(cas.peer.channel)
        self._stream = streams.ByteStreamStub(cas.peer.channel)
        self._calls: set[Any] = set()
        self._guard = threading.Lock()
        self._closed = threading.Event()

    def present(self, blobs: Sequence[Name]) -> list[Name]:
        """Return those that are there; errors as `Cas.missing`."""
        missing = set(self._cas.missing(blobs))
        return [name for name in blobs if name not in missing]

    def read_many(self, blobs: Sequence[Name]) -> dict[Name, bytes]:
        """Return blobs, each small enough for a batch or read by itself; errors as `Cas.read_small`."""
        return self._cas.read_small(blobs)

    def read(self, blob: Name) -> bytes | Path:
        """Return a blob, or a file that has it, not proved.

        Raises:
            NotFoundError: `executor-lacks`: nobody has it, nor has promised it.
            UnavailableError: `announcer-lost`: who had promised it is gone; `executor-unreachable`, for a minute.
            StoppedError: `stopped`: closed meanwhile.
            SapwoodError: as `answer_of`; `blob-corrupt`.
        """
        self.wanted(blob)
        if blob[1] <= self._cas.offers.batch_bytes:
            data: bytes = self._trying(blob, lambda: self._read_small(blob))
            return data
        path = self._directory / f"input-{uuid.uuid4()}"
        try:
            with open(path, "xb") as out:
                self._trying(blob, lambda: self._read_into(blob, out))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def close(self) -> None:
        """End all calls."""
        self._closed.set()
        with self._guard:
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def _read_small(self, blob: Name) -> bytes:
        packs = self._cas.offers.batches_zstd
        request = reapi.BatchReadBlobsRequest(
            instance_name=self._cas.instance,
            digests=[message_of(blob)],
            acceptable_compressors=[_ZSTD] if packs else [],
        )
        call = self._blobs.BatchReadBlobs.future(request)
        with _Noted(self, call):
            answer = call.result()
        for one in answer.responses:
            if one.status.code:
                raise Refused(one.status)
            if name_of(one.digest) == blob:
                return plain_of(one.data, one.compressor, blob[1])
        raise CorruptError(
            f"{self._cas.peer.url}: the answer is of another blob than {blob[0][:12]}", kind="blob-corrupt"
        )

    def _read_into(self, blob: Name, out: Any) -> None:
        """Go on where the file ends."""
        packs = self._cas.offers.streams_zstd
        kind = "compressed-blobs/zstd" if packs else "blobs"
        prefix = f"{self._cas.instance}/" if self._cas.instance else ""
        resource = f"{prefix}{kind}/{blob[0]}/{blob[1]}"
        call = self._stream.Read(bytestream.ReadRequest(resource_name=resource, read_offset=out.tell()))
        with _Noted(self, call):
            for piece in _plain_pieces(call, packs=packs):
                if out.tell() + len(piece) > blob[1]:
                    raise CorruptError(
                        f"{self._cas.peer.url}: blob {blob[0][:12]} is longer than its name says", kind="blob-corrupt"
                    )
                out.write(piece)

    def _trying(self, blob: Name, call: Any) -> Any:
        """Return what `call` returns, which is made again while the server is away."""
        # When calls began to fail, and when the last one did.
        first: float | None = None
        away: float | None = None
        while True:
            began = time.monotonic()
            try:
                return call()
            except grpc.FutureCancelledError as error:
                raise StoppedError("the mount has ended", kind="stopped") from error
            except grpc.RpcError as error:
                if self._closed.is_set():
                    raise StoppedError("the mount has ended", kind="stopped") from error
                found = self._found(error, blob)
                now = time.monotonic()
                if found.kind == "executor-unreachable":
                    # A call that lasted has seen the server.
                    first = now if first is None or now - began > _PATIENCE_S else first
                    away = now
                    if now - first > _PATIENCE_S:
                        raise found from error
                elif found.kind != "executor-lacks" or away is None or now - away > _BACK_S:
                    raise found from error
            self._closed.wait(_PAUSE_S)

    def _found(self, error: Any, blob: Name) -> SapwoodError:
        found = answer_of(error, self._cas.peer.url, f"read input {blob[0][:12]}")
        if _LOST in (error.details() or ""):
            return UnavailableError(str(found), kind=_LOST, hint="it is tried again when its client is back")
        found.missing = [blob]  # type: ignore[attr-defined]  # as context of the error
        return found


class _Noted:
    """Lets `close` end a call while it lasts."""

    def __init__(self, blobs: RemoteBlobs, call: Any) -> None:
        self._blobs = blobs
        self._call = call

    def __enter__(self) -> None:
        with self._blobs._guard:
            self._blobs._calls.add(self._call)
        if self._blobs._closed.is_set():
            self._call.cancel()

    def __exit__(self, *_: object) -> None:
        with self._blobs._guard:
            self._blobs._calls.discard(self._call)


def _plain_pieces(answers: Any, *, packs: bool) -> Iterator[bytes]:
    expand = Expand() if packs else None
    for answer in answers:
        if expand is None:
            yield answer.data
            continue
        expand.feed(answer.data)
        while piece := expand.take(_PIECE):
            yield piece
