"""The profile in `profile.jsonl.gz` is read, and written with the same text; one of a newer format is left alone.

The compressed bytes are the library's, so that only the text is compared. Bytes of a format that was released stay,
under another name, with a test that they are read.
"""

import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.digests import TreeDigest
from sapwood.errors import FormatError
from sapwood.profile import Part, Profile, keep_profile, read_profile
from sapwood.store.keys import ref_profile_key, tree_profile_key

GOLDEN = Path(__file__).parent / "profile.jsonl.gz"
PROFILE = Profile(
    TreeDigest("sha256:" + "0123456789abcdef" * 4),
    3,
    "2024-02-29T12:00:00Z",
    (
        Part(b"usr/bin/python3", 0, 0, 3, 131072, frozenset([b"python3", b"sh"])),
        Part(b"usr/bin/python3", 2_097_152, 1, 1, 4096, frozenset()),
        Part("é/\N{SNOWMAN}".encode(), 0, 1, 2, 7, frozenset([b"py\xfe"])),
        Part(b'not UTF-8 \xff\n"', 1 << 40, 2, 2, 1 << 20, frozenset([b"sh"])),
    ),
)


def test_the_profile_is_read_and_written_with_the_same_text() -> None:
    assert read_profile(GOLDEN) == PROFILE
    assert zlib.decompress(PROFILE.encode(), 31) == zlib.decompress(GOLDEN.read_bytes(), 31)


def test_fields_and_values_that_are_not_known_are_passed_over() -> None:
    text = zlib.decompress(GOLDEN.read_bytes(), 31)
    header, _, rows = text.partition(b"\n")
    more = header[:-1] + b',"news":[{}]}\n' + rows.replace(b"]\n", b',[],"news",{"more":[1]}]\n')
    assert Profile.decode(zlib.compress(more, wbits=31), "here") == PROFILE


def test_ranges_stand_behind_all_other_values_and_only_where_they_are_known() -> None:
    parts = (PROFILE.parts[0]._replace(ranges=((0, 65536), (131072, 196608))), *PROFILE.parts[1:])
    lines = zlib.decompress(GOLDEN.read_bytes(), 31).split(b"\n")
    lines[1] = lines[1].removesuffix(b"]") + b",[0,65536,131072,196608]]"
    packed = zlib.compress(b"\n".join(lines), wbits=31)
    assert Profile.decode(packed, "here") == replace(PROFILE, parts=parts)
    assert zlib.decompress(replace(PROFILE, parts=parts).encode(), 31) == b"\n".join(lines)


def test_what_was_only_looked_up_stands_in_the_first_line_by_directory_and_only_where_something_was() -> None:
    names = frozenset([b"os.py", b"usr/lib/b.py", b"usr/lib/a\xff.py", b"usr/lib64/c"])
    first, _, rest = zlib.decompress(GOLDEN.read_bytes(), 31).partition(b"\n")
    first = first[:-1] + b',"lookedUp":{"":["os.py"],"usr/lib":["a\\udcff.py","b.py"],"usr/lib64":["c"]}}'
    text = first + b"\n" + rest
    assert Profile.decode(zlib.compress(text, wbits=31), "here") == replace(PROFILE, looked_up=names)
    assert zlib.decompress(replace(PROFILE, looked_up=names).encode(), 31) == text


def test_a_newer_format_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    text = zlib.decompress(GOLDEN.read_bytes(), 31)
    newer = zlib.compress(text.replace(b'"format":1', b'"format":2', 1) + b"{}\n", wbits=31)
    store = open_store(str(tmp_path / "store"), create=True)
    keys = [tree_profile_key(PROFILE.tree), ref_profile_key("main")]
    for key in keys:
        store.swap_object(key, newer, None)
    with pytest.raises(FormatError) as refused:
        keep_profile(store, "main", PROFILE)
    assert refused.value.kind == "format-newer"
    assert [(store.read_object(key) or (b"",))[0] for key in keys] == [newer, newer]
