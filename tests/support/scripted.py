"""An execution server that does what a test tells it to: well, badly, or not at all. Blobs are at `sapwood serve`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2 as operations
from google.rpc import error_details_pb2

from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc
from sapwood.serve.server import Options, Server
from sapwood.store import open_store
from tests.support.reapiclient import Client, digest_of

_Code = grpc.StatusCode
Step = Callable[[Any], Iterator[Any]]


class Scripted(reapi_grpc.ExecutionServicer, reapi_grpc.ActionCacheServicer):
    """Each call of Execute or WaitExecution takes the next of `steps`; the last is taken again and again."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.calls: list[str] = []
        self.known: dict[str, reapi.ActionResult] = {}
        self.cancelled: list[str] = []
        # What has become of operations, for who asks.
        self.operations: dict[str, Any] = {}
        self.is_asked = threading.Event()
        self.is_cancelled = threading.Event()
        # Where it is, and its CAS.
        self.url = self.cas = ""
        self.blobs: Client
        # What was to be executed last.
        self.asked: Any = None
        self._guard = threading.Lock()

    def GetActionResult(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.action_digest.hash not in self.known:
            context.abort(_Code.NOT_FOUND, "never heard of it")
        return self.known[request.action_digest.hash]

    def Execute(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.asked = request.action_digest
        self.calls.append("execute again" if request.skip_cache_lookup else "execute")
        yield from self._next()(context)

    def WaitExecution(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.calls.append(f"wait {request.name}")
        yield from self._next()(context)

    def _next(self) -> Step:
        self.is_asked.set()
        with self._guard:
            return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]

    def cancel(self, request: Any, _: Any) -> Any:
        self.cancelled.append(request.name)
        self.is_cancelled.set()
        return operations.DeleteOperationRequest()  # as empty as it should be

    def get(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.name not in self.operations:
            context.abort(_Code.NOT_FOUND, "never heard of it")
        return self.operations[request.name]

    def look_through(self) -> None:
        """Read the Directories of what is to be executed."""
        action = reapi.Action.FromString(self.blobs.read_digest(self.asked))
        for _ in self.blobs.cas.GetTree(reapi.GetTreeRequest(root_digest=action.input_root_digest)):
            pass

    # Steps

    def makes(self, files: dict[str, bytes], **more: Any) -> Step:
        """Store files, and answer with a result that has them, and `more`."""
        self.blobs.put(*files.values())
        result = reapi.ActionResult(**more)
        for path, data in files.items():
            result.output_files.add(path=path, digest=digest_of(data))
        return self.answers(reapi.ExecuteResponse(result=result))

    def answers(self, response: Any) -> Step:
        def step(_: Any) -> Iterator[Any]:
            yield operation(reapi.ExecutionStage.QUEUED)
            yield operation(reapi.ExecutionStage.EXECUTING)
            done = operation(reapi.ExecutionStage.COMPLETED)
            done.done = True
            done.response.Pack(response)
            yield done

        return step

    def fails(self, code: grpc.StatusCode, *missing: str) -> Step:
        """Answer with a status, which says what is `missing`."""
        response = reapi.ExecuteResponse()
        response.status.code, response.status.message = code.value[0], f"it is {code.name}"
        if missing:
            failure = error_details_pb2.PreconditionFailure()
            for name in missing:
                failure.violations.add(type="MISSING", subject=f"blobs/{name}")
            response.status.details.add().Pack(failure)
        return self.answers(response)

    def refuses(self, code: grpc.StatusCode) -> Step:
        """End the call with a status."""

        def step(context: Any) -> Iterator[Any]:
            context.abort(code, f"the call is {code.name}")
            yield

        return step

    def breaks(self, code: grpc.StatusCode = _Code.UNAVAILABLE) -> Step:
        """Begin, and then end the call with a status."""

        def step(context: Any) -> Iterator[Any]:
            yield operation(reapi.ExecutionStage.EXECUTING)
            context.abort(code, "gone")

        return step

    def forgets_to_tell(self, step: Step) -> Step:
        """Begin, and never tell what comes of it; who asks is told the last of `step`."""

        def quiet(context: Any) -> Iterator[Any]:
            [*_, self.operations["operations/one"]] = step(context)
            yield from self.hangs()(context)

        return quiet

    def hangs(self) -> Step:
        """Begin, and go on until it is cancelled."""

        def step(_: Any) -> Iterator[Any]:
            yield operation(reapi.ExecutionStage.EXECUTING)
            self.is_cancelled.wait(60)

        return step


def operation(stage: Any) -> Any:
    """Return what is told of an operation at a stage."""
    told = operations.Operation(name="operations/one")
    told.metadata.Pack(reapi.ExecuteOperationMetadata(stage=stage))
    return told


@contextmanager
def scripted(home: Path) -> Iterator[Scripted]:
    """Serve, with a CAS that is kept below `home`."""
    here: Any = Scripted()
    server: Any = grpc.server(futures.ThreadPoolExecutor(8))
    services: Any = reapi_grpc
    services.add_ExecutionServicer_to_server(here, server)
    services.add_ActionCacheServicer_to_server(here, server)
    cancel = grpc.unary_unary_rpc_method_handler(
        here.cancel,
        request_deserializer=operations.CancelOperationRequest.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    get = grpc.unary_unary_rpc_method_handler(
        here.get,
        request_deserializer=operations.GetOperationRequest.FromString,
        response_serializer=operations.Operation.SerializeToString,
    )
    methods = {"CancelOperation": cancel, "GetOperation": get}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("google.longrunning.Operations", methods)])
    here.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    store = open_store(str(home / "cas"), create=True)
    with Server(store, Options(listen="127.0.0.1:0"), home / "staging") as cas:
        here.cas = f"grpc://127.0.0.1:{cas.port}"
        with Client(f"127.0.0.1:{cas.port}") as here.blobs:
            server.start()
            try:
                yield here
            finally:
                here.is_cancelled.set()
                server.stop(None).wait()
