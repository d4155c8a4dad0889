"""What a worker fetches before a command reads it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from sapwood.reapi.cas import Name
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.worker.ahead import Ahead
from tests.support.reapiclient import digest_of


class Storage:
    """A CAS that has what is in `there`."""

    def __init__(self) -> None:
        self.there: dict[Name, bytes] = {}

    def present(self, blobs: Sequence[Name]) -> list[Name]:
        return [blob for blob in blobs if blob in self.there]

    def read_many(self, blobs: Sequence[Name]) -> dict[Name, bytes]:
        return {blob: self.there[blob] for blob in blobs}


def name_of(data: bytes) -> Name:
    digest = digest_of(data)
    return digest.hash, digest.size_bytes


def test_files_called_like_one_that_is_read_come_before_they_are_if_they_are_there() -> None:
    storage, kept, last = Storage(), list[bytes](), threading.Event()

    def keep(data: bytes) -> None:
        kept.append(data)
        if data == b"Makefile of 11":
            last.set()

    with Ahead(storage, keep) as ahead:
        for at in range(12):
            files = {name: f"{name} of {at}".encode() for name in ("Makefile", f"{at}.c")}
            storage.there.update({name_of(data): data for data in files.values() if at != 2})
            message = reapi.Directory(
                files=[reapi.FileNode(name=name, digest=digest_of(data)) for name, data in sorted(files.items())]
            ).SerializeToString()
            ahead.learn(name_of(message), message)
        ahead.learn(name_of(b"\xff none"), b"\xff none")
        ahead.want(name_of(b"Makefile of 0"))
        ahead.want(name_of(b"0.c of 0"))
        ahead.want(name_of(b"Makefile of 5"))
        assert last.wait(60)
        assert sorted(kept) == sorted(f"Makefile of {at}".encode() for at in (1, 3, 4, 6, 7, 8, 9, 10, 11))
        # What came late is looked for again when something else is read.
        late = b"Makefile of 2"
        storage.there[name_of(late)] = late
        ahead.want(name_of(b"0.c of 0"))
        while late not in kept:
            pass
    assert len(kept) == len(set(kept)) == 10
