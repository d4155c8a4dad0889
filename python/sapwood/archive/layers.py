"""Layers of an image as one file map. Rules: docs/oci.md, "Layers"."""

from sapwood._core.layers import keep, lead, merge
from sapwood._core.layers import open as open_kept

__all__ = ["keep", "lead", "merge", "open_kept"]
