"""A disk that is soon full, or can only be read."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.unmounting import take_away

_BALLAST = "ballast"


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """Mount a file system of `size` bytes at `place`, which is made; for root."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        take_away(place)


@contextmanager
def small_ext4(place: Path, size: int) -> Iterator[Path]:
    """As `small_disk`, one from which the kernel can mount an image."""
    place.mkdir()
    image = place.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        take_away(place)
        image.unlink()


def free(place: Path) -> int:
    """Bytes left on the disk of `place`."""
    seen = os.statvfs(place)
    return seen.f_bavail * seen.f_frsize


def fill(disk: Path, leave: int = 0) -> None:
    """Let no more than `leave` bytes be left on a disk; `writable` gives them back."""
    with contextlib.suppress(OSError), (disk / _BALLAST).open("wb", buffering=0) as ballast:
        while (room := free(disk) - leave) > 0:
            ballast.write(bytes(min(room, 1 << 20)))


def read_only(disk: Path) -> None:
    """Let a disk only be read, from when nobody has a file open to write it."""
    remount = ["mount", "-o", "remount,ro", disk]
    deadline = time.monotonic() + 60
    while (done := subprocess.run(remount, capture_output=True, text=True, check=False)).returncode:
        assert time.monotonic() < deadline, done.stderr


def writable(disk: Path) -> None:
    """Let a disk be as it was before `fill` or `read_only`."""
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    (disk / _BALLAST).unlink(missing_ok=True)
