"""An execution server of the Remote Execution API: asked to run an action, and listened to until it has.

Invariant: an action comes to its result, or to an error that says whether its command failed or the server did; what is
the server's failure is tried again, a bounded number of times. A stream that breaks is taken up where it was; what
nobody wants any more is cancelled. Not here: what an action needs (`supply`), what its result means (`remote`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.longrunning import operations_pb2 as operations
from google.protobuf import any_pb2
from google.rpc import error_details_pb2

from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, StoppedError, UnavailableError
from sapwood.reapi.cas import Name, message_of
from sapwood.reapi.channel import PAUSES_S, Peer, Refused, answer_of, trying
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc

__all__ = ["Engine", "LackingError", "TimedOutError"]

_CALL_S = 60.0
_CANCEL_S = 2.0
# What was just asked for has a name after a round trip, and cannot be cancelled before.
_NAMED_S = 1.0
_STEADY_S = 60.0
"""After a stream of so long, what went wrong before does not count."""
_CANCEL = "/google.longrunning.Operations/CancelOperation"
_MISSING = "MISSING"
_Code = grpc.StatusCode
_Stage = reapi.ExecutionStage
Heard = Callable[["_Stage.Value"], None]


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
        self._end: Any = peer.channel.unary_unary(_CANCEL, lambda message: message.SerializeToString(), lambda _: None)
        self._changed = threading.Condition()
        # What was asked for; no name before the server has said which.
        self._going: dict[int, str] = {}

    def begin(self) -> None:
        """Connect, so that the first call that matters need not wait for it: whatever comes of it, that one tells."""
        request = reapi.GetCapabilitiesRequest(instance_name=self._instance)
        self._capabilities.GetCapabilities.future(request, timeout=_CALL_S)

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
                self._peer.url,
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
            UnavailableError: `executor-unreachable`, `executor-full`: after several tries.
            StoppedError: `stopped`: `cancel` was set.
            SapwoodError: as `answer_of`.
        """
        tries = iter(PAUSES_S)
        name = ""

        def note(found: str) -> None:
            nonlocal name
            name = found

        while True:
            self._require_wanted()
            began = time.monotonic()
            try:
                return self._follow(action, name, note, heard, again=again)
            except (grpc.RpcError, ValueError) as error:
                self._require_wanted()
                if not isinstance(error, grpc.RpcError):
                    raise
                # One that is forgotten is begun anew: the server was, perhaps.
                is_forgotten = bool(name) and error.code() is _Code.NOT_FOUND
                if isinstance(error, Refused):
                    if (lacking := _lacking(error.status)) is not None:
                        raise lacking from error
                    if error.code() is _Code.DEADLINE_EXCEEDED:
                        raise TimedOutError(error.details()) from error
                    name = ""
                elif is_forgotten:
                    name = ""
                before()
                if time.monotonic() - began > _STEADY_S:
                    tries = iter(PAUSES_S)
                found = answer_of(error, self._peer.url, "run an action")
                pause_s = next(tries, None)
                if pause_s is None or not (isinstance(found, UnavailableError) or is_forgotten):
                    raise found from error
            self._cancel.wait(pause_s)

    def stop(self) -> None:
        """Cancel all that runs there, as far as the server can; `cancel` is set."""
        with self._changed:
            self._changed.wait_for(lambda: all(self._going.values()), _NAMED_S)
            names = list(self._going.values())
        calls = [
            self._end.future(operations.CancelOperationRequest(name=name), timeout=_CANCEL_S) for name in names if name
        ]
        for call in calls:
            call.exception()

    def _follow(
        self, action: Name, name: str, note: Callable[[str], None], heard: Heard, *, again: bool
    ) -> tuple[reapi.ActionResult, bool]:
        """Ask once, and listen; a status that is not OK is raised as `Refused`."""
        stream: Iterable[Any]
        own = threading.get_ident()
        with self._changed:
            self._going[own] = name
        if name:
            stream = self._execution.WaitExecution(reapi.WaitExecutionRequest(name=name))
        else:
            stream = self._execution.Execute(
                reapi.ExecuteRequest(
                    instance_name=self._instance,
                    action_digest=message_of(action),
                    skip_cache_lookup=again,
                    inline_stdout=True,
                    inline_stderr=True,
                )
            )
        stage = None
        try:
            for operation in stream:
                with self._changed:
                    self._going[own] = operation.name
                    self._changed.notify_all()
                note(operation.name)
                if operation.done:
                    return _response(operation)
                if (found := _stage(operation.metadata)) != stage:
                    stage = found
                    heard(stage)
        finally:
            with self._changed:
                del self._going[own]
                self._changed.notify_all()
        raise _EndedError

    def _require_wanted(self) -> None:
        if self._cancel.is_set():
            raise StoppedError("stopped", kind="stopped")


def _response(operation: Any) -> tuple[reapi.ActionResult, bool]:
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


def _lacking(status: Any) -> LackingError | None:
    """Return what a status says to be missing; None of one that says something else."""
    if status.code not in (_Code.FAILED_PRECONDITION.value[0], _Code.NOT_FOUND.value[0]):
        return None
    names = []
    failure = error_details_pb2.PreconditionFailure()
    for detail in status.details:
        if detail.Unpack(failure):
            for violation in failure.violations:
                parts = violation.subject.split("/")
                if violation.type == _MISSING and len(parts) >= 3 and parts[-1].isdecimal():
                    names.append((parts[-2], int(parts[-1])))
    return LackingError(names, status.message)
