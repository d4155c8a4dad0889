"""The server: its parts put together, packing beside it, and an end that loses nothing.

Invariant: what was acknowledged is packed before the server ends, or stays in the staging area for the next. Calls that
run when it is asked to end are let end, for a while; new ones are refused.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from sapwood.errors import DeniedError, InvalidInputError, NotFoundError, SapwoodError, UnavailableError
from sapwood.reapi.protocol import deliveries_pb2_grpc
from sapwood.reapi.protocol import remote_execution_pb2_grpc as services
from sapwood.serve.access import Access
from sapwood.serve.actions import Actions, Capabilities
from sapwood.serve.announced import Announced
from sapwood.serve.arrivals import Arrivals
from sapwood.serve.blobs import Blobs
from sapwood.serve.bytestream import ByteStream, add_to
from sapwood.serve.calls import Calls
from sapwood.serve.cas import Cas
from sapwood.serve.cas import add_to as add_cas
from sapwood.serve.deliveries import Deliveries
from sapwood.serve.limits import MESSAGE_BYTES, Limits
from sapwood.serve.packing import Packed
from sapwood.serve.staging import Staging
from sapwood.store.store import Store

__all__ = ["Options", "Server"]

_LOG = logging.getLogger("sapwood.serve")

# A pack of a store has 16 MiB; several are made at a time. What is less waits for more to come.
_PACK_BYTES = 64 << 20
_MUCH_BYTES = 1 << 30
_QUIET_TICKS = 3
_NICE = 10
_PACK_S = 30.0
_TICK_S = 1.0
# How often others' refs are looked at: a small part of any grace, so that what was removed is not promised any more
# when it is deleted.
_LOOK_S = 60.0
_AGAIN_S = 5.0
# More than one client's streams can hold: a client that sends nothing for hours keeps nobody else out.
_AT_WORK = 64
_CALLS = 32
# Who is silent for so long is asked whether it is there, and is gone when it does not answer for as long again.
_ALIVE_MS = 20_000
_DRAIN_S = 30.0


@dataclass(frozen=True)
class Options:
    """How to serve. `certificate` and `key` are paths of PEM files; sizes are bytes."""

    listen: str = "127.0.0.1:8980"
    instance: str = ""
    certificate: str | None = None
    key: str | None = None
    client_ca: str | None = None
    tokens: str | None = None
    keep: int = 1 << 30
    calls: int = _CALLS


class Server:
    """A running server; a context. `port` is where it listens."""

    def __init__(self, store: Store, options: Options, staging: Path) -> None:
        """Take the staging area, read what the store has, and listen.

        Raises:
            InvalidInputError: `bad-listen`, `bad-tokens`, `bad-certificate`; `read-only-store`.
            ConflictError: `staging-taken`.
            UnavailableError: `cannot-listen`; or the store does not answer.
            SapwoodError: what reading the store raises.
        """
        store.require_writable()
        access = Access.read(options.tokens)
        credentials = _credentials(options)
        self._ended = threading.Event()
        self._packing = threading.Lock()
        self._staging = Staging(staging, options.keep)
        try:
            self._make(store, options, access, credentials)
        except BaseException:
            self._staging.close()
            raise
        self._thread = threading.Thread(target=self._pack_always, daemon=True, name="sapwood-packing")

    def _make(self, store: Store, options: Options, access: Access, credentials: grpc.ServerCredentials | None) -> None:
        self._packed = Packed(store, _identity(self._staging.folder))
        self._packed.clear()
        self._packed.load()
        found = self._staging.recover(self._packed.has)
        self._blobs = Blobs(self._staging, self._packed)
        self._announced = Announced(self._blobs)
        self._staging.on_arrival = self._announced.arrived
        calls = Calls(_AT_WORK)
        arrivals = Arrivals(self._announced, calls)
        self._actions = Actions(options.instance, self._blobs, found)
        limits = self._limits = Limits(calls=options.calls, pack_now=self.pack)
        self._grpc = grpc.server(
            calls,  # type: ignore[arg-type] # of whatever kind
            interceptors=[] if access.is_open else [access],
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES + (64 << 10)),
                ("grpc.max_send_message_length", MESSAGE_BYTES + (64 << 10)),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", _ALIVE_MS),
                ("grpc.keepalive_timeout_ms", _ALIVE_MS),
                ("grpc.http2.ping_timeout_ms", _ALIVE_MS),
                # Else one a minute, while nothing is sent.
                ("grpc.http2.max_pings_without_data", 0),
                # Clients may ask likewise.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        add: Any = services  # which, as the other, tells no types
        cas = Cas(options.instance, self._blobs, limits, arrivals)
        add_cas(cas, self._grpc)
        add.add_ActionCacheServicer_to_server(self._actions, self._grpc)
        add.add_CapabilitiesServicer_to_server(Capabilities(options.instance, access.may_update), self._grpc)
        add_to(ByteStream(options.instance, self._blobs, limits, arrivals), self._grpc)
        add = deliveries_pb2_grpc
        deliveries = Deliveries(options.instance, self._blobs, self._announced, calls)
        add.add_DeliveriesServicer_to_server(deliveries, self._grpc)
        self.port = _listen(self._grpc, options.listen, credentials)

    def __enter__(self) -> Self:
        self._grpc.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let calls end, pack what is staged, and give up the staging area."""
        drained = self._grpc.stop(_DRAIN_S)
        self._announced.close()
        drained.wait()
        self._ended.set()
        self._thread.join()
        try:
            self.pack()
        except SapwoodError as error:
            _LOG.error("what was not packed stays in %s: %s", self._staging.folder, error)
        finally:
            self._blobs.close()
            self._staging.close()

    def pack(self) -> None:
        """Pack all that is staged now.

        Raises:
            SapwoodError: as `Packed.pack`; what was staged is there still.
        """
        with self._packing:
            batch = self._staging.rotate()
            if not batch:
                return
            try:
                self._packed.pack(batch)
            except BaseException:
                self._staging.put_back(batch)
                raise
            self._staging.settle(batch)
            self._actions.packed(self._packed.actions)

    def look(self) -> None:
        """Learn what other servers have packed meanwhile, and which refs were removed.

        Raises:
            SapwoodError: as `Packed.load`.
        """
        with self._packing:
            self._packed.load()
        self._announced.look()

    def _pack_always(self) -> None:
        """Pack when there is enough and nobody stores more just then, when there is much, or after a while."""
        # Of this thread alone, and of those that it begins: whoever calls comes first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        since_s = looked_s = time.monotonic()
        before, quiet, pause_s = 0, 0, _TICK_S
        while not self._ended.wait(pause_s):
            pause_s, unpacked = _TICK_S, self._staging.unpacked
            quiet, before = quiet + 1 if unpacked == before else 0, unpacked
            if not unpacked:
                since_s = time.monotonic()
            is_enough = unpacked >= _MUCH_BYTES or (quiet >= _QUIET_TICKS and unpacked >= _PACK_BYTES)
            try:
                if is_enough or (unpacked and time.monotonic() - since_s >= _PACK_S):
                    self.pack()
                    since_s = time.monotonic()
                if time.monotonic() - looked_s >= _LOOK_S:
                    looked_s = time.monotonic()
                    self.look()
            except SapwoodError as error:
                _LOG.error("the store cannot be used now, which will be tried again: %s", error)
                pause_s = _AGAIN_S


def _identity(staging: Path) -> str:
    """Return what names the refs of the server that has this staging area, 8 hex digits; made once."""
    path = staging / "server"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        name = os.urandom(4).hex()
        path.write_text(f"{name}\n")
        return name


def _credentials(options: Options) -> grpc.ServerCredentials | None:
    # An empty word, as of a variable that is not set, asks for TLS, too: to serve without it would let everybody in.
    if options.certificate is None and options.key is None and options.client_ca is None:
        return None
    if not options.certificate or not options.key:
        raise InvalidInputError("TLS needs both", kind="bad-certificate", hint="--tls-cert FILE --tls-key FILE")
    key, certificate = _read(options.key), _read(options.certificate)
    ca = None if options.client_ca is None else _read(options.client_ca)
    try:
        # gRPC itself would only say that it cannot listen.
        checked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        checked.load_cert_chain(options.certificate, options.key)
        if options.client_ca is not None:
            checked.load_verify_locations(options.client_ca)
    except ssl.SSLError as error:
        raise InvalidInputError(
            f"{options.certificate} and {options.key} cannot be used: {error.reason or error}",
            kind="bad-certificate",
            hint="name PEM files that belong together",
        ) from error
    return grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=ca is not None)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{path} is missing", kind="path-missing") from None
    except PermissionError:
        raise DeniedError(f"{path} may not be read", kind="path-denied", hint=f"ls -l {path}") from None


def _listen(server: grpc.Server, where: str, credentials: grpc.ServerCredentials | None) -> int:
    host, colon, port = where.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidInputError(f"--listen {where}: no address", kind="bad-listen", hint="--listen 127.0.0.1:8980")
    try:
        if credentials is None:
            return server.add_insecure_port(where)
        return server.add_secure_port(where, credentials)
    except RuntimeError as error:
        raise UnavailableError(
            f"cannot listen on {where}", kind="cannot-listen", hint="another program may have it: --listen HOST:PORT"
        ) from error
