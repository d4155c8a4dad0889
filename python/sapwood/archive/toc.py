"""The TOC of an archive as a file map. Bytes: docs/archive.md, "Reading"."""

from sapwood._core.filemap import FileMap
from sapwood._core.stargz import Footer, open_toc

__all__ = ["FileMap", "Footer", "open_toc"]
