"""What a store itself knows of results of actions: which snapshot each needs, so that collection can tell.

Not here: the messages (`sapwood.build.results`), which take protobuf to read.
"""

from __future__ import annotations

import re

from sapwood.digests import SnapshotDigest

__all__ = ["snapshot_of_result"]

_NAMED = re.compile(rb"@(sha256:[0-9a-f]{64})")


def snapshot_of_result(data: bytes) -> SnapshotDigest | None:
    """Return the snapshot that a result names; None: it names none. It is the last thing in the message that does."""
    found = _NAMED.findall(data)
    return SnapshotDigest(found[-1].decode()) if found else None
