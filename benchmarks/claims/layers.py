"""An image of 50 layers with 1,000,000 entries together, in an OCI layout: opened, and mounted after that."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from benchmarks.layered import ENTRIES, LAYERS, layered
from benchmarks.measure import Case, Figure, at_most, in_turns, memory
from benchmarks.sapwood import SAPWOOD, anew, clear, place, require_free, with_cache

COMMANDS = (
    f"`sapwood ls oci:DIR`, an image of {LAYERS} layers of {ENTRIES:,} entries, whose TOCs are read and merged, with an"
    " empty cache; `sapwood mount --no-prefetch oci:DIR M && ls M`, the first time, and when it was mounted before"
)
# Beside a mount the map is written; until it is there the next one reads TOCs.
_PATIENCE_S = 60


def figures(rounds: int) -> list[Figure]:
    """Measure."""
    require_free(1_000_000_000)
    image = f"oci:{layered()}"
    cache, point = map(place, ("cache", "mount"))
    point.mkdir(parents=True)
    environment = with_cache(cache)
    mounting = ["sh", "-c", f"{SAPWOOD} mount --no-prefetch {image} {point} && ls {point}"]

    def first() -> None:
        _unmount(point, environment)
        anew(cache)

    def kept() -> None:
        if not _is_kept(cache):
            _unmount(point, environment)
            subprocess.run(mounting, env={**os.environ, **environment}, capture_output=True, check=True)
            _wait_for_map(cache)
        _unmount(point, environment)

    listing = Case("ls", [SAPWOOD, "ls", image], first, environment)
    first_time = Case("mount, first", mounting, first, environment)
    again = Case("mount, again", mounting, kept, environment)
    try:
        opened, mounted, remounted = in_turns([listing, first_time, again], rounds)
    finally:
        _unmount(point, environment)
    clear(cache, point)
    return [
        at_most("an image of 50 layers with 1,000,000 entries, its layers merged", opened, None, 3000),
        memory("memory of that", opened.peak, 500),
        at_most("the same, mounted and listed for the first time", mounted, None, None),
        at_most("mounted and listed after that", remounted, None, 300),
    ]


def _unmount(point: Path, environment: dict[str, str]) -> None:
    """Take the mount away, if there is one."""
    everything = {**os.environ, **environment}
    subprocess.run([SAPWOOD, "umount", point], env=everything, stderr=subprocess.DEVNULL, check=False)


def _is_kept(cache: Path) -> bool:
    """Say whether the merged map is kept."""
    return any((cache / "layers").glob("*.map"))


def _wait_for_map(cache: Path) -> None:
    """Wait until it is."""
    until = time.monotonic() + _PATIENCE_S
    while not _is_kept(cache):
        if time.monotonic() > until:
            raise SystemExit(f"bench: nothing was kept of the image within {_PATIENCE_S} s")
        time.sleep(0.1)
