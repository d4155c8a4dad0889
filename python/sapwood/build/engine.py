"""An execution server of the Remote Execution API: asked to run an action, and listened to until it has.

Invariant: an action comes to its result, or to an error that says whether its command failed or the server did; what is
the server's failure is tried again, a bounded number of times. A stream that breaks is taken up where it was, and one
that is silent is no proof that nothing happens: the server is asked. What nobody wants any more is cancelled. Not here:
what an action needs (`supply`), what its result means (`remote`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.longrunning import operations_pb2 as operations
from google.protobuf import any_pb2
from google.rpc import error_details_pb2

from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, StoppedError
from sapwood.reapi.cas import Name, message_of
from sapwood.reapi.channel import PAUSES_S, Peer, Refused, Tries, trying
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc

__all__ = ["Engine", "LackingError", "TimedOutError"]

_CALL_S = 60.0
_CANCEL_S = 2.0
# What was just asked for has a name after a round trip, and cannot be cancelled before.
_NAMED_S = 1.0
_STEADY_S = 60.0
"""After a stream of so long, what went wrong before does not count."""
# A server that was started anew, or lost its database, may have missed that an action ended, and never tells.
_SILENT_S = 20.0
_OPERATIONS = "/google.longrunning.Operations/"
_MISSING = "MISSING"
_Code = grpc.StatusCode
_Stage = reapi.ExecutionStage
Heard = Callable[["_Stage.Value | None"], None]
"""Hears the stage that an action is at; None: the server is away."""


class LackingError(Exception):
    """The server says that blobs are missing; `names` are those it names."""

    def __init__(self, names: list[Name], said: str) -> None:
        super().__init__(said)
        self.names = names


class _EndedError(grpc.RpcError):
    """A stream ended before the operation did."""

    def code(self) -> grpc.StatusCode:
        return _Code.UNAVAILABLE

    def details(self) -> str:
        return "it stopped telling of it"


class TimedOutError(Exception):
    """The action took longer than it may."""


@dataclass(eq=False)
class _Going:
    """What was asked for, and is listened to; no name before the server has said which."""

    heard: Heard
    name: str = ""
    heard_s: float = 0.0
    stage: _Stage.Value | None = None
    stream: Any = None
    # What came of it, though the stream has not told.
    told: Any = None

    def hear(self, stage: _Stage.Value) -> None:
        """Know that it is at `stage`."""
        if stage != self.stage:
            self.stage = stage
            self.heard(stage)


class Engine:
    """The execution server at `peer`, in the instance `instance`; `cancel` ends what is going on."""

    def __init__(self, peer: Peer, instance: str, cancel: threading.Event) -> None:
        self._peer = peer
        self._instance = instance
        self._cancel = cancel
        services: Any = reapi_grpc  # which tells no types
        self._execution = services.ExecutionStub(peer.channel)
        self._actions = services.ActionCacheStub(peer.channel)
        self._capabilities = services.CapabilitiesStub(peer.channel)
        self._end: Any = peer.channel.unary_unary(
            f"{_OPERATIONS}CancelOperation", lambda message: message.SerializeToString(), lambda _: None
        )
        self._get: Any = peer.channel.unary_unary(
            f"{_OPERATIONS}GetOperation", lambda message: message.SerializeToString(), operations.Operation.FromString
        )
        self._changed = threading.Condition()
        self._going: set[_Going] = set()

    def begin(self) -> None:
        """Connect, so that the first call that matters need not wait for it: whatever comes of it, that one tells."""
        request = reapi.GetCapabilitiesRequest(instance_name=self._instance)
        call = self._capabilities.GetCapabilities.future(request, timeout=_CALL_S)

        def met(_: Any) -> None:
            if call.code() is _Code.OK:
                self._peer.answered()

        call.add_done_callback(met)

    def known(self, action: Name) -> reapi.ActionResult | None:
        """Return the result that the server's cache has of an action; None also of a server without a cache.

        One that the server says to be damaged is none.

        Raises:
            SapwoodError: as `trying`.
        """
        request = reapi.GetActionResultRequest(
            instance_name=self._instance, action_digest=message_of(action), inline_stdout=True, inline_stderr=True
        )
        try:
            found: reapi.ActionResult = trying(
                lambda: self._actions.GetActionResult(request, timeout=_CALL_S),
                self._peer,
                "look a result up",
                self._cancel,
            )
        except (NotFoundError, InvalidInputError, CorruptError) as error:
            if error.code in (_Code.NOT_FOUND, _Code.UNIMPLEMENTED, _Code.DATA_LOSS):
                return None
            raise
        return found

    def execute(
        self, action: Name, heard: Heard, before: Callable[[], None], *, again: bool = False
    ) -> tuple[reapi.ActionResult, bool]:
        """Return what an action came to, and whether the server knew that; with `again` it is not looked up there.

        `before` a further try is called, and may raise what makes it useless.

        Raises:
            LackingError: blobs that it needs are not there.
            TimedOutError: it took longer than its limit.
            UnavailableError: `executor-unreachable`, `executor-full`: after several tries, or two minutes.
            StoppedError: `stopped`: `cancel` was set.
            SapwoodError: as `answer_of`.
        """
        going = _Going(heard)
        with self._changed:
            self._going.add(going)
        try:
            return self._listen(going, action, before, again=again)
        finally:
            with self._changed:
                self._going.discard(going)
                self._changed.notify_all()

    def _listen(
        self, going: _Going, action: Name, before: Callable[[], None], *, again: bool
    ) -> tuple[reapi.ActionResult, bool]:
        """Ask, and take up what breaks, as `execute` does."""
        tries = Tries(self._peer)
        forgotten = iter(PAUSES_S)
        while True:
            self._require_wanted()
            began = going.heard_s = time.monotonic()
            going.stage = None
            try:
                return _response(going.told or self._follow(going, action, again=again))
            except (grpc.RpcError, ValueError) as error:
                self._require_wanted()
                if not isinstance(error, grpc.RpcError):
                    raise
                if (lacking := _lacking(error)) is not None:
                    raise lacking from error
                is_refused = isinstance(error, Refused)
                if is_refused and error.code() is _Code.DEADLINE_EXCEEDED:
                    raise TimedOutError(error.details()) from error
                before()
                if time.monotonic() - began > _STEADY_S:
                    tries = Tries(self._peer)
                # One that is forgotten is begun anew: the server was, perhaps.
                is_forgotten = bool(going.name) and error.code() is _Code.NOT_FOUND
                pause_s = next(forgotten, None) if is_forgotten else None
                if pause_s is None:
                    pause_s = tries.after(error, "run an action", was_heard=going.stage is not None)
                if is_forgotten or is_refused:
                    going.name, going.told = "", None
                elif going.stage is None:
                    going.heard(None)
            self._cancel.wait(pause_s)

    def look_after(self) -> None:
        """Ask what has become of that of which the server has told nothing for a while; to be called now and then."""
        now = time.monotonic()
        with self._changed:
            silent = [one for one in self._going if one.name and now - one.heard_s > _SILENT_S]
        for one in silent:
            one.heard_s = now
            try:
                call = self._get.future(operations.GetOperationRequest(name=one.name), timeout=_SILENT_S)
            except ValueError:  # it is over
                return
            call.add_done_callback(partial(self._learn, one, one.name))

    def _learn(self, one: _Going, name: str, call: Any) -> None:
        if call.code() is _Code.DEADLINE_EXCEEDED:
            self._peer.silent(_SILENT_S)
        # What a server without this method, or that is away, says is nothing new; nor is what became of an operation
        # that was begun anew meanwhile.
        if call.code() is not _Code.OK:
            return
        self._peer.answered()
        if one.name != name:
            return
        operation = call.result()
        if operation.done:
            one.told = operation
            one.stream.cancel()
        else:
            one.hear(_stage(operation.metadata))

    def stop(self) -> None:
        """Cancel all that runs there, as far as the server can; `cancel` is set."""
        with self._changed:
            self._changed.wait_for(lambda: all(one.name for one in self._going), _NAMED_S)
            names = [one.name for one in self._going]
        calls = [
            self._end.future(operations.CancelOperationRequest(name=name), timeout=_CANCEL_S) for name in names if name
        ]
        for call in calls:
            call.exception()

    def _follow(self, going: _Going, action: Name, *, again: bool) -> Any:
        """Ask once, and listen until the operation is done, which is returned."""
        if going.name:
            going.stream = self._execution.WaitExecution(reapi.WaitExecutionRequest(name=going.name))
        else:
            going.stream = self._execution.Execute(
                reapi.ExecuteRequest(
                    instance_name=self._instance,
                    action_digest=message_of(action),
                    skip_cache_lookup=again,
                    inline_stdout=True,
                    inline_stderr=True,
                )
            )
        try:
            for operation in going.stream:
                self._peer.answered()
                with self._changed:
                    going.name, going.heard_s = operation.name, time.monotonic()
                    self._changed.notify_all()
                if operation.done:
                    return operation
                going.hear(_stage(operation.metadata))
        except grpc.RpcError:
            if going.told is None:
                raise
        if going.told is None:
            raise _EndedError
        return going.told

    def _require_wanted(self) -> None:
        if self._cancel.is_set():
            raise StoppedError("stopped", kind="stopped")


def _response(operation: Any) -> tuple[reapi.ActionResult, bool]:
    """Return what an operation came to; a status that is not OK is raised as `Refused`."""
    if operation.HasField("error"):
        raise Refused(operation.error)
    response = reapi.ExecuteResponse()
    operation.response.Unpack(response)
    if response.status.code:
        raise Refused(response.status)
    return response.result, response.cached_result


def _stage(metadata: any_pb2.Any) -> _Stage.Value:
    told = reapi.ExecuteOperationMetadata()
    return told.stage if metadata.Unpack(told) else _Stage.UNKNOWN


def _lacking(error: Any) -> LackingError | None:
    """Return what an error says to be missing; None of one that says something else."""
    if not isinstance(error, Refused):
        # Of Execute itself: the Action is gone, or the Command.
        return LackingError([], error.details()) if error.code() is _Code.FAILED_PRECONDITION else None
    if error.code() not in (_Code.FAILED_PRECONDITION, _Code.NOT_FOUND):
        return None
    names = []
    failure = error_details_pb2.PreconditionFailure()
    for detail in error.status.details:
        if detail.Unpack(failure):
            for violation in failure.violations:
                parts = violation.subject.split("/")
                if violation.type == _MISSING and len(parts) >= 3 and parts[-1].isdecimal():
                    names.append((parts[-2], int(parts[-1])))
    return LackingError(names, error.details())
