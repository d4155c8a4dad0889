"""Deliveries: the stream of a client that has announced blobs.

Invariant: each announcement is answered, and a client is told what is wanted of it as soon as it is. How its stream
ends decides: who says that it is done is, one whose stream breaks may come back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

import grpc

from sapwood.errors import InvalidInputError, NotFoundError, SapwoodError
from sapwood.reapi.blobs import Name, bits_of, names_in, packed, walk
from sapwood.reapi.protocol import deliveries_pb2 as deliveries
from sapwood.reapi.protocol.deliveries_pb2_grpc import DeliveriesServicer
from sapwood.serve.announced import Announced
from sapwood.serve.answers import name_of, require_named, streaming
from sapwood.serve.blobs import EMPTY, Blobs
from sapwood.serve.calls import Calls
from sapwood.serve.session import Session

__all__ = ["Deliveries"]

# Blobs of one message: a few hundred KiB.
_AT_A_TIME = 10_000
# So many answers may wait for a client that reads none.
_UNREAD = 64


class Deliveries(DeliveriesServicer):
    """The service, of the instance `instance`."""

    def __init__(self, instance: str, blobs: Blobs, announced: Announced, calls: Calls) -> None:
        self._instance = instance
        self._blobs = blobs
        self._announced = announced
        self._calls = calls

    @streaming
    def Deliver(self, requests: Iterator[deliveries.Announcement], context: grpc.ServicerContext) -> Iterator[Any]:
        with self._calls.waiting():
            first = next(requests, None)
        if first is None:
            raise InvalidInputError("a stream without an announcement", kind="bad-session")
        require_named(self._instance, first.instance_name)
        session = self._announced.enter(first.session)
        told, unread = session.stream, threading.Semaphore(_UNREAD)
        assert told is not None
        context.add_callback(lambda: self._announced.leave(session, told))
        taking = threading.Thread(
            target=self._take, args=(session, told, unread, first, requests), daemon=True, name="sapwood-announcing"
        )
        taking.start()
        try:
            yield deliveries.Order()  # it was let in
            while True:
                with self._calls.waiting():
                    items = [told.get()]
                for _ in range(_AT_A_TIME):
                    try:
                        items.append(told.get_nowait())
                    except Empty:
                        break
                for order in _orders(items):
                    yield order
                    if order.answers:
                        unread.release()
                if items[-1] is None:
                    return
        finally:
            self._announced.leave(session, told)
            unread.release()

    def _take(
        self,
        session: Session,
        told: SimpleQueue[object],
        unread: threading.Semaphore,
        first: deliveries.Announcement,
        requests: Iterator[Any],
    ) -> None:
        """Take announcements until there are no more; none while their answers are not read."""
        request: deliveries.Announcement | None = first
        while request is not None:
            try:
                self._answer(session, told, request)
            except SapwoodError as error:
                self._announced.end(session, told, error)
                return
            if request.done:
                self._announced.end(session, told)
                return
            if request.number:
                unread.acquire()
            try:
                request = next(requests, None)
            except Exception:  # noqa: BLE001 - gRPC says in several ways that a stream has broken
                break
        self._announced.leave(session, told)

    def _answer(self, session: Session, told: SimpleQueue[object], request: deliveries.Announcement) -> None:
        if request.HasField("withdrawn"):
            self._announced.withdraw(session, names_in(request.withdrawn))
        if request.HasField("announced"):
            names = names_in(request.announced)
            trees = [name_of(digest) for digest in request.trees]
            missing = self._announced.announce(session, names, trees)
            told.put(deliveries.Order(answers=request.number, missing=bits_of(names, missing)))
        if request.HasField("examined"):
            told.put(self._examine(request.number, name_of(request.examined)))

    def _examine(self, number: int, root: Name) -> deliveries.Order:
        """Say which files of a tree are missing, if all of its directories are here."""
        try:
            names = list(dict.fromkeys(name for _, there in walk(root, self._read) for name in there.files))
        except NotFoundError:
            return deliveries.Order(answers=number)
        return deliveries.Order(answers=number, missing=bits_of(names, self._blobs.missing(names)))

    def _read(self, name: Name) -> bytes:
        return self._blobs.read(name) if name != EMPTY else b""


def _orders(items: list[object]) -> Iterator[deliveries.Order]:
    """Yield messages of what is to be told, in its order; an error that is told is raised."""
    of_word = dict[str, dict[Name, None]]()
    for item in items:
        if isinstance(item, tuple):
            word, name = item
            for names in of_word.values():
                names.pop(name, None)  # what was said last counts
            of_word.setdefault(word, {})[name] = None
        elif isinstance(item, deliveries.Order):
            yield item
    if any(of_word.values()):
        wanted, unwanted, arrived = (packed(of_word.get(word, ())) for word in ("wanted", "unwanted", "arrived"))
        yield deliveries.Order(wanted=wanted, unwanted=unwanted, arrived=arrived)
    for item in items:
        if isinstance(item, SapwoodError):
            raise item
