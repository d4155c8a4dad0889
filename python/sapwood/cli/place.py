"""Which store a command works on, where a whole store is wanted.

Promise: only what was left out means the default store, never an empty word; and an address of a ref is not taken for a
directory of that name.
"""

from __future__ import annotations


def store_url(given: str | None, command: str) -> str:
    """Return the STORE_URL that was given to `command`, or the default store's.

    Raises:
        InvalidInputError: `bad-store-url`: it names a ref.
    """
    import os

    from sapwood import places
    from sapwood.errors import InvalidInputError
    from sapwood.store.keys import IDENTITY
    from sapwood.store.ref import is_ref_name

    if given is None:
        return places.default_store()
    url, sign, name = given.rpartition("#")
    # A directory may have a # in its name, and be a store.
    if sign and (not name or is_ref_name(name.partition("@")[0])) and not os.path.exists(os.path.join(given, IDENTITY)):
        raise InvalidInputError(
            f"{given}: {command} wants a whole store, and this names a ref in one",
            kind="bad-store-url",
            hint=f"sapwood {command} {url or places.default_store()}",
        )
    return given
