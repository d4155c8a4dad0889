"""How soon a tree in an S3 server far away can be used, and what crosses the link until then.

Promise: each run begins with an empty cache, and ends when the root was listed and one file, deep in the tree, was read
and found right. What crosses is counted at that moment, what is fetched ahead of any reader included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import servers
from benchmarks.link import linked
from benchmarks.measure import Case, Figure, Times, at_most, shown
from benchmarks.sapwood import SAPWOOD, clear, place, with_cache

RTT_MS, MBIT = 20, 100


def figures(tree: Path, file: str, rounds: int, *, bound_ms: int, bound_bytes: int) -> list[Figure]:
    """Push `tree`, mount it from afar `rounds` times, and return what it took until `file` below it was read."""
    cache, work, mounted = map(place, ("cache", "s3", "mounted"))
    mounted.mkdir()
    address = f"s3://{servers.BUCKET}/sapwood#main"
    expected = (tree / file).read_bytes()
    try:
        with servers.s3(work) as port:
            near = {**servers.CREDENTIALS, **with_cache(cache), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
            Case("push", [SAPWOOD, "push", tree, address], environment=near).run()
            clear(cache)
            with linked(port, rtt_ms=RTT_MS, mbit=MBIT) as link:
                far = {**os.environ, **near, "AWS_ENDPOINT_URL": link.url}
                seconds, crossed = list[float](), list[int]()
                for _ in range(rounds):
                    before, began = link.counts(), time.perf_counter()
                    subprocess.run([SAPWOOD, "mount", address, mounted], env=far, check=True, stdout=subprocess.DEVNULL)
                    try:
                        names = os.listdir(mounted)
                        content = (mounted / file).read_bytes()
                        spent, after = time.perf_counter() - began, link.counts()
                    finally:
                        subprocess.run([SAPWOOD, "umount", mounted], env=far, check=True)
                    if content != expected or sorted(names) != sorted(os.listdir(tree)):
                        raise SystemExit(f"bench: {mounted}: it is not {tree}")
                    seconds.append(spent)
                    crossed.append(sum(after[way] - before[way] for way in ("up", "down")))
                    print(f"  mount: {spent * 1000:.0f} ms, {shown(crossed[-1])}", file=sys.stderr)
                    clear(cache)
    finally:
        clear(cache, work, mounted)
    most = max(crossed)
    return [
        at_most("until the root is listed and a file is read", Times(tuple(seconds)), None, bound_ms),
        Figure("what has crossed by then, at most", shown(most), shown(bound_bytes), most / bound_bytes, 1),
    ]
