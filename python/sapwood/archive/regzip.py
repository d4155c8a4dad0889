"""Gzip streams as plain bytes and corrections, and back. Bytes: docs/oci.md, "Corrections".

Promise: corrections are given only when the stream was made again of them, and was the same. Not here: where they lie.
"""

from __future__ import annotations

from sapwood._core.regzip import apart, inflate, together

__all__ = ["apart", "inflate", "together"]
