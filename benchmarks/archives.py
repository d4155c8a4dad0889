"""The tar of the corpus, and containerd's estargz library, driven by a small program in Go.

The tar is made once into build/bench/; the program is the one that the tests use (tests/interop/go).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.corpus import BUILD, corpus, say

_ROOT = Path(__file__).resolve().parent.parent
ESTARGZ = _ROOT / "build" / "interop" / "estargz"


def corpus_tar() -> Path:
    """Return a plain tar of the corpus."""
    place = BUILD / f"{corpus().name}.tar"
    if not place.exists():
        say(f"packing {place}")
        unfinished = place.with_suffix(".unfinished")
        subprocess.run(["tar", "-cf", unfinished, "--sort=name", "-C", corpus(), "."], check=True)
        unfinished.rename(place)
    return place


def need_estargz() -> None:
    """Build the program, if need be."""
    subprocess.run([_ROOT / "scripts" / "build-interop.sh"], check=True)
