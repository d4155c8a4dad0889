"""Mounting a tree of 1,000,000 files that lies in S3, far away, with an empty cache."""

from __future__ import annotations

from benchmarks import usable
from benchmarks.generated import MILLION, generated
from benchmarks.measure import Figure

COMMANDS = (
    f"`sapwood mount s3://…#main DIR && ls DIR && cat DIR/…/file-001.txt` over {usable.RTT_MS} ms and"
    f" {usable.MBIT} Mbit/s; bytes as the link counts them"
)


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = generated("million", MILLION)
    return usable.figures(tree, "d010/d020/d005/file-001.txt", rounds, bound_ms=1000, bound_bytes=1_000_000)
