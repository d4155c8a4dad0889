"""A machine that is reached by ssh: a real sshd on this one, with keys, a home and a sapwood of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.peers import free_port


@contextmanager
def sshd(home: Path) -> Iterator[tuple[str, Path]]:
    """Yield the URL of a machine whose state lies below `home`, and a folder for PATH whose ssh gets in there."""
    ours, theirs = home / "ours", home / "theirs"
    for folder in (ours, theirs, home / "there"):
        folder.mkdir(parents=True)
    for key in (ours / "key", theirs / "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (home / "there/data/sapwood").mkdir(parents=True)
    # Nobody needs to look after the store of contexts today.
    (home / "there/data/sapwood/contexts.tidied").write_text("today")
    _program(theirs / "sapwood", f'exec {sys.executable} -m sapwood "$@"')
    port, there = free_port(), home / "there"
    environment = {
        "PATH": f"{theirs}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path("python").resolve()), os.environ.get("PYTHONPATH")])),
        "SAPWOOD_CACHE": there / "cache",
        "XDG_DATA_HOME": there / "data",
        "SHLVL": "2",  # so that bash takes no notice of what the user of this machine has in ~/.bashrc
    }
    config = [
        f"ListenAddress 127.0.0.1:{port}", f"HostKey {theirs / 'key'}", f"AuthorizedKeysFile {ours / 'key.pub'}",
        "StrictModes no", "UsePAM no", "PidFile none", "LogLevel ERROR",
        "SetEnv " + " ".join(f"{name}={value}" for name, value in environment.items()),
    ]  # fmt: skip
    (theirs / "config").write_text("\n".join(config) + "\n")
    (ours / "known").write_text(f"machine {(theirs / 'key.pub').read_text()}")
    (ours / "config").write_text(
        # By whatever port, which may be that of a link.
        f"HostKeyAlias machine\nUserKnownHostsFile {ours / 'known'}\nIdentityFile {ours / 'key'}\nIdentitiesOnly yes\n"
        "BatchMode yes\n"
    )
    _program(ours / "ssh", f'exec /usr/bin/ssh -F {ours / "config"} "$@"')
    Path("/run/sshd").mkdir(exist_ok=True)
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", theirs / "config"]) as server:
        try:
            while True:
                assert server.poll() is None
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except ConnectionRefusedError:
                    continue
            yield f"ssh://127.0.0.1:{port}", ours
        finally:
            # Whoever keeps a connection would otherwise keep it beyond our end.
            connections = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            server.terminate()
            for connection in connections:
                with suppress(ProcessLookupError):
                    os.kill(int(connection), signal.SIGTERM)


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
