"""Collection, over every kind of place that can be written: what is dead goes, what lives is moved and reads back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.errors import InvalidInputError, NotFoundError
from sapwood.open import OpenStore
from sapwood.store.keys import pack_name
from sapwood.upkeep.forget import forget, remove
from sapwood.upkeep.gc import collect
from sapwood.upkeep.retention import Rules
from tests.support.collecting import assert_reads_back, change, make_tree
from tests.support.mounting import mounted, shell
from tests.support.storeplaces import BucketPlace, HttpPlace, LocalPlace, Place, S3Place


def keys_of(store: OpenStore) -> set[str]:
    folders = ("packs", "maps", "snapshots", "index", "gc", "leases")
    return {key for folder in folders for key in store._collecting().list(folder)}


class Collection:
    """Each kind brings its own `place`."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        make_tree(tmp_path / "tree", 1, files=6)
        return tmp_path / "tree"

    @pytest.fixture
    def store(self, place: Place, tree: Path, tmp_path: Path) -> OpenStore:
        """Of two versions of a tree, of which little is the same, the first is forgotten."""
        store = open_store(place.url, create=True)
        store.push(tree, "main")
        shutil.copytree(tree, tmp_path / "first", symlinks=True)
        change(tree, 2, 3)
        store.push(tree, "main")
        forget(store, Rules(last=1))
        return store

    def test_what_is_young_stays_and_no_record_is_left(self, store: OpenStore) -> None:
        before = keys_of(store)
        done = collect(store)
        assert (done.refs, done.snapshots, done.condemned, done.deleted, done.finished) == (1, 1, 0, 0, True)
        assert keys_of(store) == before

    def test_what_is_dead_goes_while_a_mount_and_a_reader_of_what_lives_go_on(
        self, store: OpenStore, place: Place, tree: Path, tmp_path: Path, cache_dir: Path
    ) -> None:
        reader = open_store(place.read_url)
        assert [*reader.tree("main").items] == [b"folder-0", b"folder-1", b"folder-2"]
        first = list(store.history(store.snapshot("main")))[1].digest
        packs = {key for key in keys_of(store) if pack_name(key)}
        with mounted(f"{place.read_url}#main", tmp_path / "mount", cache_dir):
            done = collect(store, grace_s=0)
            assert done.moved == 1
            assert done.deleted == done.condemned >= 4
            assert packs - keys_of(store)
            assert shell(f"diff -r {tree} {tmp_path}/mount && echo same").stdout == "same\n"
        assert_reads_back(reader, "main", tree, tmp_path / "out")
        with pytest.raises(NotFoundError) as gone:
            reader.pull(f"main@{first}", tmp_path / "gone")
        assert gone.value.kind == "snapshot-missing"
        # Another machine finds everything where it lies now; the pages of its file map say so.
        assert open_store(place.url, cache_dir=tmp_path / "fresh").push(tree, "other").chunk_bytes_sent < 20_000
        again = collect(store, grace_s=0)
        assert again.moved == 0
        remove(store, "main")
        remove(store, "other")
        collect(store, grace_s=0)
        assert keys_of(store) == set()


class TestLocal(Collection):
    @pytest.fixture
    def place(self, local_place: LocalPlace) -> Place:
        return local_place


class TestHttp(Collection):
    """Written as a directory and read through a web server, which redirects of sapwood are nothing special to."""

    @pytest.fixture
    def place(self, http_place: HttpPlace) -> Place:
        return http_place

    def test_what_can_only_be_read_is_not_collected(self, http_place: HttpPlace, store: OpenStore) -> None:
        with pytest.raises(InvalidInputError) as refused:
            collect(open_store(http_place.read_url))
        assert refused.value.kind == "read-only-store"


class TestS3(Collection):
    @pytest.fixture
    def place(self, s3_place: S3Place) -> Place:
        return s3_place


class TestVersitygw(Collection):
    @pytest.fixture
    def place(self, versitygw_place: BucketPlace) -> Place:
        return versitygw_place


class TestAzure(Collection):
    @pytest.fixture
    def place(self, azure_place: BucketPlace) -> Place:
        return azure_place


class TestGcs(Collection):
    @pytest.fixture
    def place(self, gcs_place: BucketPlace) -> Place:
        return gcs_place
