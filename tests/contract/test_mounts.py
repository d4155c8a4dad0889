"""The tiers of the mount, by this machine's kernel."""

from __future__ import annotations

from typing import ClassVar

from tests.contract.mount_contract import MountContract, hard_pushed

__all__ = ["hard_pushed"]


class TestFuse(MountContract):
    options: ClassVar = {"tier": "fuse", "passthrough": False}


class TestPassthrough(MountContract):
    options: ClassVar = {"tier": "fuse", "passthrough": True}


class TestNative(MountContract):
    options: ClassVar = {"tier": "native"}
