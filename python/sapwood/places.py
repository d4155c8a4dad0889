"""Where sapwood keeps things and whom it talks to, as the environment says.

Border: the only module below `cli` that reads the environment. Each place is read when asked for, never at import.
Exception, on purpose: credentials for S3 are read from the usual `AWS_...` variables by obstore itself.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cache_dir", "default_store", "index_dir", "s3_endpoint", "watch_dir"]


def cache_dir() -> Path:
    """Return the user's cache: `$SAPWOOD_CACHE`, else `$XDG_CACHE_HOME/sapwood`, else `~/.cache/sapwood`."""
    from pathlib import Path

    return Path(_cache())


def index_dir() -> str:
    """Return where indexes are kept, in the user's cache. A string: `sapwood hash` loads no pathlib."""
    return os.path.join(_cache(), "index")


def watch_dir() -> str:
    """Return where the sockets of watchers lie, in the user's cache."""
    return os.path.join(_cache(), "watch")


def default_store() -> str:
    """Return the URL of a bare ref's store: `$SAPWOOD_STORE`, else `sapwood/store` in the user's data directory."""
    return os.environ.get("SAPWOOD_STORE") or os.path.join(_base("XDG_DATA_HOME", ".local/share"), "sapwood", "store")


def s3_endpoint() -> str | None:
    """Return the URL of the S3 server to talk to, or None for Amazon's own."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        if endpoint := os.environ.get(name):
            return endpoint
    return None


def _cache() -> str:
    return os.environ.get("SAPWOOD_CACHE") or os.path.join(_base("XDG_CACHE_HOME", ".cache"), "sapwood")


def _base(variable: str, below_home: str) -> str:
    given = os.environ.get(variable, "")
    # The XDG specification tells programs to ignore a base that is not absolute.
    return given if os.path.isabs(given) else os.path.join(os.path.expanduser("~"), below_home)
