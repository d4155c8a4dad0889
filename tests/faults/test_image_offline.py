"""An image without its registry: what was read of it is mounted, by itself or `--offline`; the rest says why not."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sapwood.errors import NotFoundError
from sapwood.mount import mounts
from sapwood.mount.process import start
from tests.support.fakeregistry import FakeRegistry, registry
from tests.support.images import Image, gzipped, plain, stargz
from tests.support.mounting import mounted, shell

LARGE = os.urandom(9 << 20)
BELOW = stargz({"a": b"first", "large": os.urandom(6 << 20)})


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with registry() as made:
        made.add(Image(BELOW, gzipped({"b": b"second"}), plain({"c": b"third", "plain": LARGE})), "latest")
        yield made


def of(fake: FakeRegistry) -> str:
    return f"oci://{fake.host}/some/name:latest"


def test_what_was_read_of_an_image_is_mounted_offline_without_a_request(
    fake: FakeRegistry, tmp_path: Path, cache_dir: Path
) -> None:
    address, place = of(fake), tmp_path / "mount"
    with mounted(address, tmp_path / "before", cache_dir, prefetch=False):
        before = tmp_path / "before"
        assert shell(f"cat {before}/a {before}/b {before}/c").stdout == "firstsecondthird"
    # What the tag is moved to nobody knows here.
    fake.add(Image(stargz({"a": b"other"})), "latest")
    fake.settle()  # it ended, and may not have heard all that it asked for beside what was read
    fake.asked.clear()
    with mounted(address, place, cache_dir, offline=True):
        assert shell(f"cat {place}/a {place}/b {place}/c").stdout == "firstsecondthird"
        assert "Input/output error" in shell(f"cat {place}/large").stderr
        [mount] = [mount for mount in mounts(cache_dir) if mount.path == place]
        assert re.fullmatch(r"offline: mounted is image \S+@sha256:[0-9a-f]{64}, which it named at \S+", mount.away)
    assert fake.asked == []
    with mounted(address, tmp_path / "after", cache_dir):
        assert shell(f"cat {tmp_path}/after/a").stdout == "other"


def test_an_image_is_mounted_while_its_registry_is_away_and_goes_on_when_that_is_back(
    fake: FakeRegistry, tmp_path: Path, cache_dir: Path
) -> None:
    address, place = of(fake), tmp_path / "mount"
    with mounted(address, tmp_path / "before", cache_dir, prefetch=False):
        assert shell(f"cat {tmp_path}/before/a").stdout == "first"

    def away(handler: object) -> bool:
        handler.close_connection = True  # type: ignore[attr-defined]
        return True

    fake.first = away
    with mounted(address, place, cache_dir):
        [mount] = [mount for mount in mounts(cache_dir) if mount.path == place]
        assert "the connection broke" in mount.away or "no reply" in mount.away
        assert shell(f"cat {place}/a").stdout == "first"
        fake.first = lambda _: False
        assert shell(f"sha256sum < {place}/plain").stdout.split()[0] == hashlib.sha256(LARGE).hexdigest()


def test_what_was_never_asked_for_is_an_error_that_says_so(fake: FakeRegistry, tmp_path: Path, cache_dir: Path) -> None:
    place = tmp_path / "mount"
    place.mkdir()
    for address in (of(fake), f"{of(fake)}@{Image(BELOW).digest}"):
        with pytest.raises(NotFoundError, match="kept here") as caught:
            start(address, place, cache_dir=cache_dir, tied=True, offline=True)
        assert (caught.value.kind, caught.value.hint) == ("not-kept", "mount it once without --offline")
    assert fake.asked == []
