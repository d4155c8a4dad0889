"""A session with a scheduler by the Bots interface: one lease at a time, kept alive, answered, given back.

Invariant: a lease that the scheduler takes away is ended here, and one that was answered is told of until the
scheduler has heard it. A scheduler that is away is asked again; who has forgotten us gets a new session. Not here: what
a lease is for (`action`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2

from sapwood.reapi.channel import AGAIN, Peer
from sapwood.reapi.protocol import bots_pb2 as bots
from sapwood.reapi.protocol import bots_pb2_grpc as bots_grpc
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.worker.action import Done

__all__ = ["Ending", "Session"]

# The scheduler answers a call of somebody idle when there is work, or before this.
_POLL_S = 60.0
_CALL_S = 20.0
# So often somebody busy says so, and hears whether the lease is still its own.
_BUSY_S = 1.0
_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
# What is cancelled ends soon; what does not is waited for no longer.
_LET_GO_S = 10.0
_UNAVAILABLE = 14


class Ending:
    """Whether the worker is to end: `finishing` what runs, or giving it back."""

    def __init__(self) -> None:
        self.finishing = threading.Event()
        self.giving_back = threading.Event()


class _Work:
    """A lease that is worked at."""

    def __init__(self, lease: Any) -> None:
        self.lease = lease
        self.cancel = threading.Event()
        self.is_answered = False
        self.thread: threading.Thread | None = None


class Session:
    """A thread that works for the scheduler at `peer`; `run` is a `Runner`'s."""

    def __init__(
        self,
        peer: Peer,
        instance: str,
        name: str,
        properties: Mapping[str, str],
        run: Callable[[Any, threading.Event], Done],
        ending: Ending,
        say: Callable[[str], None],
    ) -> None:
        services: Any = bots_grpc  # which tells no types
        self._bots = services.BotsStub(peer.channel)
        self._peer = peer
        self._instance = instance
        self._run = run
        self._ending = ending
        self._say = say
        device = bots.Device(handle=name)
        for key, value in properties.items():
            device.properties.add(key=key, value=value)
        self._bot = bots.BotSession(bot_id=name, status=bots.OK, worker=bots.Worker(devices=[device]))
        self._known: Any = None
        self._work: _Work | None = None
        self._guard = threading.Lock()
        self._call: Any = None
        # Something happened that the scheduler should hear of.
        self._wake = threading.Event()
        self._is_away = False
        self._thread = threading.Thread(target=self._go, daemon=True, name=f"sapwood-{name}")

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def wake(self) -> None:
        """Let it see what `Ending` says now."""
        self._wake.set()
        with self._guard:
            if self._call is not None:
                self._call.cancel()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended; say whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _go(self) -> None:
        failures = 0
        while not (self._ending.finishing.is_set() and self._work is None):
            if self._ending.giving_back.is_set():
                self._give_back()
            self._wake.clear()
            try:
                answer, is_answered = self._ask()
            except grpc.FutureCancelledError:  # woken
                continue
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and self._work is None:
                    continue  # nothing to do
                failures = self._failed(error, failures)
                continue
            if self._is_away:
                self._is_away = False
                self._say(f"{self._peer.url} is back")
            failures = 0
            self._heed(answer, is_answered=is_answered)
            if self._work is not None and not self._work.is_answered:
                self._wake.wait(_BUSY_S)
        self._leave()

    def _ask(self) -> tuple[Any, bool]:
        """Tell the scheduler how things are; return its answer, and whether it has heard what came of the lease."""
        status = bots.BOT_TERMINATING if self._ending.finishing.is_set() else bots.OK
        is_new = self._known is None
        session = bots.BotSession()
        session.CopyFrom(self._bot if is_new else self._known)
        session.status = status
        del session.leases[:]
        work = self._work
        # Asked first: once it is answered the lease stays as it is.
        is_answered = work is not None and work.is_answered
        if work is not None:
            session.leases.append(work.lease)
        # Somebody idle waits for work as long as the scheduler likes.
        is_idle = work is None or is_answered
        timeout_s = _POLL_S if is_idle else _CALL_S
        if is_new:
            beginning = bots.CreateBotSessionRequest(parent=self._instance, bot_session=session)
            call = self._bots.CreateBotSession.future(beginning, timeout=timeout_s)
        else:
            request = bots.UpdateBotSessionRequest(name=session.name, bot_session=session)
            call = self._bots.UpdateBotSession.future(request, timeout=timeout_s)
        with self._guard:
            self._call = call if is_idle else None
            if is_idle and self._wake.is_set():
                call.cancel()
        try:
            return call.result(), is_answered
        finally:
            with self._guard:
                self._call = None

    def _heed(self, answer: Any, *, is_answered: bool) -> None:
        self._known = answer
        work = self._work
        theirs = {lease.id: lease for lease in answer.leases}
        if work is not None:
            told = theirs.pop(work.lease.id, None)
            if is_answered:
                # It is heard: what comes next is another lease, or the same anew.
                self._work = None
                if told is not None and told.state in (bots.PENDING, bots.ACTIVE):
                    theirs[told.id] = told
            elif told is None or told.state == bots.CANCELLED:
                self._let_go("its lease was taken away")
        for lease in theirs.values():
            if self._work is None and lease.state in (bots.PENDING, bots.ACTIVE):
                self._begin(lease)

    def _begin(self, lease: Any) -> None:
        lease.state = bots.ACTIVE
        work = self._work = _Work(lease)
        self._say(f"action of lease {lease.id[:12]} begins")
        work.thread = threading.Thread(target=self._execute, args=(work,), daemon=True, name="sapwood-action")
        work.thread.start()

    def _execute(self, work: _Work) -> None:
        done = self._done(work)
        lease = bots.Lease()
        lease.CopyFrom(work.lease)
        lease.state = bots.COMPLETED
        # Names in it may be none of UTF-8, which no message takes.
        lease.status.code, lease.status.message = done.code, done.message[:4000].encode(errors="replace").decode()
        if done.missing:
            failure = error_details_pb2.PreconditionFailure()
            for name, size in done.missing:
                failure.violations.add(type="MISSING", subject=f"blobs/{name}/{size}")
            detail = any_pb2.Any()
            detail.Pack(failure)
            lease.status.details.append(detail)
        if done.result is not None:
            lease.result.Pack(done.result)
        if not work.cancel.is_set() or done.code:
            self._say(f"action of lease {lease.id[:12]}: {done.told or done.message}")
        work.lease = lease
        work.is_answered = True
        self._wake.set()

    def _done(self, work: _Work) -> Done:
        payload = work.lease.payload
        for action in (reapi.Action(), reapi.Digest()):
            if payload.Is(action.DESCRIPTOR):
                try:
                    payload.Unpack(action)
                except DecodeError:
                    return Done(3, "the action of a lease cannot be decoded (bad-action)")
                return self._run(action, work.cancel)
        return Done(3, f"a lease of {payload.type_url or 'nothing'}: a worker takes actions (bad-action)")

    def _let_go(self, why: str) -> None:
        """End what is worked at, which nobody wants any more."""
        work = self._work
        self._work = None
        if work is None or work.thread is None:
            return
        self._say(f"action of lease {work.lease.id[:12]} is ended: {why}")
        work.cancel.set()
        work.thread.join(_LET_GO_S)

    def _give_back(self) -> None:
        work = self._work
        if work is None or work.is_answered or work.thread is None:
            return
        work.cancel.set()
        work.thread.join(_LET_GO_S)
        # Whatever came of it: somebody else is to do it.
        lease = bots.Lease()
        lease.CopyFrom(work.lease)
        lease.state = bots.COMPLETED
        lease.ClearField("result")
        lease.status.code, lease.status.message = _UNAVAILABLE, "the worker ends, and gives it back"
        work.lease = lease
        work.is_answered = True

    def _failed(self, error: Any, failures: int) -> int:
        """Wait, or begin anew with who knows us no more; return how often it failed in a row."""
        code = error.code()
        if code in AGAIN or code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            if not self._is_away:
                self._is_away = True
                self._say(f"{self._peer.url} does not answer, and is asked again: {error.details() or code.name}")
        else:
            self._say(f"{self._peer.url}: {error.details() or code.name}; a new session begins")
            self._let_go("the scheduler knows nothing of it any more")
            self._known = None
        if self._ending.finishing.is_set() and failures >= len(_PAUSES_S):
            self._let_go("the scheduler does not answer, and the worker ends")
        self._wake.wait(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
        return failures + 1

    def _leave(self) -> None:
        """Say goodbye, if anybody hears it."""
        if self._known is None or self._is_away:
            return
        self._known.status = bots.BOT_TERMINATING
        del self._known.leases[:]
        request = bots.UpdateBotSessionRequest(name=self._known.name, bot_session=self._known)
        try:
            self._bots.UpdateBotSession(request, timeout=2.0)
        except grpc.RpcError:
            return
