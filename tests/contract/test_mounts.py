"""The tiers of the mount, by this machine's kernel."""

from __future__ import annotations

from tests.contract.mount_contract import MountContract, hard_pushed

__all__ = ["hard_pushed"]


class TestFuse(MountContract):
    tier = "fuse"


class TestNative(MountContract):
    tier = "native"
