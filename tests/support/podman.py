"""podman with storage of its own, as Debian 12 has it: overlay, runc, no network; it may itself be in a container.

Promise: what it stores lies below one directory, whose path must be short: containers are attached to by sockets in it.
After `end` nothing stays mounted. It takes root. Not here: buildah, skopeo.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Both, else runc wants more than there is in a container.
LIMITS = ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:4096")


class Podman:
    """Commands over the storage in `place`; which pulls layers in parts, if they can be."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.place = place
        self._configuration = place / "storage.conf"
        self._configuration.write_text(
            f"""
            [storage]
            driver = "overlay"
            graphroot = "{place}/root"
            runroot = "{place}/run"
            [storage.options]
            pull_options = {{enable_partial_images = "true", use_hard_links = "false", ostree_repos = ""}}
            """
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        return {**os.environ, "CONTAINERS_STORAGE_CONF": str(self._configuration)}

    def command(self, *words: str | Path) -> list[str]:
        """Return the command line of `podman WORDS…`."""
        return ["podman", "--cgroup-manager", "cgroupfs", "--runtime", "runc", *map(str, words)]

    def __call__(self, *words: str | Path) -> str:
        """Run a command that must succeed; return what it prints."""
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=110, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run(self, image: str, *words: str) -> str:
        """Run a container of an image that is there, or pulled, and return what it prints."""
        return self("run", "--rm", "--network", "none", "--tls-verify=false", *LIMITS, image, *words)

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Give what it has stored of an image."""
        at = Path(self("image", "mount", image))
        try:
            yield at
        finally:
            self("image", "unmount", image)

    def end(self) -> None:
        """Take away what it left mounted; of what it is just taking away itself it has the last word."""
        for mount in reversed(self._mounts()):
            subprocess.run(["umount", mount], check=False)
        assert self._mounts() == []

    def _mounts(self) -> list[str]:
        here = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [place for place in here if place.startswith(f"{self.place}/")]
