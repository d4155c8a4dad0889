"""Mounting a tree of 10,000,000 files that lies in S3, far away, with an empty cache. Only when named.

The tree is made for this and removed at the end; one in ten files has content.
"""

from __future__ import annotations

import subprocess

from benchmarks import usable
from benchmarks.claims.mount_million import COMMANDS
from benchmarks.corpus import say
from benchmarks.generated import TEN_MILLION, generated
from benchmarks.measure import Figure

__all__ = ["COMMANDS", "figures"]


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    tree = generated("ten-million", TEN_MILLION)
    try:
        return usable.figures(tree, "d010/d020/d005/file-010.txt", rounds, bound_ms=2000, bound_bytes=2_000_000)
    finally:
        say(f"removing {tree}")
        # rmtree would take several times as long.
        subprocess.run(["rm", "-rf", tree], check=True)
