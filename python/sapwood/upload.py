"""Uploads of a push: several packs at a time, while the next are still being filled.

Promise: a pack is noted on this machine only after the store has it. The first error ends all of them and comes out of
whatever is called next; after `finish` every pack that was given is stored. Not here: how many packs there may be (the
core waits until one is stored and let go of), what is in them.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Self

from sapwood.progress import OnProgress, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from sapwood.digests import PackName
    from sapwood.store.lease import Term
    from sapwood.store.store import Store

__all__ = ["Uploads"]

# With the pack that is being filled and one that is sealed, as many as the core has memory for (`push/send.rs`).
_AT_ONCE = 4

_TICK_S = 0.1

# How long a file that is being written may take to be whole once nobody wants it any more.
_GRACE_S = 1.0


class Uploads:
    """The uploads of one push; a context. Left by an error, or too late for the term, it begins no more.

    It then waits for no server.
    """

    def __init__(self, store: Store, term: Term) -> None:
        self._store = store
        self._term = term
        self._given: queue.SimpleQueue[tuple[PackName, memoryview, bytes] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._guard = threading.Lock()
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self.sent: list[PackName] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._guard:  # whoever still fills packs begins no thread that nobody ends
            self._stopped.set()
            self._close()
        if "://" not in self._store.url:
            deadline = time.monotonic() + _GRACE_S
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def add(self, name: PackName, pack: memoryview, fragment: bytes) -> None:
        """Store a pack, some time; `fragment` names what is in it. Errors are those of the uploads before."""
        self.check()
        with self._guard:
            if self._stopped.is_set():
                return  # whoever stopped it knows why
            self.sent.append(name)
            self._given.put((name, pack, fragment))
            if len(self._threads) < _AT_ONCE:
                # A daemon: after Ctrl-C nobody waits for a request that may take its time.
                thread = threading.Thread(target=self._work, daemon=True, name="sapwood-upload")
                thread.start()
                self._threads.append(thread)

    def check(self) -> None:
        """Raise what ended the uploads, if anything has."""
        if self._error is not None:
            raise self._error
        self._term.check()

    def ticking(self, progress: OnProgress | None) -> Callable[[int, int, int, int], None]:
        """Return the callback for the core, through which the first error ends its work, too."""

        def tick(*numbers: int) -> None:
            self.check()
            if progress is not None:
                progress(Progress(*numbers))

        return tick

    def finish(self) -> None:
        """Wait until all are stored; more may be added then."""
        self._close()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_TICK_S)
                self.check()
        self._threads.clear()
        self.check()

    def _close(self) -> None:
        for _ in self._threads:
            self._given.put(None)

    def _work(self) -> None:
        while (given := self._given.get()) is not None:
            # What is not wanted any more is let go of: the core may be waiting for its memory.
            if not self._stopped.is_set():
                try:
                    self._put(*given)
                except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                    self._error = self._error or error
                    self._stopped.set()
            # The core fills its memory again as soon as nobody holds it.
            del given

    def _put(self, name: PackName, pack: memoryview, fragment: bytes) -> None:
        self._store.put_pack(name, pack)
        self._store.keep_pending(name, fragment)
