"""Making a store of an empty place, after finding out how refs can move there.

Invariant: a place becomes a store only if two that create one object at once cannot both succeed; whether a server
keeps that, or silently ignores what it is asked, is tried and never assumed: docs/store.md, "Places without conditional
writes". Of any number that make one store at once all get the same.
"""

from __future__ import annotations

import contextlib
import os
from typing import Literal

from sapwood.errors import ConflictError, InvalidInputError, NotFoundError, SapwoodError
from sapwood.store.base import CollectObjects
from sapwood.store.identity import GRACE_S, Identity, read_identity
from sapwood.store.keys import IDENTITY, PROBES

__all__ = ["create_store", "moves_by", "probe"]


def create_store(objects: CollectObjects, grace_s: int | None = None) -> Identity:
    """Make a store of an empty place and return what it is known by; or that of whoever was faster.

    `grace_s` is its grace in seconds, by default a day.

    Raises:
        InvalidInputError: `not-empty`; `no-conditional-writes`: the place would let two writers overwrite each other.
    """
    if not objects.is_empty():
        try:
            return read_identity(objects)  # somebody else has made it one since we looked
        except NotFoundError:
            raise InvalidInputError(
                f"{objects.url}: neither a store nor empty",
                kind="not-empty",
                hint="name an empty or a new place",
                store=objects.url,
            ) from None
    identity = Identity(os.urandom(16).hex(), GRACE_S if grace_s is None else grace_s, moves_by(objects))
    try:
        objects.swap(IDENTITY, identity.encode(), None)
    except ConflictError:
        return read_identity(objects)
    return identity


def moves_by(objects: CollectObjects) -> Literal["swap", "lock"]:
    """Return how refs can move in a place; errors as `probe`."""
    # A directory needs no trial: the lock of the operating system orders what is swapped there.
    return probe(objects) if "://" in objects.url else "swap"


def probe(objects: CollectObjects) -> Literal["swap", "lock"]:
    """Find out how refs can move in a place: by its own swaps, or, where it can only create, under a lock.

    Raises:
        InvalidInputError: `no-conditional-writes`: it can do neither.
    """
    key = f"{PROBES}/{os.urandom(8).hex()}"
    try:
        return _probe(objects, key)
    finally:
        with contextlib.suppress(SapwoodError):  # what is left of it counts as nothing
            objects.delete(key)


def _probe(objects: CollectObjects, key: str) -> Literal["swap", "lock"]:
    states = [b"%d %s" % (number, os.urandom(8).hex().encode()) for number in range(5)]
    if not _swaps(objects, key, states[0], None):
        raise _refused(objects.url, "it creates nothing on condition")
    if _swaps(objects, key, states[1], None):
        raise _refused(objects.url, "it created an object that was there, and so replaced it")
    data, version = objects.read_versioned(key)
    if data != states[0]:
        raise _refused(objects.url, "it refused to create an object that was there, and replaced it all the same")
    # Both ways: what is right must be done, and what is stale refused.
    if not _swaps(objects, key, states[2], version) or objects.get(key) != states[2]:
        return "lock"
    if _swaps(objects, key, states[3], version) or objects.get(key) != states[2]:
        return "lock"
    return "swap"


def _swaps(objects: CollectObjects, key: str, data: bytes, expect: str | None) -> bool:
    try:
        objects.swap(key, data, expect)  # type: ignore[arg-type]
    except ConflictError:
        return False
    except InvalidInputError as error:
        if error.kind != "not-implemented":
            raise
        return False
    return True


def _refused(url: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{url}: cannot be a store: {why}, so that one of two who push at once would be lost",
        kind="no-conditional-writes",
        hint="choose a server with conditional writes (If-None-Match): docs/stores.md lists some",
        store=url,
    )
