"""Records of what collection is going to delete: docs/store.md, "Collection".

Invariant: a record that cannot be read is an error, never one that condemns nothing. Not here: who writes them, when
they are due (collection), and what of it a push must not use (`push`).
"""

from __future__ import annotations

from collections.abc import Iterable

from sapwood.errors import NotFoundError
from sapwood.store.base import ReadObjects
from sapwood.store.keys import CONDEMNED, is_condemned_key
from sapwood.store.record import Record, encode
from sapwood.store.waiting import each

__all__ = ["decode_condemned", "encode_condemned", "read_condemned"]


def encode_condemned(keys: Iterable[str]) -> bytes:
    """Return the bytes of a record that condemns the objects at `keys`."""
    return encode({"condemned": sorted(set(keys))})


def decode_condemned(data: bytes, *, url: str, key: str) -> list[str]:
    """Return the keys that the record at `key` of the store at `url` condemns, sorted.

    Raises:
        CorruptError: `record-corrupt`.
        FormatError: `format-newer`.
    """
    remedy = f"remove {key} from the store: what it lists is then condemned anew by the next sapwood gc"
    record = Record(data, f"{url}: {key}", kind="record-corrupt", remedy=remedy, store=url, key=key)
    keys = record.texts("condemned")
    if encode_condemned(keys) != data:
        raise record.damaged("it is not spelt as sapwood spells it")
    return keys


def read_condemned(objects: ReadObjects) -> dict[str, list[str]]:
    """Return what each record of a place condemns, by the record's key; errors as `decode_condemned`."""
    records = [key for key in objects.list(CONDEMNED) if is_condemned_key(key)]

    def read(key: str) -> list[str] | None:
        try:
            data = objects.get(key)
        except NotFoundError:  # its collector has just finished
            return None
        return decode_condemned(data, url=objects.url, key=key)

    found = zip(records, each(read, records), strict=True)
    return {key: keys for key, keys in found if keys is not None}
