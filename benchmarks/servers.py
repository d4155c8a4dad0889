"""The far ends of the link: an S3 server (versitygw) and a web server (nginx), each running for the life of a context.

Promise: what `requests` tells is what the server itself wrote into its log, whatever a client says of itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import peers

BUCKET = "trees"
# What the clients of the S3 server need besides its endpoint.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": peers.KEYS[0],
    "AWS_SECRET_ACCESS_KEY": peers.KEYS[1],
    "AWS_REGION": "us-east-1",
}


@contextmanager
def s3(work: Path) -> Iterator[int]:
    """Serve the bucket `BUCKET`, which lies below `work`; the value is the port."""
    (work / "data" / BUCKET).mkdir(parents=True)
    with peers.versitygw(work / "data", access_log=work / "access.log") as url:
        yield _port(url)


def requests(work: Path) -> Counter[str]:
    """Return how often the S3 server of that place was asked for what in the bucket, by the API's names, so far."""
    log = (work / "access.log").read_text(encoding="utf-8")
    return Counter(re.findall(rf"^\S+ {BUCKET} \[.*? s3_(\w+) ", log, re.MULTILINE))


@contextmanager
def web(root: Path, work: Path) -> Iterator[int]:
    """Serve the files below `root`, with ranges; the value is the port. `work` is for what nginx writes."""
    work.mkdir(parents=True)
    with peers.nginx(root, work, access_log=work / "access.log") as url:
        yield _port(url)


def sent(work: Path) -> list[tuple[int, int]]:
    """Return of each request to the web server of that place so far the bytes of the reply, and its connection."""
    lines = (work / "access.log").read_text(encoding="utf-8").splitlines()
    return [(int(size), int(connection)) for _, size, connection in map(str.split, lines)]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
