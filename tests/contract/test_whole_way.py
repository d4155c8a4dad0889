"""The whole way, over every kind of store: push, push again, list, compare, pull, mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sapwood import open_store, open_tree
from tests.support.mounting import mounted, shell
from tests.support.storeplaces import BucketPlace, HttpPlace, LocalPlace, Place, S3Place

LARGE = os.urandom(3_000_000)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "large").write_bytes(LARGE)
    for number in range(50):
        (root / "sub" / f"file-{number:02}").write_text(f"content {number}\n")
    (root / "link").symlink_to("sub/file-07")
    return root


class WholeWay:
    """Each kind brings its own `place`."""

    def test_what_is_pushed_is_listed_compared_pulled_and_mounted(
        self, place: Place, tree: Path, tmp_path: Path, cache_dir: Path
    ) -> None:
        store = open_store(place.url, create=True)
        first = store.push(tree, "main")
        assert (first.files, first.unchanged) == (51, False)
        assert store.push(tree, "main").unchanged
        (tree / "sub" / "file-07").write_text("edited\n")
        second = store.push(tree, "main")
        # The file, the page of the file map that names it, and that of its directory.
        assert second.chunks_sent <= 3

        reader = open_store(place.read_url)
        assert [*reader.tree("main").items] == [b"large", b"link", b"sub"]
        before = open_tree(f"{place.read_url}#main@{first.snapshot}")
        assert list(before.diff(reader.tree("main"))) == [("changed", b"sub/file-07")]
        pulled = reader.pull("main", tmp_path / "copy")
        assert pulled.tree == second.tree
        assert shell(f"diff -r {tree} {tmp_path}/copy && echo same").stdout == "same\n"
        with mounted(f"{place.read_url}#main", tmp_path / "mount", cache_dir):
            assert shell(f"diff -r {tree} {tmp_path}/mount && echo same").stdout == "same\n"


class TestLocal(WholeWay):
    @pytest.fixture
    def place(self, local_place: LocalPlace) -> Place:
        return local_place


class TestS3(WholeWay):
    @pytest.fixture
    def place(self, s3_place: S3Place) -> Place:
        return s3_place


class TestHttp(WholeWay):
    @pytest.fixture
    def place(self, http_place: HttpPlace) -> Place:
        return http_place


class TestVersitygw(WholeWay):
    @pytest.fixture
    def place(self, versitygw_place: BucketPlace) -> Place:
        return versitygw_place


class TestAzure(WholeWay):
    @pytest.fixture
    def place(self, azure_place: BucketPlace) -> Place:
        return azure_place


class TestGcs(WholeWay):
    @pytest.fixture
    def place(self, gcs_place: BucketPlace) -> Place:
        return gcs_place
