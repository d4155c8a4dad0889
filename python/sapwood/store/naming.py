"""Which words name an archive, or an image.

Invariant: a path of a file names an archive whatever the file is called; a bare word, which may be a ref, only if the
file begins as archives do; a URL without an ending may be that of a store whose ref was left out, until it is read. Not
here: what is in an archive (`archive`), what names a ref (`address`).
"""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

__all__ = [
    "FIRST",
    "begins_as",
    "is_remote",
    "local_path",
    "may_name_archive",
    "names_archive",
    "names_image",
    "split",
    "without_query",
]

_IMAGES = ("oci://", "oci+http://", "oci+https://", "oci:", "oci-archive:", "docker-archive:")
_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst")
FIRST = 512
"""By so many of its first bytes is told what a file is."""


def names_image(text: str) -> bool:
    """Say whether `text` is the address of an image, in a registry or on this machine."""
    return text.startswith(_IMAGES)


def names_archive(text: str) -> bool:
    """Say whether `text`, where it may be an address, can be nothing but an archive, or an image."""
    if names_image(text):
        return True
    if "#" in text:
        return False
    if split(text)[0].endswith(_ENDINGS):
        return True
    return text.startswith(("/", ".", "file://")) and os.path.isfile(local_path(text))


def may_name_archive(text: str) -> bool:
    """Say whether `text`, where it may be an address, is one of an archive or an image, or a URL that may be."""
    if names_archive(text):
        return True
    if "#" in text or text.startswith("file://"):
        return False
    if is_remote(text):
        # Something in a bucket, or of a host; a store may be there, too.
        return bool(urlsplit(text).path.strip("/")) and not text.endswith("/")
    if not os.path.isfile(text):
        return False
    try:
        with open(text, "rb") as file:
            return begins_as(file.read(FIRST)) is not None
    except OSError:
        return False


def begins_as(first: bytes) -> str | None:
    """Return what a file is by its first bytes: `tar`, `gzip`, `zstd`, `xz` or `bzip2`; None of anything else."""
    if first.startswith(b"\x1f\x8b"):
        return "gzip"
    if first.startswith(b"\x28\xb5\x2f\xfd") or (first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F):
        return "zstd"
    if first.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if first.startswith(b"BZh"):
        return "bzip2"
    return "tar" if len(first) >= FIRST and _is_header(first[:FIRST]) else None


def _is_header(block: bytes) -> bool:
    """Say whether a block begins a tar: a header whose checksum is right, or the end of one without entries."""
    if not any(block):
        return True
    try:
        said = int(block[148:156].strip(b"\0 "), 8)
    except ValueError:
        return False
    rest = block[:148] + b" " * 8 + block[156:]
    # Old writers added the bytes up as signed ones.
    return said in (sum(rest), sum(byte - 256 if byte > 127 else byte for byte in rest))


def is_remote(text: str) -> bool:
    """Say whether a path or URL is one of a server's."""
    return "://" in text and not text.startswith("file://")


def local_path(text: str) -> str:
    """Return the absolute path that a path or `file://` URL says."""
    return os.path.abspath(unquote(urlsplit(text).path, errors="surrogateescape") if "://" in text else text)


def split(text: str) -> tuple[str, str]:
    """Return what stands before and behind the `?` of a web server's URL."""
    if not text.startswith(("http://", "https://")):
        return text, ""
    place, _, query = text.partition("?")
    return place, query


def without_query(text: str) -> str:
    """Return an address as messages show it: what stands behind the `?` of a web server's URL may be a secret."""
    place, query = split(text)
    return f"{place}?…" if query else text
