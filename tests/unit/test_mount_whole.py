"""The native tier of a tree that is here as a whole: it needs no process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sapwood.mount import mounts
from sapwood.mount.table import pin_path
from tests.support.cli import Sapwood
from tests.support.kernelcaches import dropped
from tests.support.mounting import is_mounted, mounted, shell


@pytest.fixture
def sapwood(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


@pytest.fixture
def place(tmp_path: Path, sapwood: Sapwood) -> Iterator[Path]:
    """A place at which all of a tree is mounted that nobody serves."""
    tree, place = tmp_path / "tree", tmp_path / "mnt"
    (tree / "d").mkdir(parents=True)
    for number in range(200):
        (tree / "d" / str(number)).write_text(f"{number}\n" * 1000)
    (tree / "large").write_bytes(bytes(range(256)) * 16384)
    (tree / "empty").touch()
    (tree / "link").symlink_to("d/7")
    sapwood.good("push", tree, "main")
    place.mkdir()
    for _ in range(50):
        said = sapwood.good("mount", "--tier", "native", "--wait", "--json", "main", "mnt").document
        if said["pid"] is None:
            break
        # It was served, and proved what it has meanwhile.
        sapwood.good("umount", "mnt")
    assert is_mounted(place)
    yield place
    if is_mounted(place):
        sapwood.good("umount", "--lazy", "mnt")


def test_it_is_read_without_process_and_store(tmp_path: Path, place: Path, sapwood: Sapwood) -> None:
    shutil.rmtree(tmp_path / "store")
    [shown] = [line for line in sapwood.good("mounts", "--json").document if line["path"] == str(place)]
    assert (shown["pid"], shown["server"], shown["alive"], shown["problem"]) == (None, None, True, None)
    assert shown["bytesHere"] == shown["bytes"] > 0
    sapwood.good("mounts", "--restart")
    with dropped():
        assert shell("echo 2 > /proc/sys/vm/drop_caches").returncode == 0
    assert shell(f"diff -r --no-dereference {tmp_path}/tree {place}").stdout == ""
    assert "Read-only" in shell(f"touch {place}/d/7").stderr


def test_it_is_taken_away_as_any_other_and_its_contents_are_pinned_no_more(place: Path, sapwood: Sapwood) -> None:
    pin = pin_path(sapwood.cache, place)
    assert pin.exists()
    with (place / "d" / "3").open():
        assert "in use" in sapwood("umount", "mnt").err
    assert pin.exists()
    sapwood.good("umount", "mnt")
    assert not pin.exists()
    assert not [mount for mount in mounts(sapwood.cache) if mount.path == place]


def test_a_mount_that_ends_with_its_command_is_served(place: Path, sapwood: Sapwood, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with mounted(f"{sapwood.store}#main", other, sapwood.cache, tier="native") as started:
        assert started.is_served
        assert shell(f"diff -r --no-dereference {tmp_path}/tree {other}").stdout == ""
    assert not is_mounted(other)
    sapwood.good("run", "--tier", "native", "main", "--", "true")
    assert shell(f"diff -r --no-dereference {tmp_path}/tree {place}").stdout == ""
