"""Slim images given to others: podman pulls and runs what we made smaller, and it does what it did."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Sapwood
from tests.support.images import Image, gzipped
from tests.support.podman import Podman
from tests.support.programs import busybox
from tests.support.rooted import takes_root

pytestmark = takes_root("containers of podman's overlays take root")


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    found = Podman(tmp_path_factory.mktemp("slim") / "p")
    yield found
    found.end()


def test_podman_runs_a_slim_image_as_it_was_said_and_finds_nothing_that_was_never_read(
    registry: str, podman: Podman, tmp_path: Path
) -> None:
    run = Sapwood(tmp_path)
    files = {
        "app": None,
        "app/main": b"cat /app/data; id -un\n",
        "app/data": b"said\n",
        "app/spare": os.urandom(90_000),
    }
    users = {"etc": None, "etc/passwd": b"root:x:0:0::/root:/bin/sh\n", "etc/group": b"root:x:0:\n"}
    image = Image(gzipped(busybox("sh", "cat", "id", "ls")), gzipped(files | users), Cmd=["/bin/sh", "/app/main"])
    address = f"oci:{image.layout(tmp_path / 'image')}"
    run.good("trace", address)
    out = f"{registry}/slim:1"
    run.good("slim", address, f"oci://{out}")
    assert podman.run(out) == "said\nroot"
    assert podman.run(out, "ls", "/app") == "data\nmain"
    words = ["skopeo", "inspect", "--tls-verify=false", "--config", f"docker://{out}"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert json.loads(said)["config"] == {"Cmd": ["/bin/sh", "/app/main"]}
