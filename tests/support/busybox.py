"""A root file system with busybox, and the libraries that this machine's needs, for containers that need a shell.

Not here: images (`images`).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

NAMES = ("sh", "cat", "echo", "ls", "sha256sum")


def make_root(place: Path) -> Path:
    """Make it at `place`, a new directory."""
    (place / "bin").mkdir(parents=True)
    linked = subprocess.run(["ldd", "/bin/busybox"], capture_output=True, text=True, check=False).stdout
    for path in ["/bin/busybox", *{word for word in linked.split() if word.startswith("/")}]:
        there = place / path.strip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, there)
    for name in NAMES:
        (place / "bin" / name).symlink_to("busybox")
    return place
