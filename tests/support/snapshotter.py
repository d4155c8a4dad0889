"""The file system of containerd's stargz-snapshotter over layers of an image, and the overlay a container gets of them.

Promise: what is mounted is unmounted when the context ends. Mounting takes root. Not here: the program, which
tests/interop/go/snapshotter has.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.unmounting import take_away

ROOT = Path(__file__).resolve().parent.parent.parent


def built() -> Path:
    """Build the program, if that is not done, and return where it is."""
    subprocess.run([ROOT / "scripts" / "build-interop.sh", "snapshotter"], check=True)
    return ROOT / "build" / "interop" / "snapshotter"


@contextmanager
def layers(program: Path, image: str, place: Path) -> Iterator[dict[str, Any]]:
    """Mount layer N of `image`, `HOST/REPOSITORY:TAG`, at `place`/N; the value says their number, and what it runs."""
    place.mkdir()
    log = place / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            # It dies with us, however we do; the mounts die with it.
            ["setpriv", "--pdeathsig", "KILL", program, "mount", image, place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
    with process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, f"{image} was not mounted: {log.read_text()}"
            yield json.loads(line)
        finally:
            process.communicate(timeout=60)
    assert process.returncode == 0, log.read_text()


@contextmanager
def overlaid(program: Path, image: str, place: Path) -> Iterator[Path]:
    """Mount the layers of `image` below `place` and give their overlay, as a container sees it but that none writes."""
    with layers(program, image, place) as said:
        whole = place / "whole"
        whole.mkdir()
        # An overlay of one directory needs another.
        (place / "nothing").mkdir()
        lowest_last = [place / str(number) for number in reversed(range(said["layers"]))]
        below = ":".join(map(str, [*lowest_last, place / "nothing"]))
        subprocess.run(["mount", "-t", "overlay", "-o", f"ro,lowerdir={below}", "overlay", whole], check=True)
        try:
            yield whole
        finally:
            take_away(whole)
