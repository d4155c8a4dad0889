"""How much at a time: sizes of messages, calls of one client, bytes that wait to be packed.

Invariant: nobody fills memory or the disk of the staging area by sending faster than packs are made: who would waits,
and is then refused with what to do. All sizes are bytes.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sapwood.errors import UnavailableError
from sapwood.serve.staging import Staging

__all__ = ["BATCH_BYTES", "MESSAGE_BYTES", "Limits"]

# Clients take messages of 4 MiB unless told otherwise; what is in a batch is less by what names it.
MESSAGE_BYTES = 4 << 20
BATCH_BYTES = MESSAGE_BYTES - (128 << 10)

_PATIENCE_S = 20.0


@dataclass
class Limits:
    """`calls` is how many one client may have at a time, `unpacked` how many bytes may wait to be packed."""

    calls: int = 32
    unpacked: int = 4 << 30
    pack_now: Callable[[], None] = lambda: None
    _calls: Counter[str] = field(default_factory=Counter)
    _ended: threading.Condition = field(default_factory=threading.Condition)

    def admit(self, staging: Staging) -> None:
        """Return when there is room for more to be staged.

        Raises:
            UnavailableError: `staging-full`, and it stayed so.
        """
        if staging.unpacked < self.unpacked:
            return
        self.pack_now()
        if not staging.wait_below(self.unpacked, _PATIENCE_S):
            raise UnavailableError(
                f"{staging.unpacked >> 20} MiB wait to be packed into the store, which is slower than what comes",
                kind="staging-full",
                hint="send it again later",
            )

    @contextmanager
    def call(self, client: str, *, is_patient: bool = False) -> Iterator[None]:
        """Count a stream of a client while it lasts; a patient one waits until it may begin.

        Raises:
            UnavailableError: `too-many-calls`.
        """
        with self._ended:
            while is_patient and self._calls[client] >= self.calls:
                self._ended.wait()
            if self._calls[client] >= self.calls:
                raise UnavailableError(
                    f"{client} has {self.calls} streams open, as many as it may", kind="too-many-calls",
                    hint="end one before the next is begun",
                )  # fmt: skip
            self._calls[client] += 1
        try:
            yield
        finally:
            with self._ended:
                self._calls[client] -= 1
                if not self._calls[client]:
                    del self._calls[client]
                self._ended.notify_all()
