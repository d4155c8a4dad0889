"""Names of images: each is spelt in one way, and none leads where it does not say."""

from __future__ import annotations

import pytest

from sapwood.errors import InvalidInputError
from sapwood.image import ImageName

PIN = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("oci://ghcr.io/a/b:1.2", "oci://ghcr.io/a/b:1.2"),
        ("oci://ghcr.io/a/b", "oci://ghcr.io/a/b:latest"),
        (f"oci://host:5000/a@{PIN}", f"oci://host:5000/a@{PIN}"),
        (f"oci://host:5000/a:t@{PIN}?platform=linux/arm/v7", f"oci://host:5000/a:t@{PIN}?platform=linux/arm/v7"),
        ("oci://docker.io/busybox", "oci://docker.io/library/busybox:latest"),
        ("oci://index.docker.io/a/b", "oci://docker.io/a/b:latest"),
        ("oci+http://[::1]:5000/a__b/c-d:T", "oci+http://[::1]:5000/a__b/c-d:T"),
        ("oci:/images:one", "oci:/images:one"),
        ("oci:/images", "oci:/images"),
        ("docker-archive:/saved.tar:repo/name:tag", "docker-archive:/saved.tar:repo/name:tag"),
        (f"oci-archive:/it.tar@{PIN}", f"oci-archive:/it.tar@{PIN}"),
    ],
)
def test_a_name_is_spelt_in_one_way(text: str, spelt: str) -> None:
    assert str(ImageName.parse(text)) == spelt
    assert str(ImageName.parse(spelt)) == spelt


@pytest.mark.parametrize(
    "text",
    [
        "oci://busybox", "oci://host/", "oci:///a", "oci://host/A", "oci://host/a//b", "oci://host/../b", "oci://host/a:",
        "oci://host/a:-x", "oci://host/a@sha256:12", f"oci://host/a@{PIN}x", "oci://user@host/a", "oci://host/a?tag=1",
        "oci://host/a?platform=LINUX", "oci://host/a%2f", "oci:", "docker-archive:", "oci://host:port/a",
        "oci://host/a b", "oci://host:65536/a", "oci://host..example/a", f"oci://{'h' * 64}.example/a",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ImageName.parse(text)
    assert caught.value.kind == "bad-address"


def test_a_secret_in_a_name_is_not_said_again() -> None:
    with pytest.raises(InvalidInputError) as caught:
        ImageName.parse("oci://me:s3cr3t@host:5000/a:1")
    assert str(caught.value) == "oci://…@host:5000/a:1: a login is no part of a name"
    assert "s3cr3t" not in repr(caught.value.__dict__)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("oci://localhost/a", True), ("oci://127.0.0.1:5000/a", True), ("oci://[::1]:1/a", True),
        ("oci://ghcr.io/a", False), ("oci://localhost.example.com/a", False), ("oci://127.0.0.1.example.com/a", False),
        ("oci+http://ghcr.io/a", True), ("oci+https://localhost/a", False),
    ],
)  # fmt: skip
def test_only_this_machine_is_spoken_to_without_tls_unless_the_name_says_so(text: str, plain: bool) -> None:
    assert ImageName.parse(text).is_plain is plain
