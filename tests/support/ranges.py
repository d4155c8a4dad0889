"""Replies to requests for a range of one object, as a good server gives them."""

from __future__ import annotations

import re
from http.server import BaseHTTPRequestHandler

from tests.support.badserver import send

__all__ = ["serve", "span"]


def span(handler: BaseHTTPRequestHandler, size: int) -> tuple[int, int] | None:
    """Return where what was asked for of `size` bytes begins and ends; None of a request for all."""
    asked = re.match(r"bytes=(\d*)-(\d*)\Z", handler.headers.get("Range", ""))
    if asked is None:
        return None
    if not asked[1]:
        return max(0, size - int(asked[2])), size
    return int(asked[1]), min(int(asked[2]) + 1, size)


def serve(handler: BaseHTTPRequestHandler, data: bytes, version: str = "1") -> None:
    """Send what of `data` was asked for."""
    if asked := span(handler, len(data)):
        begin, end = asked
        said = f"bytes {begin}-{end - 1}/{len(data)}"
        send(handler, 206, data[begin:end], Content_Range=said, ETag=f'"{version}"')
    else:
        send(handler, 200, data, ETag=f'"{version}"')
