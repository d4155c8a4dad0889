"""Calls and what is announced: one that reads waits, one that delivers is known by its session.

Invariant: a call that waits says so in its initial metadata, takes no room from calls that work, and ends when nobody
listens any more. Not here: the queue itself (`announced`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress

import grpc

from sapwood.errors import InvalidInputError, SapwoodError
from sapwood.reapi.blobs import Name
from sapwood.serve.announced import Announced
from sapwood.serve.calls import Calls
from sapwood.serve.limits import Limits
from sapwood.serve.session import Session

__all__ = ["SESSION", "WAITS", "Arrivals", "client_of"]

SESSION = "sapwood-session"
"""Metadata of what is delivered: of which session."""
WAITS = "sapwood-waits"
"""Initial metadata of a read that waits."""


class Arrivals:
    """Of one server."""

    def __init__(self, announced: Announced, calls: Calls) -> None:
        self._announced = announced
        self._calls = calls

    def wait(self, names: Sequence[Name], context: grpc.ServicerContext) -> dict[Name, SapwoodError] | None:
        """Wait until what is announced of `names` is present; return what will not come, and why.

        None if there was nothing to wait for.

        Raises:
            UnavailableError: `too-many-readers`.
        """

        @contextmanager
        def waiting() -> Iterator[None]:
            with suppress(ValueError):  # said before: of a tree each level is waited for
                context.send_initial_metadata(((WAITS, "1"),))
            with self._calls.waiting():
                yield

        return self._announced.wait(names, client_of(context), context.add_callback, waiting)

    def require(self, names: Sequence[Name], context: grpc.ServicerContext) -> bool:
        """Wait likewise, for all of them; say whether there was anything to wait for.

        Raises:
            UnavailableError: `announcer-lost`, `too-many-readers`.
        """
        lost = self.wait(names, context)
        for error in (lost or {}).values():
            raise error
        return lost is not None

    @contextmanager
    def stream(self, name: Name, limits: Limits, context: grpc.ServicerContext) -> Iterator[None]:
        """Wait for a blob, and count the stream that reads it while it lasts.

        Many that waited go on at once: they wait for each other, too, where others would be refused.

        Raises:
            UnavailableError: as `require`; `too-many-calls`.
        """
        has_waited = self.require([name], context)
        with ExitStack() as stack:
            with self._calls.waiting() if has_waited else nullcontext():
                stack.enter_context(limits.call(client_of(context), is_patient=has_waited))
            yield

    def session(self, context: grpc.ServicerContext) -> Session | None:
        """Return the session that a call delivers for, if it does."""
        if not self._announced.is_used:
            return None
        for key, value in context.invocation_metadata() or ():
            if key == SESSION and (session := self._announced.find(str(value))):
                session.heard_s = time.monotonic()
                return session
        return None

    def cut_off(self, session: Session | None, error: SapwoodError) -> None:
        """Let no more come of a session, if `error` is that it delivered something else than it announced."""
        if session is not None and error.kind == "blob-mismatch":
            wrong = InvalidInputError(
                f"{error}: it is not what was announced", kind="wrong-delivery", hint="hash what is sent before"
            )
            self._announced.cut(session, wrong)


def client_of(context: grpc.ServicerContext) -> str:
    """Return who calls: by address, for a machine is what can be told apart without names."""
    return str(context.peer()).rpartition(":")[0]
