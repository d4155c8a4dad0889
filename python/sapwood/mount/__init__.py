"""Mounts: trees as directories, before they have arrived.

Promise: a mount has its own process (`process`), serves only proved bytes (`server`), goes on when its server dies
(`holder`, `heritage`), and what is mounted can always be unmounted (`table`).
"""

from sapwood.lazy import exporting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sapwood.mount.server import serve as serve
    from sapwood.mount.table import Mount as Mount
    from sapwood.mount.table import mounts as mounts
    from sapwood.mount.table import restart as restart
    from sapwood.mount.table import unmount as unmount

__all__ = ["Mount", "mounts", "restart", "serve", "unmount"]

_TABLE = "sapwood.mount.table"
__getattr__, __dir__ = exporting(
    __name__,
    {"Mount": _TABLE, "mounts": _TABLE, "restart": _TABLE, "serve": "sapwood.mount.server", "unmount": _TABLE},
)
