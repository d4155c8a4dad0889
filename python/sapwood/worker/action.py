"""One action: its inputs mounted, its command run in the sandbox, its outputs sent.

Invariant: an action whose inputs could not all be had as they were read has no result, whatever its command made of
that. When `run` returns nothing of the action runs or is mounted. Not here: leases (`session`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError

from sapwood.build.action import NETWORK, complete_mark
from sapwood.build.sandbox import Ended, Sandbox, run
from sapwood.build.scratch import remove
from sapwood.errors import (
    CorruptError,
    DeniedError,
    InvalidInputError,
    NotFoundError,
    SapwoodError,
    StoppedError,
    UnavailableError,
)
from sapwood.mount.blobs import BlobMount
from sapwood.reapi.cas import Cas, Name, message_of, name_of
from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from sapwood.worker.ahead import Ahead
from sapwood.worker.complete import bring_all
from sapwood.worker.inputs import Directories, RemoteBlobs
from sapwood.worker.outputs import declared, make_room, parts_of, send
from sapwood.worker.pins import Pins

__all__ = ["Done", "Runner"]

# What a command says is told within the result up to so much, and else is a blob.
_INLINE_BYTES = 16 << 10
# What it says beyond that is not kept: one that never ends would fill the disk.
_SAID_BYTES = 64 << 20
_OK, _INVALID, _DEADLINE, _DENIED, _PRECONDITION, _INTERNAL, _UNAVAILABLE, _DATA_LOSS = 0, 3, 4, 7, 9, 13, 14, 15
_EXHAUSTED = 8
_CODES: tuple[tuple[type[SapwoodError], int], ...] = (
    (InvalidInputError, _INVALID),
    (NotFoundError, _PRECONDITION),
    (CorruptError, _DATA_LOSS),
    (DeniedError, _DENIED),
    (StoppedError, _UNAVAILABLE),
    (UnavailableError, _UNAVAILABLE),
)


@dataclass
class Done:
    """What is answered: a code of gRPC and why, or a result; of an action that took too long, both."""

    code: int = _OK
    message: str = ""
    result: Any = None
    missing: list[Name] = field(default_factory=list)
    told: str = ""
    """For the log: how it went."""


class Runner:
    """Runs actions whose blobs are in `cas`, below the directory `work`, each by itself.

    Unless `lazy`, or when it is marked so, an action's inputs are all here before its command starts. It may write
    `disk` bytes.
    """

    def __init__(self, cas: Cas, work: Path, cache_dir: Path, *, network: bool, lazy: bool, disk: int) -> None:
        self._cas = cas
        self._work = work
        self._cache_dir = cache_dir
        self._network = network
        self._lazy = lazy
        self._disk = disk
        self._directories = Directories(cas)

    def run(self, action: Any, cancel: threading.Event) -> Done:
        """Run an action, or the one that a digest names, until `cancel` is set; errors are what is answered."""
        try:
            if isinstance(action, reapi.Digest):
                name = name_of(action)
                action = _decoded(reapi.Action, self._blob(name), "action")
            else:
                name = _name(action.SerializeToString(deterministic=True))
            return self._run(action, self._lazy and not self._is_marked(name), cancel)
        except SapwoodError as error:
            code = next((code for kind, code in _CODES if isinstance(error, kind)), _INTERNAL)
            if error.kind == "executor-full":
                # A scheduler would have it done again by itself if that was no more than away.
                code = _EXHAUSTED
            hint = f"; hint: {error.hint}" if error.hint else ""
            return Done(code, f"{error} ({error.kind}){hint}", missing=list(getattr(error, "missing", [])))
        except Exception as error:  # noqa: BLE001 - a bug of ours is the scheduler's to know, and ends no worker
            return Done(_INTERNAL, f"a bug of sapwood: {type(error).__name__}: {error}")

    def _is_marked(self, action: Name) -> bool:
        """Say whether its client wants its inputs complete before it starts."""
        return not self._cas.missing([_name(complete_mark(action))])

    def _run(self, action: Any, lazy: bool, cancel: threading.Event) -> Done:
        clock = _Clock()
        clock.note("worker_start_timestamp")
        clock.note("input_fetch_start_timestamp")
        command = _decoded(reapi.Command, self._blob(name_of(action.command_digest)), "command")
        # Before anything is fetched for what can never run.
        outputs = declared(command)
        network = self._wants_network(action, command)
        root = name_of(action.input_root_digest)
        message = self._directories.read(root)
        place = Path(tempfile.mkdtemp(dir=self._work))
        try:
            return self._run_at(
                place, action, command, outputs, root, message, cancel, clock, network=network, lazy=lazy
            )
        finally:
            with contextlib.suppress(OSError):
                remove(place)

    def _run_at(
        self,
        place: Path,
        action: Any,
        command: Any,
        outputs: dict[str, list[bytes]],
        root: Name,
        message: bytes,
        cancel: threading.Event,
        clock: _Clock,
        *,
        network: bool,
        lazy: bool,
    ) -> Done:
        tree, changes = place / "root", place / "changes"
        tree.mkdir()
        changes.mkdir()
        blobs = RemoteBlobs(self._cas, self._cache_dir / "tmp")
        # An input that is lost ends the command as the end of its lease does.
        with (
            Pins(self._cache_dir, self._work.parent.name, place.name) as pins,
            BlobMount(root, message, blobs, tree, changes=changes, cache_dir=self._cache_dir, lost=cancel.set) as mount,
            # The core keeps a file as it keeps a directory: by its digest.
            Ahead(blobs, mount.deliver_directory) as ahead,
        ):
            fetched = 0
            if lazy:
                blobs.wanted = ahead.want
                threading.Thread(
                    target=self._bring, args=(root, mount, ahead), daemon=True, name="sapwood-directories"
                ).start()
            else:
                fetched = bring_all(root, self._directories, blobs, mount, tree, pins, cancel)
            try:
                for way in outputs.values():
                    make_room(str(tree), way[:-1])
            except OSError as error:
                raise mount.lost or UnavailableError(
                    f"no room can be made for outputs: {error.strerror}", kind="io"
                ) from error
            clock.note("input_fetch_completed_timestamp")
            # What was waited for until now is no matter of the command.
            before_s = mount.blocked_s
            sandbox = Sandbox(
                tree,
                environment={each.name: each.value for each in command.environment_variables},
                network=network,
                timeout_s=_seconds(action.timeout) if action.HasField("timeout") else None,
                directory=os.fsdecode(b"/".join(parts_of(command.working_directory, "working directory"))),
                blocked_s=lambda: mount.blocked_s - before_s,
                disk=self._disk,
                changes=changes,
            )
            with tempfile.TemporaryFile(dir=place) as said, tempfile.TemporaryFile(dir=place) as errors:
                clock.note("execution_start_timestamp")
                try:
                    ended = run(tuple(command.arguments), sandbox, _into(said), cancel, _into(errors))
                except StoppedError:
                    raise mount.lost or StoppedError("the lease is not ours any more", kind="stopped") from None
                clock.note("execution_completed_timestamp")
                blocked_s = mount.blocked_s - before_s
                _require_all(mount)
                if ended.stopped is not None and not ended.is_late:
                    # The API has no word for it: a command that was killed, and why is the last thing that it says.
                    errors.write(f"sapwood: {ended.stopped}, which is all that this worker gives\n".encode())
                clock.note("output_upload_start_timestamp")
                try:
                    result = send(str(tree), outputs, command, self._cas, cancel)
                except StoppedError:
                    raise mount.lost or StoppedError("the lease is not ours any more", kind="stopped") from None
                except OSError as error:
                    raise mount.lost or UnavailableError(
                        f"what was made cannot be read: {error.strerror}", kind="io"
                    ) from error
                _require_all(mount)
                result.stdout_raw, stdout = self._words(said)
                result.stderr_raw, stderr = self._words(errors)
            if stdout:
                result.stdout_digest.CopyFrom(stdout)
            if stderr:
                result.stderr_digest.CopyFrom(stderr)
            clock.note("output_upload_completed_timestamp")
            return _done(ended, result, clock, blocked_s, mount.stats()["bytes_fetched"] + fetched)

    def _bring(self, root: Name, mount: BlobMount, ahead: Ahead) -> None:
        # Whoever needs one that cannot be had finds out.
        with contextlib.suppress(SapwoodError):
            self._directories.bring(root, mount.deliver_directory, ahead.learn, lambda: mount.is_over)

    def _blob(self, name: Name) -> bytes:
        return self._cas.read_small([name])[name]

    def _wants_network(self, action: Any, command: Any) -> bool:
        platform = action.platform if action.HasField("platform") else command.platform
        wanted = any(each.name == NETWORK and each.value == "true" for each in platform.properties)
        if wanted and not self._network:
            raise InvalidInputError(
                f"the action wants {NETWORK}, and this worker gives none",
                kind="bad-action",
                hint=f"sapwood worker --platform {NETWORK}=true",
            )
        return wanted

    def _words(self, file: BinaryIO) -> tuple[bytes, Any]:
        """Return what was said, or its digest, if it is much."""
        size = file.tell()
        file.seek(0)
        if size <= _INLINE_BYTES:
            return file.read(), None
        name = hashlib.file_digest(file, "sha256").hexdigest(), size  # type: ignore[arg-type]  # a file is one

        def pieces() -> Any:
            file.seek(0)
            return iter(lambda: file.read(1 << 20), b"")

        self._cas.give({name: pieces})
        return b"", message_of(name)


class _Clock:
    """When what began and ended, for the result."""

    def __init__(self) -> None:
        self.metadata = reapi.ExecutedActionMetadata(worker=socket.gethostname())

    def note(self, name: str) -> None:
        getattr(self.metadata, name).FromNanoseconds(time.time_ns())


def _into(file: BinaryIO) -> Callable[[bytes], object]:
    """Return what writes to a file as much as is kept of what a command says."""
    return lambda data: file.write(data[: max(0, _SAID_BYTES - file.tell())])


def _done(ended: Ended, result: Any, clock: _Clock, blocked_s: float, fetched: int) -> Done:
    clock.note("worker_completed_timestamp")
    result.exit_code = ended.code
    result.execution_metadata.CopyFrom(clock.metadata)
    worked = max(0.0, ended.seconds - blocked_s)
    result.execution_metadata.virtual_execution_duration.FromNanoseconds(int(worked * 1e9))
    told = (
        f"exit code {ended.code} after {ended.seconds:.2f} s, {blocked_s:.2f} of them for inputs;"
        f" {fetched:,} bytes fetched"
    )
    if ended.is_late:
        return Done(_DEADLINE, ended.stopped or "", result, told=ended.stopped or "")
    return Done(result=result, told=ended.stopped or told)


def _require_all(mount: BlobMount) -> None:
    if mount.lost is not None:
        raise mount.lost


def _name(data: bytes) -> Name:
    return hashlib.sha256(data).hexdigest(), len(data)


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def _decoded(message: Any, data: bytes, what: str) -> Any:
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise InvalidInputError(f"the {what} cannot be decoded", kind="bad-action") from error
