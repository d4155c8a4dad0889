"""The far ends of the link: an S3 server (versitygw), a web server (nginx), each a process for the life of a context.

Promise: what `requests` tells is what the server itself wrote into its log, whatever a client says of itself.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Word

BUCKET = "trees"
# What the clients of the S3 server need besides its endpoint.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}


@contextmanager
def s3(work: Path) -> Iterator[int]:
    """Serve the bucket `BUCKET`, which lies below `work`; the value is the port, the log `work/log`."""
    (work / "data" / BUCKET).mkdir(parents=True)
    port = _free_port()
    command: list[Word] = [_versitygw(), "--port", f"127.0.0.1:{port}", "--quiet", "--access-log", work / "log"]
    command += ["--access", CREDENTIALS["AWS_ACCESS_KEY_ID"], "--secret", CREDENTIALS["AWS_SECRET_ACCESS_KEY"]]
    with _running([*command, "posix", work / "data"], port, work / "said"):
        yield port


def requests(work: Path) -> Counter[str]:
    """Return how often the S3 server of that place was asked for what, by the API's names, so far."""
    return Counter(re.findall(r" s3_(\w+) ", (work / "log").read_text(encoding="utf-8")))


@contextmanager
def web(root: Path, work: Path) -> Iterator[int]:
    """Serve the files below `root`, with ranges; the value is the port. `work` is for what nginx writes."""
    work.mkdir(parents=True)
    port = _free_port()
    places = "".join(
        f"{kind}_temp_path {work / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (work / "nginx.conf").write_text(
        f"daemon off; pid {work / 'pid'}; error_log stderr; worker_processes 1; events {{}}"
        f" http {{ access_log off; sendfile on; {places}"
        f" server {{ listen 127.0.0.1:{port}; root {root}; keepalive_requests 1000000; }} }}",
        encoding="utf-8",
    )
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with _running([nginx, "-p", work, "-c", work / "nginx.conf"], port, work / "said"):
        yield port


def _versitygw() -> Path:
    """Return the program, which scripts/install-peers.sh has installed."""
    peers = Path(os.environ.get("SAPWOOD_PEERS") or Path.home() / ".cache" / "sapwood-peers")
    return max(peers.glob("versitygw-*"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[Word], port: int, said: Path) -> Iterator[None]:
    with said.open("wb") as talk:
        # A Ctrl-C is for whoever started it, who then ends it.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=talk, stderr=talk, start_new_session=True)
    try:
        _await(process, port, said)
        yield
    finally:
        process.terminate()
        process.wait()


def _await(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"bench: a server ended: {said.read_text(encoding='utf-8')}") from None
            time.sleep(0.02)
        else:
            return
