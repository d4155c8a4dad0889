"""The tiers of the mount, by this machine's kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from sapwood.mount import Mount, mounts, process, unmount
from tests.contract.mount_contract import MountContract, ReadContract, ReadOnlyContract, hard_pushed, hard_tree
from tests.support.mounting import is_mounted, pushed
from tests.support.nobody import nobodys_directory

__all__ = ["hard_pushed"]

# A busy machine takes minutes for the large tree alone, and fetches little in the background.
pytestmark = pytest.mark.timeout(600)
_PATIENCE_S = 400.0


def noted(place: Path, cache: Path) -> Mount:
    [found] = [mount for mount in mounts(cache) if mount.path == place]
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestFuse(MountContract):
    options: ClassVar = {"tier": "fuse", "passthrough": False}


class TestPassthrough(MountContract):
    options: ClassVar = {"tier": "fuse", "passthrough": True}


class TestNative(MountContract):
    options: ClassVar = {"tier": "native"}


class TestNativeAlone(ReadOnlyContract):
    """All of it is here, and proved, and nobody serves it. To prove 8 GiB takes long."""

    options: ClassVar = {"tier": "native"}

    @pytest.fixture(scope="class")
    @classmethod
    def hard_pushed(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
        work = tmp_path_factory.mktemp("less-hard")
        hard_tree(work / "tree", 64 << 20)
        return work / "tree", pushed(work / "tree", work / "store")

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, hard_pushed: tuple[Path, str]) -> Iterator[Path]:
        with nobodys_directory() as home:
            place, cache, started = home / "mount", home / "cache", None
            place.mkdir()
            try:
                while started is None or started.is_served:
                    if started is not None:
                        started.end()
                    started = process.start(hard_pushed[1], place, cache_dir=cache, **cls.options)
                    # It is served, and proves what it has meanwhile.
                    until(lambda: noted(place, cache).lacking == 0)
                yield place
            finally:
                if is_mounted(place):
                    unmount(place, lazy=True, cache_dir=cache)


class WritableContract(ReadContract):
    """Nothing is changed, by who may."""

    numbered = "! -type d"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def changes(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("SAPWOOD_CHANGES", str(tmp_path_factory.mktemp("changes-of-a-class")))
            yield


class TestWritable(WritableContract):
    options: ClassVar = {"tier": "fuse", "writable": True, "discard": True}
    # The other one has what the kernel takes for its own.
    noted = ("program", "raised")


class TestWritableNative(WritableContract):
    options: ClassVar = {"tier": "native", "writable": True, "discard": True}


class LibfuseContract(MountContract):
    options: ClassVar = {"tier": "libfuse"}
    # mfusepy has no seek.
    holes = False
    library: ClassVar[str]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def chosen(cls) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("FUSE_LIBRARY_NAME", cls.library)
            yield


class TestLibfuse3(LibfuseContract):
    library = "fuse3"


class TestLibfuse2(LibfuseContract):
    """As macFUSE is."""

    library = "fuse"
