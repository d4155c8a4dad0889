"""Where sapwood keeps things and whom it talks to, as the environment says.

Border: the only module below `cli` that reads the environment. Each place is read when asked for, never at import.
Exception, on purpose: credentials for S3 are read from the usual `AWS_...` variables by obstore itself.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir", "default_store", "s3_endpoint"]


def cache_dir() -> Path:
    """Return the user's cache: `$SAPWOOD_CACHE`, else `$XDG_CACHE_HOME/sapwood`, else `~/.cache/sapwood`."""
    given = os.environ.get("SAPWOOD_CACHE")
    return Path(given) if given else _base("XDG_CACHE_HOME", ".cache") / "sapwood"


def default_store() -> str:
    """Return the URL of a bare ref's store: `$SAPWOOD_STORE`, else `sapwood/store` in the user's data directory."""
    return os.environ.get("SAPWOOD_STORE") or str(_base("XDG_DATA_HOME", ".local/share") / "sapwood" / "store")


def s3_endpoint() -> str | None:
    """Return the URL of the S3 server to talk to, or None for Amazon's own."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        if endpoint := os.environ.get(name):
            return endpoint
    return None


def _base(variable: str, below_home: str) -> Path:
    given = os.environ.get(variable, "")
    # The XDG specification tells programs to ignore a base that is not absolute.
    return Path(given) if os.path.isabs(given) else Path.home() / below_home
