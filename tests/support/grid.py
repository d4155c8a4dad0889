"""A scheduler, the CAS that it shares with its workers, and who asks it for actions."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc

from sapwood.errors import UnavailableError
from sapwood.reapi.cas import Cas
from sapwood.reapi.channel import connect
from sapwood.reapi.delivering import Delivery
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.reapi.protocol import remote_execution_pb2_grpc as reapi_grpc
from tests.support.buildgrid import BuildGrid, worker
from tests.support.cli import Sapwood, document_of
from tests.support.reapiclient import Client, digest_of

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@dataclass
class Served:
    """`sapwood serve` at `where`, HOST:PORT, of the default store of `home`; it can be killed and started again."""

    where: str
    home: Sapwood
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, with what it had."""
        words = self.home.command("serve", "--json", "--listen", self.where, "--staging", "staging")
        self.process = subprocess.Popen(
            words, cwd=self.home.home, env=self.home.environment, stdout=subprocess.PIPE, text=True
        )
        document_of(self.process)

    def kill(self) -> None:
        """Kill it at once."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def end(self) -> None:
        """Ask it to end, which it must do well."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self._reap() == 0

    def _reap(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        code, self.process = self.process.wait(60), None
        return code


@dataclass
class Grid:
    """A scheduler, and the CAS that it shares with its workers."""

    scheduler: BuildGrid
    served: Served

    @property
    def cas(self) -> str:
        return self.served.where

    def mend(self) -> None:
        """Start whatever was killed."""
        if self.served.process is None:
            self.served.start()
        for part in (self.scheduler.database, self.scheduler):
            if part.server is None or part.server.poll() is not None:
                part.start()


class Asking:
    """A client of a grid: stores inputs, and asks for actions."""

    def __init__(self, grid: Grid) -> None:
        self.cas = Client(grid.cas)
        self.scheduler = Client(grid.scheduler.where)
        services: Any = reapi_grpc
        self.execution = services.ExecutionStub(self.scheduler.channel)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self.cas.channel.close()
        self.scheduler.channel.close()

    def action(self, line: str, root: reapi.Digest, *outputs: str, timeout_s: int = 0, **more: Any) -> reapi.Digest:
        command = reapi.Command(
            arguments=["/bin/sh", "-euc", line],
            environment_variables=[
                reapi.Command.EnvironmentVariable(name=name, value=value) for name, value in ENVIRONMENT.items()
            ],
            **{"output_paths": outputs, **more},
        ).SerializeToString()
        action = reapi.Action(command_digest=digest_of(command), input_root_digest=root)
        if timeout_s:
            action.timeout.seconds = timeout_s
        message = action.SerializeToString()
        self.cas.put(command, message)
        return digest_of(message)

    def read(self, digest: reapi.Digest) -> bytes:
        return self.cas.read_named(self.cas.name(f"blobs/{digest.hash}/{digest.size_bytes}"))

    def cancel(self, name: str) -> None:
        operations_pb2_grpc.OperationsStub(self.scheduler.channel).CancelOperation(
            operations_pb2.CancelOperationRequest(name=name)
        )

    def knows(self, action: reapi.Digest) -> bool:
        """Whether a result of the action is kept."""
        try:
            self.scheduler.actions.GetActionResult(reapi.GetActionResultRequest(action_digest=action))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return False
        return True

    def execute(self, action: reapi.Digest) -> Any:
        """Return the answer, however long it takes, also of a scheduler that goes away and comes back."""
        while True:
            try:
                return self._execute(action)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                self.scheduler.wait_until_ready()

    def _execute(self, action: reapi.Digest) -> Any:
        for operation in self.execution.Execute(reapi.ExecuteRequest(action_digest=action), timeout=100):
            if operation.done:
                assert not operation.HasField("error"), operation.error
                answer = reapi.ExecuteResponse()
                assert operation.response.Unpack(answer)
                return answer
        raise AssertionError("the stream ended before the action did")


@contextmanager
def working(run: Sapwood, grid: Grid, *words: str) -> Iterator[subprocess.Popen[str]]:
    with worker(run, grid.scheduler.where, "--cas", f"grpc://{grid.cas}", *words) as process:
        yield process


class Source:
    """Blobs that a client has, each sent when it is let go."""

    def __init__(self) -> None:
        self._blobs: dict[tuple[str, int], tuple[bytes, threading.Event]] = {}
        self.opened: list[bytes] = []
        self.is_gone = False

    def add(self, data: bytes, *, held: bool = False) -> threading.Event:
        """Have a blob, and return what lets it go."""
        let_go = threading.Event()
        if not held:
            let_go.set()
        digest = digest_of(data)
        self._blobs[digest.hash, digest.size_bytes] = data, let_go
        return let_go

    @property
    def names(self) -> list[tuple[str, int]]:
        return list(self._blobs)

    def __call__(self, name: tuple[str, int]) -> list[bytes]:
        data, let_go = self._blobs[name]
        self.opened.append(data)
        assert let_go.wait(100)
        if self.is_gone:
            raise UnavailableError("it is not what it was", kind="source-changed")
        return [data]


@contextmanager
def announcing(grid: Grid, source: Source) -> Iterator[Delivery]:
    """Promise what `source` has, and send what is wanted of it."""
    peer = connect(f"grpc://{grid.cas}")
    with Delivery(Cas(peer, "", threading.Event()), source, complete=False) as delivery:
        delivery.announce(source.names)
        yield delivery
    peer.close()


def root_of(asking: Asking, **files: bytes) -> reapi.Digest:
    """Store the directory of files, none of which is stored."""
    nodes = [reapi.FileNode(name=name, digest=digest_of(data)) for name, data in sorted(files.items())]
    message = reapi.Directory(files=nodes).SerializeToString()
    asking.cas.put(message)
    return digest_of(message)


def fresh(word: str) -> bytes:
    """Return bytes that nobody has."""
    return f"{word} {uuid.uuid4()}\n".encode()


def processes_of(word: str) -> list[int]:
    """Return who has `word` in its command line."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                command = Path("/proc", entry, "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in command and int(entry) != os.getpid():
                found.append(int(entry))
    return found


def end(word: str) -> None:
    """Ask who has `word` in its command line to end, who may have ended already."""
    for process in processes_of(word):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)


def until(is_so: Any) -> None:
    """Look again and again until it is so; the test's own limit ends it."""
    while not is_so():
        time.sleep(0.05)
