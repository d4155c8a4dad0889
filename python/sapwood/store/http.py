"""A store behind a plain web server, to read from.

Border: plain servers have no listings and take no uploads: a ref is read by its name, not found.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NoReturn

from sapwood.errors import InvalidInputError
from sapwood.store import attempts
from sapwood.store.base import Version
from sapwood.store.remote import RemoteObjects

if TYPE_CHECKING:
    from obstore.store import HTTPStore

__all__ = ["HttpObjects"]


class HttpObjects(RemoteObjects):
    """Objects below an `http://` or `https://` URL; see `base.ReadObjects` for each method's promise."""

    def __init__(self, url: str, only: str | None = None) -> None:
        """`only` is the whole URL of the only object that will be asked for: sent as it is, and never shown."""

        def connect(_: float | None) -> HTTPStore:
            from obstore.store import HTTPStore

            options = attempts.client_options(allow_http=url.startswith("http://"))
            return HTTPStore(only or url, client_options=options, retry_config=attempts.ONCE)

        super().__init__(url, connect)
        self._only = only

    def path(self, key: str) -> str:
        return "" if self._only else key

    def renew(self) -> bool:
        return False  # there are no credentials

    def list(self, prefix: str) -> NoReturn:
        raise InvalidInputError(
            f"{self.url}: a web server cannot be listed",
            kind="cannot-list",
            hint="name the ref, as in URL#main, or open the store where it is written",
            store=self.url,
            key=prefix,
        )

    def read_versioned(self, key: str) -> tuple[bytes, Version]:
        data = self.get(key)
        return data, Version(hashlib.sha256(data).hexdigest())
