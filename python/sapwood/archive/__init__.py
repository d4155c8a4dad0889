"""Archives, as Python sees them: written, the TOC of one as a file map, where the frames of a moved pack lie."""

from sapwood.archive.redirect import Redirect, decode_redirect
from sapwood.archive.toc import FileMap, Footer, open_toc

__all__ = ["FileMap", "Footer", "Redirect", "decode_redirect", "open_toc"]
