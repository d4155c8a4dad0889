"""Redirects: where the frames of a pack that was moved lie now. Bytes: docs/format.md, "Redirect"."""

from sapwood._core.collect import Redirect

__all__ = ["Redirect", "decode_redirect"]


def decode_redirect(stored: bytes) -> Redirect:
    """Read a redirect.

    Raises:
        CorruptError: `damaged`.
        FormatError: `format-newer`.
    """
    return Redirect(stored)
