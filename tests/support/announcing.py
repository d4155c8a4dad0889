"""A client that announces blobs, and says and does exactly what it is told to."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from sapwood.reapi.blobs import Name, chosen, names_in, packed
from sapwood.reapi.protocol import deliveries_pb2 as deliveries
from sapwood.reapi.protocol import deliveries_pb2_grpc
from tests.support.reapiclient import Client, digest_of


def name_of(blob: bytes) -> Name:
    """Return the name of `blob`."""
    return hashlib.sha256(blob).hexdigest(), len(blob)


class Announcer:
    """One stream. What the server says is in `next`, message by message."""

    def __init__(self, client: Client, session: str | None = None) -> None:
        self.session = session or secrets.token_hex(16)
        self.client = client
        self._requests: SimpleQueue[deliveries.Announcement | None] = SimpleQueue()
        self._told: dict[str, list[Name]] = {"wanted": [], "unwanted": [], "arrived": []}
        stub: Any = deliveries_pb2_grpc
        self.call = stub.DeliveriesStub(client.channel).Deliver(
            iter(self._requests.get, None), metadata=client.metadata
        )
        self.say(instance_name=client.instance, session=self.session)

    def say(self, **fields: Any) -> None:
        """Send a message."""
        self._requests.put(deliveries.Announcement(**fields))

    def next(self) -> deliveries.Order:
        """Return the next message of the server that says anything."""
        while True:
            order: deliveries.Order = next(self.call)
            if order.ByteSize():
                return order

    def announce(self, *blobs: bytes, trees: Sequence[bytes] = ()) -> list[bytes]:
        """Announce blobs, and return which are missing."""
        self.say(number=1, announced=packed(map(name_of, blobs)), trees=map(digest_of, trees))
        order = self.next()
        assert order.answers == 1
        missing = set(chosen([name_of(blob) for blob in blobs], order.missing))
        return [blob for blob in blobs if name_of(blob) in missing]

    def told(self, word: str) -> list[Name]:
        """Return the next blobs that are `wanted`, say; what else is said meanwhile is kept."""
        while not self._told[word]:
            order = self.next()
            for kind in self._told:
                self._told[kind] += names_in(getattr(order, kind))
        names, self._told[word] = self._told[word], []
        return names

    def deliver(self, *blobs: bytes) -> None:
        """Deliver blobs, in a batch of this session."""
        request = self.client.update_request(blobs)
        self.client.cas.BatchUpdateBlobs(request, metadata=[*self.client.metadata, ("sapwood-session", self.session)])

    def end(self) -> None:
        """Announce no more."""
        self.say(done=True)
        self._requests.put(None)

    def rest(self) -> Iterator[deliveries.Order]:
        """Yield what the server still says."""
        yield from self.call
