"""One directory at a time, without a tree around it: the digest of its message."""

from sapwood._core.directory import directory_digest

__all__ = ["directory_digest"]
