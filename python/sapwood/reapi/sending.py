"""Sending blobs to a CAS: what somebody waits for first, the rest behind it, and little in flight before either.

Invariant: a blob is told to be present when the server has said so; one that is not what its name says is never sent to
its end. What is wanted goes before all that has not left yet. Not here: who wants what (`delivering`), how much a link
carries (`sapwood.mount.pace`), pieces (`pieces`).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from sapwood._core.serve import compress
from sapwood.errors import InternalError, SapwoodError, StoppedError
from sapwood.mount.pace import Asked, Pace
from sapwood.reapi.blobs import Name
from sapwood.reapi.cas import Cas, message_of
from sapwood.reapi.channel import AGAIN, LOST_S, PAUSES_S, Refused, answer_of
from sapwood.reapi.layout import Layout
from sapwood.reapi.pieces import Large, read_whole
from sapwood.reapi.protocol import bytestream_pb2 as bytestream
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc

__all__ = ["Sender", "Source"]

Source = Callable[[Name], Iterable[bytes]]
"""What begins to read a blob, from its first byte."""

_CALL_S = 300.0
# A call ends when the server's disk has what it brought, with others that came meanwhile: that is longer than a round
# trip, and many end at once.
_GAIN = 1.5
_SPAN_S = 1.0
# Who waited for something so lately mostly waits for more soon: it is to stand behind less.
_EAGER_S = 0.5
_SMALL_BYTES = 1 << 20
_BATCHED = 1000
_Code = grpc.StatusCode
_BUSY = (*AGAIN, _Code.RESOURCE_EXHAUSTED)
_OK = 0


@dataclass
class _Call:
    """A call under way: a batch of whole blobs, or a piece of a large one."""

    names: list[Name]
    bytes: int
    asked: Asked
    large: Large | None = None
    answer: Any = None


class Sender:
    """Sends blobs that `source` gives to `cas`, in a thread of its own.

    `present` is told of blobs that the server has, `lost` of one that cannot be sent, and why, and `failed` of what
    ends all sending. They are called by its thread.
    """

    def __init__(
        self,
        cas: Cas,
        source: Source,
        metadata: tuple[tuple[str, str], ...],
        present: Callable[[list[Name]], None],
        lost: Callable[[Name, SapwoodError], None],
        failed: Callable[[SapwoodError], None],
    ) -> None:
        self._cas = cas
        self._source = source
        self._metadata = metadata
        self._present = present
        self._lost = lost
        self._failed = failed
        services: Any = reapi_grpc  # which tells no types
        self._update = services.ContentAddressableStorageStub(cas.peer.channel).BatchUpdateBlobs
        # A piece is one message: as a call of one message and one answer it needs no thread to send it.
        self._write: Any = cas.peer.channel.unary_unary(
            "/google.bytestream.ByteStream/Write",
            bytestream.WriteRequest.SerializeToString,
            bytestream.WriteResponse.FromString,
        )
        self._status: Any = cas.peer.channel.unary_unary(
            "/google.bytestream.ByteStream/QueryWriteStatus",
            bytestream.QueryWriteStatusRequest.SerializeToString,
            bytestream.QueryWriteStatusResponse.FromString,
        )
        self._pace = Pace(gain=_GAIN, span_s=_SPAN_S)
        self._changed = threading.Condition()
        self._wanted: OrderedDict[Name, None] = OrderedDict()
        self._soon: OrderedDict[Name, None] = OrderedDict()
        self._rest: OrderedDict[Name, None] = OrderedDict()
        self._layout = Layout()
        # What is wanted or offered, whether it is queued or on its way.
        self._urgent: set[Name] = set()
        self._offered: set[Name] = set()
        self._going: set[Name] = set()
        self._begun: dict[Name, Large] = {}
        self._calls: set[Any] = set()
        self._ended: deque[_Call] = deque()
        self._in_flight = 0
        self.wire = 0
        """Bytes of content sent, as they travelled."""
        self._tries = 0
        self._trouble_s: float | None = None
        self._not_before_s = 0.0
        self._wanted_s = 0.0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="sapwood-sending")
        self._thread.start()

    # --- What is to be sent

    def want(self, names: Iterable[Name]) -> None:
        """Send these next, behind what is wanted already."""
        with self._changed:
            self._wanted_s = time.monotonic()
            for name in names:
                if name not in self._urgent:
                    self._urgent.add(name)
                    self._soon.pop(name, None)
                    self._rest.pop(name, None)
                    if name not in self._going:
                        self._wanted[name] = None
                    for guessed in self._layout.want(name):
                        self._offer(guessed, soon=True)
            self._changed.notify()

    def offer(self, names: Iterable[Name], *, soon: bool = False) -> None:
        """Send these when nothing is wanted; `soon`: before others that are offered."""
        with self._changed:
            for name in names:
                self._offer(name, soon=soon)
            self._changed.notify()

    def _offer(self, name: Name, *, soon: bool) -> None:
        is_new = name not in self._offered and name not in self._urgent and name not in self._going
        self._offered.add(name)
        if is_new or (soon and name in self._rest):
            self._rest.pop(name, None)
            (self._soon if soon else self._rest)[name] = None

    def arrange(self, files: Sequence[Name], called: Sequence[str]) -> None:
        """Know which files lie in one directory, and what they are called there.

        When one is wanted, others that are called so are offered at once, some the first time, soon all of them. Of
        what is offered already, the others of its directory go first, and then those of the directories that follow.
        """
        with self._changed:
            self._layout.add(files, called)

    def unwant(self, names: Iterable[Name]) -> None:
        """Nobody waits for these any more: what was offered is sent in its turn, else it is not."""
        with self._changed:
            for name in names:
                self._urgent.discard(name)
                if name in self._wanted:
                    del self._wanted[name]
                    if name in self._offered:
                        self._soon[name] = None

    def drop(self, names: Iterable[Name]) -> None:
        """These are not to be sent."""
        with self._changed:
            for name in names:
                self._forget(name)
                self._layout.forget(name)

    def close(self) -> None:
        """Send nothing more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        for answer in list(self._calls):
            answer.cancel()

    def _forget(self, name: Name) -> None:
        self._urgent.discard(name)
        self._offered.discard(name)
        for queue in (self._wanted, self._soon, self._rest):
            queue.pop(name, None)
        self._begun.pop(name, None)

    # --- The thread

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    queue = self._queue()
                    while not (self._is_closed or self._ended or queue):
                        self._changed.wait(self._pause_s())
                        queue = self._queue()
                    if self._is_closed:
                        return
                    ended, self._ended = self._ended, deque()
                    names = self._take(queue) if queue and not ended else []
                for call in ended:
                    self._end(call)
                if names:
                    self._send(names)
        except SapwoodError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            self._failed(InternalError(f"a bug of sapwood: {type(error).__name__}: {error}", kind="bug"))

    def _pause_s(self) -> float | None:
        left_s = self._not_before_s - time.monotonic()
        return left_s if left_s > 0 else None

    def _queue(self) -> OrderedDict[Name, None] | None:
        """Return the queue that is next, if the link has room for what is in it."""
        if time.monotonic() < self._not_before_s:
            return None
        room = self._pace.in_flight
        if self._wanted:
            return self._wanted if self._in_flight < 2 * room else None
        if time.monotonic() - self._wanted_s < _EAGER_S:
            room //= 2
        return (self._soon or self._rest or None) if self._in_flight < room else None

    def _take(self, queue: OrderedDict[Name, None]) -> list[Name]:
        """Take a large blob, or small ones that a message can hold."""
        names, small, room = list[Name](), self._small_bytes, self._cas.offers.batch_bytes
        while queue and len(names) < _BATCHED:
            name = self._first(queue)
            if names and (name[1] > small or name[1] > room):
                break
            del queue[name]
            names.append(name)
            self._going.add(name)
            room -= name[1]
            if name[1] > small:
                break
        return names

    def _first(self, queue: OrderedDict[Name, None]) -> Name:
        near = self._layout.first(queue) if queue is self._rest else None
        return near or next(iter(queue))

    @property
    def _small_bytes(self) -> int:
        return min(self._pace.batch, _SMALL_BYTES, self._cas.offers.batch_bytes // 4)

    def _send(self, names: list[Name]) -> None:
        if len(names) == 1 and (names[0] in self._begun or names[0][1] > self._small_bytes):
            self._send_piece(names[0])
        else:
            self._send_batch(names)

    def _send_batch(self, names: list[Name]) -> None:
        requests, size, sent = [], 0, list[Name]()
        for at, name in enumerate(names):
            if size >= self._pace.batch:
                self._put_back(names[at:])
                break
            try:
                data = read_whole(self._source, name)
            except SapwoodError as error:
                self._lose(name, error)
                continue
            shorter = compress(data) if self._cas.offers.batches_zstd else data
            is_zstd = len(shorter) < len(data)
            requests.append(
                reapi.BatchUpdateBlobsRequest.Request(
                    digest=message_of(name),
                    data=shorter if is_zstd else data,
                    compressor=reapi.Compressor.ZSTD if is_zstd else reapi.Compressor.IDENTITY,
                )
            )
            size += min(len(shorter), len(data))
            sent.append(name)
        if sent:
            request = reapi.BatchUpdateBlobsRequest(instance_name=self._cas.instance, requests=requests)
            self._call(_Call(sent, size, self._pace.begin(size)), self._update, request)

    def _send_piece(self, name: Name) -> None:
        large = self._begun.get(name)
        try:
            if large is not None and large.is_unsure and not self._is_sure(large):
                return
            if large is None or large.is_lost:
                reached = large.reached if large else 0
                large = Large(self._source, name, is_zstd=self._cas.offers.streams_zstd, reached=reached)
                self._begun[name] = large
            data, is_last = large.next(max(self._pace.batch, self._pace.in_flight - self._in_flight))
        except SapwoodError as error:
            self._lose(name, error)
            return
        request = bytestream.WriteRequest(
            resource_name=self._named(large), write_offset=large.offset, data=data, finish_write=is_last
        )
        self._call(_Call([name], len(data), self._pace.begin(len(data)), large), self._write, request)

    def _named(self, large: Large) -> str:
        return f"{self._cas.instance}/{large.resource}" if self._cas.instance else large.resource

    def _is_sure(self, large: Large) -> bool:
        """Ask what has come of a piece whose call failed; say whether there is something left to be sent now."""
        request = bytestream.QueryWriteStatusRequest(resource_name=self._named(large))
        try:
            status = self._status(request, timeout=_CALL_S, metadata=self._metadata)
        except grpc.RpcError as error:
            if error.code() is not _Code.NOT_FOUND:
                self._wait(error, [large.name])
                return False
            large.is_lost = True
            return True
        if status.complete:
            self._done([large.name])
            return False
        large.resume(status.committed_size)
        return True

    def _call(self, call: _Call, method: Any, request: Any) -> None:
        with self._changed:
            self._in_flight += call.bytes
        answer = call.answer = method.future(request, timeout=_CALL_S, metadata=self._metadata)
        self._calls.add(answer)
        answer.add_done_callback(lambda _: self._note(call))

    def _note(self, call: _Call) -> None:
        with self._changed:
            self._ended.append(call)
            self._changed.notify()

    # --- What has ended

    def _end(self, call: _Call) -> None:
        self._calls.discard(call.answer)
        with self._changed:
            self._in_flight -= call.bytes
        try:
            answer = call.answer.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            self._pace.drop(call.asked)
            if call.large is not None:
                call.large.is_unsure = True
            self._wait(error, call.names)
            return
        self._pace.end(call.asked, call.bytes)
        self.wire += call.bytes
        if call.large is None:
            self._end_batch(answer)
        elif call.large.acknowledge(answer.committed_size):
            self._done(call.names)
        else:
            if call.large.has_advanced():
                self._trouble_s, self._tries = None, 0
            self._put_back(call.names)

    def _end_batch(self, answer: reapi.BatchUpdateBlobsResponse) -> None:
        stored, again = list[Name](), list[Name]()
        refused: reapi.BatchUpdateBlobsResponse.Response | None = None
        for one in answer.responses:
            name = (one.digest.hash, one.digest.size_bytes)
            if one.status.code == _OK:
                stored.append(name)
            else:
                again.append(name)
                refused = one
        if stored:
            self._done(stored)
        if refused is not None:
            self._wait(Refused(refused.status), again)

    def _done(self, names: list[Name]) -> None:
        self._trouble_s, self._tries = None, 0
        with self._changed:
            for name in names:
                self._going.discard(name)
                self._forget(name)
                self._layout.forget(name)
        self._present(names)

    def _lose(self, name: Name, error: SapwoodError) -> None:
        with self._changed:
            self._going.discard(name)
            self._forget(name)
        self._lost(name, error)

    def _put_back(self, names: list[Name]) -> None:
        """Queue again what was on its way, in front."""
        with self._changed:
            for name in reversed(names):
                self._going.discard(name)
                queue = self._wanted if name in self._urgent else self._soon if name in self._offered else None
                if queue is None:
                    self._begun.pop(name, None)
                else:
                    queue[name] = None
                    queue.move_to_end(name, last=False)

    def _wait(self, error: Any, names: list[Name]) -> None:
        """Send these again after a while.

        Raises:
            SapwoodError: that has no sense, or was done for long enough.
        """
        if self._is_closed:
            raise StoppedError("stopped", kind="stopped")
        now_s = time.monotonic()
        if self._trouble_s is None:
            self._trouble_s = now_s
        code = error.code() if isinstance(error, grpc.RpcError) else _Code.CANCELLED
        if code not in _BUSY or now_s - self._trouble_s > LOST_S:
            raise answer_of(error, self._cas.peer.url, f"store blob {names[0][0][:12]}") from error
        self._not_before_s = now_s + PAUSES_S[min(self._tries, len(PAUSES_S) - 1)]
        self._tries += 1
        self._put_back(names)
