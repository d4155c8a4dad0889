"""BuildGrid, a scheduler of the Remote Execution API, on a PostgreSQL of its own; and workers of ours for it.

Promise: what is missing fails the tests, it skips none; a server ends with the context that started it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.support.cli import Sapwood, document_of
from tests.support.peers import free_port
from tests.support.reapiclient import Client

_PEERS = Path(os.environ.get("SAPWOOD_PEERS") or Path.home() / ".cache" / "sapwood-peers")
_BUILDGRID = _PEERS / "buildgrid-0.4.4"
# A worker that is not heard of for so long is lost.
KEEPALIVE_S = 10
_CONFIGURATION = """
server:
  - !channel
    address: 127.0.0.1:{port}
    insecure-mode: true
authorization: {{method: none}}
thread-pool-size: 50
connections:
  - !sql-connection &sql
    connection-string: {connection}
storages:
  - {storage}
caches:
  - !lru-action-cache &ac
    storage: *cas
    max-cached-refs: 10000
    allow-updates: true
    cache-failed-actions: false
schedulers:
  - !sql-scheduler &sched
    sql: *sql
    storage: *cas
    action-cache: *ac
    bot-session-keepalive-timeout: {keepalive}
    property-set: !dynamic-property-set
      match-property-keys: [OSFamily, ISA, sapwood-network]
    assigners:
      - !priority-age-assigner
        count: 1
        # Alone, it need not wait at random, by default up to a second, so that others do not look when it does.
        interval: 0.05
        jitter-factor: 0
instances:
  - name: ''
    services:
      - !action-cache
        cache: *ac
      - !cas
        storage: *cas
      - !bytestream
        storage: *cas
      - !execution
        scheduler: *sched
"""


@dataclass
class Database:
    """PostgreSQL on a socket in the directory `place`, which can be killed and started again."""

    place: str
    becoming: Sequence[str]
    server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with what it had."""
        # It dies with us, however we do, and its own processes with it: set last, as a change of user unsets it.
        serve = [*self.becoming, "setpriv", "--pdeathsig", "KILL", _postgres("postgres"), "-D", f"{self.place}/data"]
        serve += ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.place}", "-c", "fsync=off"]
        with open(f"{self.place}/log", "ab") as log:
            self.server = subprocess.Popen(serve, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _await(self.server, [_postgres("pg_isready"), "-q", "-h", self.place], Path(self.place, "log"))

    def kill(self) -> None:
        """End it at once, without a last checkpoint."""
        assert self.server is not None
        self.server.send_signal(signal.SIGQUIT)
        self.server.wait(60)

    def forget(self) -> None:
        """Lose all actions, operations and sessions."""
        words = [_postgres("psql"), "-q", "-h", self.place, "-U", "bgd", "postgres"]
        words += ["-c", "TRUNCATE jobs, operations, bots, client_identities, request_metadata CASCADE"]
        subprocess.run(words, cwd="/", check=True, capture_output=True)


@dataclass
class BuildGrid:
    """A scheduler at `where`, HOST:PORT, which can be killed and started again, as can its database."""

    where: str
    home: Path
    database: Database
    server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with what it knew before."""
        log = open(self.home / "log", "ab")  # noqa: SIM115 - the server's
        with log:
            # It dies with us, however we do.
            start = ["setpriv", "--pdeathsig", "KILL", *_bgd(), "server", "start", str(self.home / "bgd.yml")]
            self.server = subprocess.Popen(start, stdout=log, stderr=log, env=_environment())
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        # It imports a lot: on a busy machine that takes a minute.
        deadline = time.monotonic() + 150
        with Client(self.where) as client:
            ready = grpc.channel_ready_future(client.channel)
            while True:
                assert self.server is not None
                assert self.server.poll() is None, (self.home / "log").read_text()
                assert time.monotonic() < deadline, (self.home / "log").read_text()
                with contextlib.suppress(grpc.FutureTimeoutError):
                    return ready.result(0.5)

    def kill(self) -> None:
        """Kill it at once."""
        assert self.server is not None
        self.server.kill()
        self.server.wait()


@contextmanager
def buildgrid(cas: str = "") -> Iterator[BuildGrid]:
    """A scheduler, with a CAS of its own, or that at `cas`, HOST:PORT."""
    assert _BUILDGRID.exists(), f"{_BUILDGRID} is missing: scripts/install-engines.sh"
    home = Path(tempfile.mkdtemp(prefix="buildgrid-"))
    try:
        with _postgresql() as database:
            connection = f"postgresql+psycopg2://bgd@/postgres?host={database.place}"
            storage = f"!disk-storage &cas\n    path: {home / 'cas'}"
            if cas:
                storage = f"!remote-storage &cas\n    url: http://{cas}\n    instance-name: ''"
            port = free_port()
            (home / "bgd.yml").write_text(
                _CONFIGURATION.format(port=port, connection=connection, storage=storage, keepalive=KEEPALIVE_S)
            )
            subprocess.run(
                [*_bgd(), "migrate", "apply", connection], check=True, capture_output=True, env=_environment()
            )
            grid = BuildGrid(f"127.0.0.1:{port}", home, database)
            grid.start()
            try:
                yield grid
            finally:
                grid.kill()
    finally:
        shutil.rmtree(home)


@contextmanager
def worker(run: Sapwood, scheduler: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`sapwood worker` for a scheduler; it must end well when it is asked to, unless it was killed."""
    command = run.command("worker", "--json", "--scheduler", f"grpc://{scheduler}", *words)
    environment = {**run.environment, "SAPWOOD_CHANGES": str(run.home / "changes")}
    with subprocess.Popen(command, cwd=run.home, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            document_of(process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code in (0, -signal.SIGKILL)


@contextmanager
def _postgresql() -> Iterator[Database]:
    # It refuses to run as root.
    becoming: Sequence[str] = ()
    if os.getuid() == 0:
        becoming = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups")
    place = tempfile.mkdtemp(prefix="pg-")
    if becoming:
        shutil.chown(place, "postgres")
    try:
        initdb = [*becoming, _postgres("initdb"), "-D", f"{place}/data", "-A", "trust", "-U", "bgd"]
        initdb += ["--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(initdb, cwd="/", check=True, stdout=subprocess.DEVNULL)
        database = Database(place, becoming)
        try:
            database.start()
            yield database
        finally:
            database.kill()
    finally:
        shutil.rmtree(place)


def _await(server: subprocess.Popen[bytes], asking: Sequence[str], log: Path) -> None:
    """Wait until the server is ready, which `asking` tells by its code."""
    deadline = time.monotonic() + 150
    while subprocess.run(asking, cwd="/", check=False).returncode != 0:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _postgres(program: str) -> str:
    [*_, programs] = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return str(programs / program)


def _bgd() -> list[str]:
    return [sys.executable, str(_BUILDGRID / "bin" / "bgd")]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_BUILDGRID)}
