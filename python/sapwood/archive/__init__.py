"""Archives, as Python sees them: so far, where the frames of a pack lie that was moved."""

from sapwood.archive.redirect import Redirect, decode_redirect

__all__ = ["Redirect", "decode_redirect"]
