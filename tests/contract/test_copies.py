"""Copies to and from every kind of place: there and back again, nothing is lost, and the second time nothing moves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.upkeep.copy import copy
from sapwood.upkeep.verify import verify
from tests.support.storeplaces import BucketPlace, HttpPlace, LocalPlace, Place, S3Place
from tests.support.trees import MIB, differences, noise


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    for number in range(9):
        (root / f"large-{number}").write_bytes(noise(2 * MIB + number, number))
    for number in range(50):
        (root / "sub" / f"file-{number:02}").write_text(f"content {number}\n")
    (root / "link").symlink_to("sub/file-07")
    os.utime(root / "sub", ns=(1, 2))
    return root


class Copies:
    """Each kind brings its own `place`."""

    def test_a_tree_goes_there_and_back_and_the_second_time_nothing_moves(
        self, place: Place, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = open_store(str(tmp_path / "here"), create=True)
        here.push(tree, "main")
        there = open_store(place.url, create=True)
        first = copy(here, here.snapshot("main"), there, "main")
        assert first.chunk_bytes_sent == sum(path.lstat().st_size for path in tree.glob("*arge*")) + 10 * 10 + 40 * 11
        if isinstance(place, HttpPlace):
            there = open_store(place.read_url)
        else:
            assert verify(there, read_data=100).damages == ()
        back = open_store(str(tmp_path / "back"), create=True)
        copy(there, there.snapshot("main"), back, "main")
        assert verify(back, read_data=100).damages == ()
        back.pull("main", tmp_path / "pulled")
        assert differences(tree, tmp_path / "pulled") == []

        (tree / "sub" / "file-07").write_text("edited\n")
        here.push(tree, "main")
        # Also from a machine that never saw any of them.
        for cache in ("cache-1", "cache-2"):
            monkeypatch.setenv("SAPWOOD_CACHE", str(tmp_path / cache))
            second = copy(here, here.snapshot("main"), open_store(place.url), "main")
            assert (second.unchanged, second.chunks_sent) == ((False, 1) if cache == "cache-1" else (True, 0))
        copy(there, there.snapshot("main"), back, "main")
        back.pull("main", tmp_path / "pulled")
        assert differences(tree, tmp_path / "pulled") == []


class TestLocal(Copies):
    @pytest.fixture
    def place(self, local_place: LocalPlace) -> Place:
        return local_place


class TestS3(Copies):
    @pytest.fixture
    def place(self, s3_place: S3Place) -> Place:
        return s3_place


class TestHttp(Copies):
    @pytest.fixture
    def place(self, http_place: HttpPlace) -> Place:
        return http_place


class TestNginx(Copies):
    @pytest.fixture
    def place(self, nginx_place: HttpPlace) -> Place:
        return nginx_place


class TestVersitygw(Copies):
    @pytest.fixture
    def place(self, versitygw_place: BucketPlace) -> Place:
        return versitygw_place


class TestAzure(Copies):
    @pytest.fixture
    def place(self, azure_place: BucketPlace) -> Place:
        return azure_place


class TestGcs(Copies):
    @pytest.fixture
    def place(self, gcs_place: BucketPlace) -> Place:
        return gcs_place
