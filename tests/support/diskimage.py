"""A file system of our own in a file, whose times can be set as no system call can; for root.

Promise: it keeps its device number from mount to mount.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.unmounting import take_away

_PATIENCE_S = 60.0
_SIZE = 16 << 20
_SMALLEST_XFS = 300 << 20


class DiskImage:
    """An ext4 file system on a loop device; `coarse` keeps times in whole seconds."""

    def __init__(self, device: str, place: Path) -> None:
        self._device = device
        self._place = place

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mount it until the end of the context."""
        subprocess.run(["mount", self._device, self._place], check=True)
        try:
            yield self._place
        finally:
            take_away(self._place)
            self._await_end()

    def _await_end(self) -> None:
        """Wait until nobody has it mounted: a namespace of mounts that began meanwhile has a copy of each."""
        until = time.monotonic() + _PATIENCE_S
        while Path("/sys/fs/ext4", Path(self._device).name).exists():
            assert time.monotonic() < until
            time.sleep(0.05)

    def set_times(self, name: str, seconds: int) -> None:
        """Set mtime and ctime of an entry at the top, which must not be mounted now, to so many seconds since 1970."""
        fields = [
            (f"{time}{part}", value) for time in "mc" for part, value in (("time", f"@{seconds}"), ("time_extra", 0))
        ]
        for field, value in fields:
            command = f"set_inode_field {name} {field} {value}"
            done = subprocess.run(["debugfs", "-w", "-R", command, self._device], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


@contextmanager
def cloning_disk(home: Path) -> Iterator[Path]:
    """Mount a file system whose files can share blocks (XFS) at `home/disk` until the end of the context."""
    image, place = home / "image", home / "disk"
    place.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(_SMALLEST_XFS)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        take_away(place)
        image.unlink()


@contextmanager
def disk_image(home: Path, *, coarse: bool = False) -> Iterator[DiskImage]:
    """Make one in `home`, to be mounted at `home/disk`."""
    image, place = home / "image", home / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(_SIZE)
    inode_size = 128 if coarse else 256
    subprocess.run(["mkfs.ext4", "-q", "-I", str(inode_size), image], check=True, capture_output=True)
    device = subprocess.run(
        ["losetup", "-f", "--show", image], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        yield DiskImage(device, place)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
