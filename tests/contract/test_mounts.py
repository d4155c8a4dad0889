"""The tiers of the mount, by this machine's kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from tests.contract.mount_contract import MountContract, hard_pushed

__all__ = ["hard_pushed"]


class TestFuse(MountContract):
    options: ClassVar = {"tier": "fuse", "passthrough": False}


class TestPassthrough(MountContract):
    options: ClassVar = {"tier": "fuse", "passthrough": True}


class TestNative(MountContract):
    options: ClassVar = {"tier": "native"}


class LibfuseContract(MountContract):
    options: ClassVar = {"tier": "libfuse"}
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
