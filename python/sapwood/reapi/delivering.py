"""Announcing blobs to a server, and delivering them: what is wanted first, the rest behind it or never.

Promise: when `announce` returns, reads of what was announced wait; when `send` returns, the server has it for good. A
connection that is lost is made again, and all is announced again. To a server that takes no announcements `send` works
likewise. docs/announced.md. Not here: sending (`sending`), who announces (`sapwood.build`).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Self

import grpc

from sapwood.errors import InvalidInputError, NotFoundError, SapwoodError, StoppedError, UnavailableError
from sapwood.reapi.blobs import Name, chosen, names_in, packed, walk
from sapwood.reapi.cas import Cas, message_of
from sapwood.reapi.channel import AGAIN, LOST_S, PAUSES_S, answer_of
from sapwood.reapi.protocol import deliveries_pb2 as deliveries
from sapwood.reapi.protocol import deliveries_pb2_grpc
from sapwood.reapi.sending import Sender, Source

__all__ = ["Delivery", "Progress"]

# Blobs of one message: some 350 KiB.
_AT_A_TIME = 10_000
_END_S = 2.0
_NOBODY_S = 8.0
_EMPTY = 0


@dataclass(frozen=True)
class Progress:
    """Bytes of blobs: the server has of what it lacked, was asked for so far, and were announced in all.

    `wire` is what travelled, compressed.
    """

    sent: int
    needed: int
    total: int
    wire: int


@dataclass
class _Said:
    """Something that was announced, to be said again on a new connection: blobs and trees, or a tree to be examined."""

    names: Sequence[Name]
    trees: Sequence[Name] = ()
    examined: Name | None = None
    told: Sequence[Name] = ()
    """Blobs of `names` that the server was last told of."""
    is_answered: bool = False
    is_counted: bool = False
    """The total has them already."""
    bits: bytes | None = field(default=None, repr=False)


class Delivery:
    """What one client has promised to a server, while the context lasts. Safe to use from several threads.

    `source` begins to read a blob. With `complete` all that is announced is sent, in the end; else what is wanted.
    """

    def __init__(self, cas: Cas, source: Source, *, complete: bool = True) -> None:
        self._cas = cas
        self._source = source
        self._complete = complete
        self._session = secrets.token_hex(16)
        self._changed = threading.Condition()
        self._said: dict[int, _Said] = {}
        # By the numbers that they have on this connection.
        self._asked: dict[int, _Said] = {}
        self._number = 0
        self._requests: SimpleQueue[deliveries.Announcement | None] | None = None
        # Blobs that were announced or are to be sent, and that the server lacks as far as is known.
        self._missing: set[Name] = set()
        self._needed: set[Name] = set()
        self._lost: dict[Name, SapwoodError] = {}
        # One tree after the other, for most of the next is known then.
        self._examiner = ThreadPoolExecutor(1, thread_name_prefix="sapwood-examining")
        self._examining = 0
        self._seen: set[Name] = set()
        self._error: SapwoodError | None = None
        self._sent = self._needs = self._total = 0
        self._takes = self._is_known = self._is_closed = False
        self._call: Any = None

    def __enter__(self) -> Self:
        """Ask the server whether it takes announcements, and wait for nothing."""
        metadata = (("sapwood-session", self._session),)
        self._sender = Sender(self._cas, self._source, metadata, self._present, self._lose, self._fail)
        self._stream = threading.Thread(target=self._listen, daemon=True, name="sapwood-delivering")
        self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def takes_announcements(self) -> bool:
        """Whether the server has a service for that; without it only `send` works.

        Raises:
            SapwoodError: what ended the delivery.
        """
        self._wait_for(lambda: self._is_known)
        return self._takes

    # --- What is announced

    def announce(self, blobs: Iterable[Name], trees: Iterable[Name] = (), *, at_once: Iterable[Name] = ()) -> None:
        """Promise blobs, and all that the Directories of `trees` name; return when the server knows.

        What is little, and surely missing, is sent `at_once`: the server has it then, after the same round trip.

        Raises:
            UnavailableError: `source-changed`: of what is sent at once.
            SapwoodError: what ended the delivery: `error`.
        """
        little = list(dict.fromkeys(at_once))
        with self._changed:
            self._count(little)
        self._sender.want(self._needed_of(little))
        said = self._announce(list(dict.fromkeys(blobs)), list(trees))
        self._wait_for(lambda: all(one.is_answered for one in said))
        self._wait_until_there(little)
        with self._changed:
            for root in said[0].trees:
                if not self._is_closed:
                    self._examining += 1
                    self._examiner.submit(self._examine, root)

    def hasten(self, blobs: Iterable[Name]) -> None:
        """Send these of the announced blobs before others that nobody waits for: somebody will."""
        self._sender.offer(self._needed_of(blobs), soon=True)

    def send(self, blobs: Iterable[Name]) -> None:
        """Send what the server lacks of these, and return when it has all of them.

        Raises:
            UnavailableError: `source-changed`: of one of these.
            SapwoodError: what ended the delivery.
        """
        names = [name for name in dict.fromkeys(blobs) if name[1] != _EMPTY]
        self._require_known(names)
        self._sender.want(self._needed_of(names))
        self._wait_until_there(names)

    def _require_known(self, names: Sequence[Name]) -> None:
        """Return when it is known which of these the server lacks."""
        if self.takes_announcements:
            said = self._announce(names)
            self._wait_for(lambda: all(one.is_answered for one in said))
        else:
            missing = self._cas.missing(names)
            with self._changed:
                self._count(missing)

    def _wait_until_there(self, names: Sequence[Name]) -> None:
        # Looked at in the order in which they come: each once.
        rest = list(reversed(names))

        def are_there() -> bool:
            while rest and rest[-1] not in self._missing:
                rest.pop()
            return not rest or any(name in self._lost for name in (names if self._lost else ()))

        self._wait_for(are_there)
        with self._changed:
            for name in names if self._lost else ():
                if name in self._lost:
                    raise self._lost[name]

    def wait(self) -> None:
        """Return when the server has all that was announced; of use if this is `complete`.

        Raises:
            UnavailableError: `source-changed`.
            SapwoodError: what ended the delivery.
        """
        self._wait_for(lambda: bool(self._lost) or self._is_all_there())
        with self._changed:
            for error in self._lost.values():
                raise error

    def _is_all_there(self) -> bool:
        is_told = not self._asked and (self._requests is not None or not self._said)
        return is_told and not (self._missing or self._examining)

    @property
    def progress(self) -> Progress:
        """How much was sent so far."""
        return Progress(self._sent, self._needs, self._total, self._sender.wire)

    @property
    def error(self) -> SapwoodError | None:
        """What ended the delivery, or a blob that cannot be delivered any more: `source-changed`."""
        return self._error or next(iter(self._lost.values()), None)

    def close(self) -> None:
        """Take back what was not sent."""
        with self._changed:
            self._is_closed = True
            if not self._is_known and self._call is not None:
                self._call.cancel()  # nothing was said
            self._say_done()
            self._changed.notify_all()
        self._examiner.shutdown(wait=False, cancel_futures=True)
        self._sender.close()
        self._stream.join(_END_S)
        if self._stream.is_alive():
            self._call.cancel()
            self._stream.join()

    def _announce(self, names: Sequence[Name], trees: Sequence[Name] = (), *, is_counted: bool = False) -> list[_Said]:
        parts = [names[at : at + _AT_A_TIME] for at in range(0, len(names), _AT_A_TIME)] or [()]
        said = [_Said(part, is_counted=is_counted) for part in parts]
        said[0].trees = trees
        with self._changed:
            for one in said:
                self._say(one)
        return said

    def _wait_for(self, is_so: Any) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._is_closed or is_so())
            if self._error is not None:
                raise self._error
            if self._is_closed:
                raise StoppedError("the delivery was closed", kind="stopped")

    # --- Trees

    def _examine(self, root: Name) -> None:
        """Learn what a tree has that none before it had; if all is to be sent, send its Directories, and then files."""
        elsewhere = set[Name]()

        def read(name: Name) -> bytes:
            try:
                return b"".join(self._source(name))
            except NotFoundError:
                if name == root:
                    raise
                elsewhere.add(name)  # an earlier action made it at the server, with all below it
                return b""

        try:
            is_first = not self._seen
            folders, files = list[Name](), dict[Name, None]()
            for name, there in walk(root, read, self._seen):
                if name not in elsewhere:
                    folders.append(name)
                    files.update(dict.fromkeys(there.files))
                    if self._complete:
                        self._sender.arrange(there.files, there.called)
            with self._changed:
                self._total += sum(name[1] for name in files)
            if self._complete:
                if is_first and not elsewhere:
                    self._complete_tree(root, folders, list(files))
                else:
                    self._announce([*folders, *files], is_counted=True)
        except SapwoodError as error:
            self._lose(root, error)
        finally:
            with self._changed:
                self._examining -= 1
                self._changed.notify_all()

    def _complete_tree(self, root: Name, directories: Sequence[Name], files: Sequence[Name]) -> None:
        self._require_known(directories)
        self.hasten(directories)
        self._wait_until_there(directories)
        said = _Said(files, examined=root, is_counted=True)
        with self._changed:
            self._say(said)
        self._wait_for(lambda: said.is_answered)
        if said.bits is None:  # a Directory has gone
            self._announce(files, is_counted=True)
        else:
            with self._changed:
                there = [name for name in files if name not in self._missing]
            self._sender.drop(there)

    # --- The stream

    def _say(self, one: _Said) -> None:
        """Send an announcement, and remember it for other connections; under the lock."""
        self._number += 1
        self._said[self._number] = one
        if self._requests is not None:
            self._say_now(self._number, one)

    def _say_done(self) -> None:
        if self._requests is not None:
            self._requests.put(deliveries.Announcement(done=True))
            self._requests.put(None)

    def _say_now(self, number: int, one: _Said) -> None:
        assert self._requests is not None
        self._asked[number] = one
        request = deliveries.Announcement(number=number)
        if one.examined is not None:
            one.told = one.names
            request.examined.CopyFrom(message_of(one.examined))
        else:
            # What was there before the connection was lost is there still.
            one.told = [name for name in one.names if not one.is_answered or name in self._missing]
            request.announced.CopyFrom(packed(one.told))
            request.trees.extend(map(message_of, one.trees))
        self._requests.put(request)

    def _listen(self) -> None:
        """Keep a stream to the server, for as long as this lasts."""
        stub: Any = deliveries_pb2_grpc  # which tells no types
        deliver = stub.DeliveriesStub(self._cas.peer.channel).Deliver
        trouble_s: float | None = None
        tries = 0
        while not self._is_over:
            requests = SimpleQueue[deliveries.Announcement | None]()
            requests.put(deliveries.Announcement(instance_name=self._cas.instance, session=self._session))
            error: Any = None
            try:
                with self._changed:
                    if self._is_over:
                        return
                    self._call = deliver(iter(requests.get, None))
                if next(self._call, None) is not None:  # it lets us in
                    self._cas.peer.answered()
                    trouble_s, tries = None, 0
                    self._begin(requests)
                    for order in self._call:
                        self._hear(order)
            except (grpc.RpcError, ValueError) as found:  # ValueError: the channel is closed
                error = found
            finally:
                with self._changed:
                    self._requests = None
                requests.put(None)
            if self._is_over:
                return
            if not isinstance(error, grpc.RpcError | None):
                self._fail(StoppedError("stopped", kind="stopped"))
                return
            code = grpc.StatusCode.UNAVAILABLE if error is None else error.code()
            if code is grpc.StatusCode.UNIMPLEMENTED and not self._is_known:
                self._know(takes=False)
                return
            trouble_s = time.monotonic() if trouble_s is None else trouble_s
            # One that was never there has another address, rather.
            lost_s = LOST_S if self._cas.peer.has_answered else _NOBODY_S
            if code not in AGAIN or time.monotonic() - trouble_s > lost_s:
                self._fail(_refusal(error, self._cas.peer.url))
                return
            if error is not None:
                self._cas.peer.missed(error, tries)
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed, PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1

    @property
    def _is_over(self) -> bool:
        return self._is_closed or self._error is not None

    def _begin(self, requests: SimpleQueue[deliveries.Announcement | None]) -> None:
        self._know(takes=True)
        with self._changed:
            self._requests = requests
            if self._is_over:
                self._say_done()
            self._asked = {}
            for number, one in list(self._said.items()):
                is_over = one.is_answered and not one.trees and self._missing.isdisjoint(one.names)
                if is_over or (one.examined is not None and one.is_answered):
                    del self._said[number]
                else:
                    self._say_now(number, one)

    def _know(self, *, takes: bool) -> None:
        with self._changed:
            self._takes = takes
            self._is_known = True
            self._changed.notify_all()

    def _hear(self, order: deliveries.Order) -> None:
        if order.answers:
            self._answer(order)
        if wanted := names_in(order.wanted):
            with self._changed:
                self._count([name for name in wanted if name not in self._missing], is_new=False)
                self._need(wanted)
            self._sender.want(wanted)
        if unwanted := names_in(order.unwanted):
            self._sender.unwant(unwanted)
        if arrived := names_in(order.arrived):
            self._sender.drop(arrived)
            self._present(arrived)

    def _answer(self, order: deliveries.Order) -> None:
        with self._changed:
            one = self._asked.pop(order.answers, None)
            if one is None:
                return
            one.bits = order.missing if order.HasField("missing") else None
            missing = [name for name in chosen(one.told, one.bits or b"") if name not in self._lost]
            self._count([name for name in missing if name not in self._missing], is_new=not one.is_counted)
            if one.is_answered:
                self._forget(set(one.told).difference(missing))
            one.is_answered = True
            self._changed.notify_all()
        if self._complete:
            self._sender.offer(missing)

    # --- What becomes of blobs; under the lock, but for what the sender tells

    def _count(self, names: Iterable[Name], *, is_new: bool = True) -> None:
        """Know that the server lacks these."""
        for name in names:
            self._missing.add(name)
            if is_new:
                self._total += name[1]

    def _needed_of(self, blobs: Iterable[Name]) -> list[Name]:
        with self._changed:
            missing = [name for name in blobs if name in self._missing]
            self._need(missing)
        return missing

    def _need(self, names: Iterable[Name]) -> None:
        for name in names:
            if name not in self._needed:
                self._needed.add(name)
                self._needs += name[1]

    def _forget(self, names: Iterable[Name]) -> None:
        for name in names:
            if name in self._missing:
                self._missing.discard(name)
                self._sent += name[1]

    def _present(self, names: Iterable[Name]) -> None:
        with self._changed:
            self._forget(names)
            self._changed.notify_all()

    def _lose(self, name: Name, error: SapwoodError) -> None:
        """Take back a blob that cannot be read as what it was."""
        with self._changed:
            self._lost[name] = error
            self._missing.discard(name)
            if self._requests is not None:
                self._requests.put(deliveries.Announcement(withdrawn=packed([name])))
            self._changed.notify_all()

    def _fail(self, error: SapwoodError) -> None:
        with self._changed:
            self._error = self._error or error
            self._say_done()  # others may deliver it
            self._changed.notify_all()


def _refusal(error: grpc.RpcError | None, url: str) -> SapwoodError:
    if error is None:
        said = f"{url}: it ends the call by which blobs are announced before it begins"
        return UnavailableError(said, kind="executor-unreachable", hint="is there a proxy between that ends streams?")
    text = error.details() or ""
    if "(wrong-delivery)" in text:
        return InvalidInputError(f"{url}: {text}", kind="wrong-delivery")
    return answer_of(error, url, "announce blobs")
