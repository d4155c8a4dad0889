"""Execution servers of others, each in a process of its own, which `sapwood build --executor` builds on.

Promise: what is missing fails the tests, it skips none; a server ends with the context that started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.engines import BUILDBOX
from tests.support.peers import free_port
from tests.support.reapiclient import Client

_TOOLS = ("/usr", "/bin", "/lib", "/lib64")


@contextmanager
def casd(home: Path) -> Iterator[str]:
    """buildbox-casd, which is CAS, ActionCache and execution server in one; the value is its URL.

    The input root is all that its commands see, besides the programs of this machine.
    """
    port = free_port()
    words: list[str | Path] = [
        BUILDBOX / "buildbox-casd", f"--bind=127.0.0.1:{port}", f"--buildbox-run={BUILDBOX / 'buildbox-run'}",
        *(f"--runner-arg=--bind-mount={path}:{path}" for path in _TOOLS), "--quota-high=1G", home / "casd",
    ]  # fmt: skip
    environment = {**os.environ, "PATH": f"{BUILDBOX}:{os.environ['PATH']}"}
    with (
        open(home / "casd.log", "wb") as log,
        subprocess.Popen(words, stdout=log, stderr=log, env=environment) as server,
    ):
        try:
            with Client(f"127.0.0.1:{port}") as client:
                client.wait_until_ready()
            yield f"grpc://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


@contextmanager
def casd_proxy(where: str, home: Path) -> Iterator[Client]:
    """A client of buildbox-casd, which keeps what is here itself and passes on what it is given, in chunks."""
    port = free_port()
    words: list[str | Path] = [
        BUILDBOX / "buildbox-casd", f"--bind=127.0.0.1:{port}", f"--cas-remote=http://{where}",
        f"--ac-remote=http://{where}", "--proxy-instance=p:", "--enable-chunking-for-instance=p",
        "--quota-high=1G", home / "casd",
    ]  # fmt: skip
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as casd:
        try:
            with Client(f"127.0.0.1:{port}", instance="p") as client:
                client.wait_until_ready()
                yield client
        finally:
            casd.send_signal(signal.SIGTERM)
            casd.wait(60)
