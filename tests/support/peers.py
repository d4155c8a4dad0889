"""Servers of others, each in a process of its own: versitygw (S3), azurite (Azure Blob), nginx (HTTP).

Promise: `scripts/install-peers.sh` installs those that no package brings; one that is missing fails the tests, it skips
none. A server ends with the context that started it, and with this process if that is killed.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import http.client
import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSITYGW = "versitygw-1.8.0"
AZURITE = "azurite-3.35.0/node_modules/azurite/dist/src/blob/main.js"

# Asked for now: tests have homes of their own.
_PEERS = Path(os.environ.get("SAPWOOD_PEERS") or Path.home() / ".cache" / "sapwood-peers")

KEYS = ("tester", "a-secret-of-the-tests")
ACCOUNT = "devstoreaccount1"
# The key of every emulator, published by its makers.
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def versitygw_command(data: Path, port: int, keys: tuple[str, str] = KEYS) -> list[str]:
    """Return what serves the directory `data`, whose folders are the buckets, to whoever signs with `keys`."""
    access, secret = keys
    at = f"127.0.0.1:{port}"
    return [
        str(_installed(VERSITYGW)),
        "--access",
        access,
        "--secret",
        secret,
        "--port",
        at,
        "--quiet",
        "posix",
        str(data),
    ]


@contextmanager
def versitygw(
    data: Path, *, port: int = 0, keys: tuple[str, str] = KEYS, access_log: Path | None = None
) -> Iterator[str]:
    """Serve `data`; the value is the server's URL. Each request becomes a line of `access_log`."""
    port = port or free_port()
    command = versitygw_command(data, port, keys)
    # Connections are kept, as those of S3 are.
    command[1:1] = ["--keep-alive", *(["--access-log", str(access_log)] if access_log else [])]
    with _running(command, port, data.with_name(f"{data.name}.log")):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def azurite(work: Path) -> Iterator[str]:
    """Serve an empty account in memory; the value is the URL of its Blob service."""
    port = free_port()
    command = ["node", str(_installed(AZURITE)), "--inMemoryPersistence", "--blobHost", "127.0.0.1"]
    command += ["--blobPort", str(port), "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    with _running(command, port, work / "azurite.log"):
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"


def make_container(server: str, name: str) -> None:
    """Make a container, which obstore cannot; the request is signed as the service asks."""
    date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
    signed = "\n".join(["PUT"] + [""] * 11)
    signed += f"\nx-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(ACCOUNT_KEY), signed.encode(), hashlib.sha256).digest())
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{signature.decode()}",
        "Content-Length": "0",
    }
    request = urllib.request.Request(f"{server}/{name}?restype=container", method="PUT", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.status == 201


@contextmanager
def nginx(root: Path, work: Path, *, access_log: Path | None = None) -> Iterator[str]:
    """Serve the files below `root`; the value is the server's URL.

    `access_log` gets a line a request: its verb, the bytes of the reply, headers too, and the connection's number.
    """
    port = free_port()
    temporary = "\n".join(
        f"{kind}_temp_path {work}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = work / "nginx.conf"
    log = f"{access_log} counted" if access_log else "off"
    configuration.write_text(
        f"""
        daemon off; master_process off; pid {work}/pid; error_log {work}/error.log;
        events {{ worker_connections 256; }}
        http {{
            log_format counted '$request_method $bytes_sent $connection';
            access_log {log}; default_type application/octet-stream; {temporary}
            server {{
                listen 127.0.0.1:{port}; root {root};
                # A folder is nothing to read, and not forbidden.
                location ~ /$ {{ return 404; }}
            }}
        }}
        """
    )
    command = ["nginx", "-p", str(work), "-c", str(configuration), "-e", f"{work}/error.log"]
    with _running(command, port, work / "nginx.log"):
        yield f"http://127.0.0.1:{port}"


_KEPT: list[socket.socket] = []


def free_port() -> int:
    """Return a port that nobody listens at, and that nobody is given who takes any, as long as this process lives.

    A server that says where it listens gets it all the same, again and again, if it may reuse addresses: all do.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    _KEPT.append(kept)
    return int(kept.getsockname()[1])


def _installed(name: str) -> Path:
    found = _PEERS / name
    assert found.exists(), f"{found} is missing: scripts/install-peers.sh"
    return found


@contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.open("wb") as said:
        # It dies with us, however we do.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
    try:
        _await(process, port, log)
        yield
    finally:
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server replies to something."""
    deadline = time.monotonic() + 120
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{log.name}: no server\n{log.read_text(errors='replace')}") from error
            time.sleep(0.02)
        finally:
            connection.close()


@contextmanager
def registry(work: Path, *, logged: bool = False) -> Iterator[str]:
    """Serve an empty OCI registry, Debian's docker-registry, over plain HTTP; the value is its host and port.

    If `logged`, `sent` says what it sent.
    """
    port = free_port()
    configuration = work / "registry.yml"
    configuration.write_text(
        f"""
        version: 0.1
        log: {{level: error, accesslog: {{disabled: {str(not logged).lower()}}}}}
        storage: {{filesystem: {{rootdirectory: "{work}/data"}}, delete: {{enabled: true}}}}
        http: {{addr: "127.0.0.1:{port}"}}
        """
    )
    with _running(["docker-registry", "serve", str(configuration)], port, work / "registry.log"):
        yield f"127.0.0.1:{port}"


def sent(work: Path) -> list[tuple[str, int]]:
    """Return of each reply of the logged registry of that place, in order, the path it was asked for and its bytes."""
    lines = (work / "registry.log").read_text(encoding="utf-8")
    return [(path, int(size)) for path, size in re.findall(r'"GET (\S+) HTTP/1.1" 20\d (\d+) ', lines)]
