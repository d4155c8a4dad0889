"""What a store says of all builds that keep their results in it, where a call does not say it.

Bytes: docs/format.md, "Store": `builds.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sapwood.store.keys import BUILDS
from sapwood.store.record import Record, encode

if TYPE_CHECKING:
    from sapwood.store.store import Store

__all__ = ["Defaults", "read_defaults", "write_defaults"]


@dataclass(frozen=True)
class Defaults:
    """`lazy`: may inputs arrive while a builder runs?"""

    lazy: bool = True


def read_defaults(store: Store) -> Defaults:
    """Return what a store says.

    Raises:
        CorruptError: `defaults-corrupt`.
        FormatError: `format-newer`.
    """
    found = store.read_object(BUILDS)
    if found is None:
        return Defaults()
    record = Record(
        found[0],
        f"{store.url}: {BUILDS}",
        kind="defaults-corrupt",
        remedy=f"sapwood build defaults --store {store.url} --lazy",
        store=store.url,
    )
    defaults = Defaults(record.flag("lazy"))
    if _encode(defaults) != found[0]:
        raise record.damaged("it is not spelt as sapwood spells it")
    return defaults


def write_defaults(store: Store, defaults: Defaults) -> None:
    """Let a store say that from now on.

    Raises:
        ConflictError: `object-changed`: somebody else was first.
    """
    found = store.read_object(BUILDS)
    store.swap_object(BUILDS, _encode(defaults), found[1] if found else None)


def _encode(defaults: Defaults) -> bytes:
    return encode({"lazy": defaults.lazy})
