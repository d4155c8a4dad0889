"""Digests are told from what is none."""

import hashlib

import pytest

from sapwood.digests import ChunkDigest, TreeDigest, digest_of, hex_of, parse_digest, parse_pack_name
from sapwood.errors import InvalidInputError

HEX = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"


def test_a_digest_is_read_and_written() -> None:
    assert parse_digest(TreeDigest, f"sha256:{HEX}") == f"sha256:{HEX}"
    assert digest_of(ChunkDigest, b"hi\n") == f"sha256:{HEX}"
    assert hex_of(digest_of(ChunkDigest, b"hi\n")) == HEX == hashlib.sha256(b"hi\n").hexdigest()
    assert parse_pack_name(HEX) == HEX


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", HEX, f"sha512:{HEX}", f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha256:{HEX}\n", f" sha256:{HEX}",
     f"sha256:{HEX.upper()}", f"SHA256:{HEX}", None, 7, b"sha256:" + HEX.encode(), "sha256:" + "x" * 10_000],
)  # fmt: skip
def test_what_is_no_digest_is_refused_in_a_short_line(text: object) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_digest(TreeDigest, text)
    assert refused.value.kind == "bad-digest"
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize("text", ["", f"sha256:{HEX}", HEX[1:], HEX + "0", HEX + "\n", "../" + HEX[3:], None, 64])
def test_what_is_no_packs_name_is_refused(text: object) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_pack_name(text)
    assert refused.value.kind == "bad-digest"
