"""Archives, as Python sees them: the TOC of one as a file map, and where the frames of a pack lie that was moved."""

from sapwood.archive.redirect import Redirect, decode_redirect
from sapwood.archive.toc import FileMap, Footer, open_toc

__all__ = ["FileMap", "Footer", "Redirect", "decode_redirect", "open_toc"]
