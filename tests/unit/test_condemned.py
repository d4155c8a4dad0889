"""Records of what is condemned: one spelling, and none that cannot be read condemns nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sapwood.errors import CorruptError, FormatError
from sapwood.store.condemned import decode_condemned, encode_condemned, read_condemned
from sapwood.store.keys import condemned_key, is_condemned_key, lease_keys, moved_name
from sapwood.store.local import LocalObjects

KEY = condemned_key("0123456789abcdef")


def test_a_record_is_spelt_as_the_format_says() -> None:
    assert encode_condemned(["packs/b", "maps/a", "packs/b"]) == b'{"format":1,"condemned":["maps/a","packs/b"]}'
    assert encode_condemned([]) == b'{"format":1,"condemned":[]}'


@given(st.lists(st.text()))
def test_a_record_is_read_as_it_was_written(keys: list[str]) -> None:
    written = [key for key in keys if key.isprintable()]
    assert decode_condemned(encode_condemned(written), url="x", key=KEY) == sorted(set(written))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"format":1}', b'{"format":1,"condemned":["b","a"]}', b'{"format":1,"condemned":[] }']
)
def test_a_damaged_record_is_an_error_and_never_condemns_nothing(data: bytes) -> None:
    with pytest.raises(CorruptError) as damaged:
        decode_condemned(data, url="x", key=KEY)
    assert damaged.value.kind == "record-corrupt"
    assert KEY in str(damaged.value)


def test_a_newer_record_is_refused() -> None:
    with pytest.raises(FormatError):
        decode_condemned(b'{"format":2,"condemned":[]}', url="x", key=KEY)


def test_all_records_of_a_place_are_read_and_nothing_else(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    assert read_condemned(objects) == {}
    other = condemned_key("f" * 16)
    objects.put(KEY, encode_condemned(["packs/a"]))
    objects.put(other, encode_condemned([]))
    objects.put("gc/readme", b"not ours")
    assert read_condemned(objects) == {KEY: ["packs/a"], other: []}


def test_keys_are_made_and_known_again() -> None:
    assert is_condemned_key(KEY)
    assert not is_condemned_key("gc/0123.json")
    assert lease_keys("0123456789abcdef") == ("leases/0123456789abcdef.began", "leases/0123456789abcdef.live")
    assert moved_name(f"packs/{'a' * 64}.moved") == "a" * 64
    assert moved_name(f"packs/{'a' * 64}.tar.zst") is None
