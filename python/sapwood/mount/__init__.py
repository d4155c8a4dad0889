"""Mounts: trees as directories, before they have arrived.

Promise: a mount has its own process (`process`), serves only proved bytes (`server`), goes on when its server dies
(`holder`, `heritage`), and what is mounted can always be unmounted (`table`).
"""

from sapwood.mount.server import serve
from sapwood.mount.table import Mount, mounts, restart, unmount

__all__ = ["Mount", "mounts", "restart", "serve", "unmount"]
