"""From a URL to the place it names.

A path (absolute, relative, or `file://`), `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or
`http://` and `https://`, which can only be read.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from sapwood.errors import InvalidInputError
from sapwood.store.base import CollectObjects, ReadObjects, WriteObjects
from sapwood.store.local import LocalObjects

__all__ = ["open_objects"]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")
_BUCKETS = ("s3", "gs", "az")
_KNOWN = "a store is a path, file:///path, s3://bucket/prefix, gs://…, az://…, http://host/path or https://host/path"


def open_objects(url: str) -> tuple[ReadObjects, WriteObjects | None, CollectObjects | None]:
    """Return the place that `url` names, to read and, where it can be, to write and to take objects away.

    Nothing is asked of it yet.

    Raises:
        InvalidInputError: `bad-store-url`, `store-kind-unknown`.
    """
    if not url or "\0" in url:
        raise _bad(url, "it names no place")
    if "://" not in url:
        return _all(LocalObjects(Path(url)))
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _bad(url, str(error)) from error
    if "@" in parts.netloc:
        # They would be printed with every message.
        raise _bad(f"{parts.scheme}://...", "credentials do not belong in a URL")
    if parts.query or parts.fragment:
        raise _bad(url, "a store's URL has no ? and no #")
    if parts.scheme == "file":
        return _all(_open_file(url, parts))
    if parts.scheme in _BUCKETS:
        return _all(_open_bucket(url, parts))
    if parts.scheme in ("http", "https"):
        if not parts.netloc:
            raise _bad(url, "it names no host")
        from sapwood.store.http import HttpObjects

        return HttpObjects(url.rstrip("/")), None, None
    raise InvalidInputError(
        f"{url}: stores of the kind {parts.scheme}:// are not known", kind="store-kind-unknown", hint=_KNOWN, store=url
    )


def _open_file(url: str, parts: SplitResult) -> LocalObjects:
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise _bad(url, "a file URL has three slashes and a path: file:///path")
    return LocalObjects(Path(unquote(parts.path, errors="surrogateescape")))


def _open_bucket(url: str, parts: SplitResult) -> CollectObjects:
    prefix = parts.path.strip("/")
    if not _BUCKET.match(parts.netloc):
        raise _bad(url, "it names no bucket")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise _bad(url, "a prefix has no empty, . or .. parts")
    # Each is imported for itself: what waits for servers takes longer to import than a local push has.
    if parts.scheme == "s3":
        from sapwood.store.s3 import S3Objects

        return S3Objects(parts.netloc, prefix)
    if parts.scheme == "gs":
        from sapwood.store.gcs import GcsObjects

        return GcsObjects(parts.netloc, prefix)
    from sapwood.store.azure import AzureObjects

    return AzureObjects(parts.netloc, prefix)


def _all(place: CollectObjects) -> tuple[ReadObjects, WriteObjects, CollectObjects]:
    return place, place, place


def _bad(url: str, why: str) -> InvalidInputError:
    return InvalidInputError(f"{url}: not a store's URL: {why}", kind="bad-store-url", hint=_KNOWN, store=url)
