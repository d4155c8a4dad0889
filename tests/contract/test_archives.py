"""Archives in every kind of place that has a URL: listed, read, pulled, mounted; and by URLs that are signed."""

from __future__ import annotations

import json
import os
import select
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import pytest
from obstore.store import ObjectStore

from sapwood import open_tree
from sapwood.errors import NotFoundError
from sapwood.pull import pull
from sapwood.store.archive import open_archive
from tests.support import stargz
from tests.support.cli import Sapwood
from tests.support.mounting import mounted
from tests.support.storeplaces import BucketPlace, HttpPlace, Place, S3Place
from tests.support.trees import differences, noise


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose TOC is longer than what the first request brings."""
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "large").write_bytes(noise(400_000))
    for number in range(1500):
        (root / f"{number}").write_text(f"{number}")
    return root


@pytest.fixture
def archive(tree: Path, tmp_path: Path) -> bytes:
    return stargz.make(tree, tmp_path / "x.tar.gz").read_bytes()


class ArchiveContract:
    """Each kind brings its own `place`, and how many requests the first opening takes there."""

    requests = 2

    def test_an_archive_is_read_pulled_and_mounted_where_it_lies(
        self, place: Place, tree: Path, archive: bytes, tmp_path: Path, cache_dir: Path
    ) -> None:
        place.overwrite("x.tar.gz", archive)
        url = f"{place.read_url}/x.tar.gz"
        opened, known = open_archive(url)
        assert sum(opened.requests().values()) == self.requests
        again, _ = open_archive(url)
        assert sum(again.requests().values()) == self.requests - 1
        assert known.tree == open_tree(str(tree)).digest
        assert b"".join(open_tree(url).read_blob(b"sub/large")) == noise(400_000)
        pull(opened, known, tmp_path / "pulled")
        assert differences(tree, tmp_path / "pulled") == []
        with mounted(url, tmp_path / "mount", cache_dir):
            assert (tmp_path / "mount" / "sub" / "large").read_bytes() == noise(400_000)

    def test_one_that_is_not_there_is_named(self, place: Place) -> None:
        with pytest.raises(NotFoundError, match=r"absent\.tar\.gz") as missing:
            open_archive(f"{place.read_url}/absent.tar.gz")
        assert missing.value.kind == "object-missing"


class TestNginx(ArchiveContract):
    @pytest.fixture
    def place(self, nginx_place: HttpPlace) -> Place:
        return nginx_place


class TestS3(ArchiveContract):
    @pytest.fixture
    def place(self, s3_place: S3Place) -> Place:
        return s3_place


class TestVersitygw(ArchiveContract):
    @pytest.fixture
    def place(self, versitygw_place: BucketPlace) -> Place:
        return versitygw_place


class TestAzure(ArchiveContract):
    # It knows no range that is counted from the end.
    requests = 4

    @pytest.fixture
    def place(self, azure_place: BucketPlace) -> Place:
        return azure_place


class TestGcs(ArchiveContract):
    # So does the stub of Google's service, which sends everything then.
    requests = 4

    @pytest.fixture
    def place(self, gcs_place: BucketPlace) -> Place:
        return gcs_place


def signed(client: ObjectStore, key: str, seconds: int = 600) -> str:
    """Return a URL that gives whoever has it the object for so long."""
    return obstore.sign(client, "GET", key, timedelta(seconds=seconds))  # type: ignore[call-overload, no-any-return]


def secrets_of(url: str) -> list[str]:
    """Return what of a signed URL nobody may see."""
    fields = [field.partition("=") for field in urlsplit(url).query.split("&")]
    return [value for name, _, value in fields if name.lower() in ("x-amz-signature", "x-amz-credential", "sig")]


class SignedContract:
    """Each kind brings its own `place`, and a name that whoever signs URLs there spells as the server does."""

    name = "bundle.tar.gz"
    gets = 2

    def test_an_archive_is_read_by_a_signed_url_that_is_shown_nowhere(
        self, place: BucketPlace, tree: Path, archive: bytes, tmp_path: Path
    ) -> None:
        place.overwrite(self.name, archive)
        url = signed(place.client, self.name)
        secrets = secrets_of(url)
        assert secrets
        run = Sapwood(tmp_path)
        assert run.good("cat", url, "7").out == "7"
        said = [run.good("ls", "--json", url), run.good("pull", "--json", url, tmp_path / "pulled")]
        assert differences(tree, tmp_path / "pulled") == []
        (tmp_path / "mount").mkdir()
        said.append(run.good("mount", "--json", url, tmp_path / "mount"))
        server = os.pidfd_open(said[-1].document["pid"])
        try:
            assert (tmp_path / "mount" / "sub" / "large").read_bytes() == noise(400_000)
            said.append(run.good("mounts", "--json"))
        finally:
            said.append(run.good("umount", tmp_path / "mount"))
            # What it has written is looked at below.
            has_ended, _, _ = select.select([server], [], [], 60)
            os.close(server)
        assert has_ended
        mounts = {mount["path"]: mount["address"] for mount in json.loads(said[3].out)}
        assert mounts[str(tmp_path / "mount")] == f"{url.partition('?')[0]}?…"
        place.overwrite(self.name, archive[:70_000] + bytes(1000) + archive[71_000:])
        said.append(run("pull", url, tmp_path / "another"))
        place.overwrite(self.name, b"nothing")
        said.append(run("ls", url))
        place.remove(self.name)
        said.append(run("ls", url))
        said.append(run("ls", url.replace(secrets[-1], secrets[-1][::-1])))
        assert [one.code != 0 for one in said[-4:]] == [True] * 4, said[-4:]
        logs = [path.read_text() for path in (run.cache / "mounts").rglob("*") if path.is_file()]
        shown = [*logs, *(one.out + one.err for one in said)]
        assert [secret for secret in secrets for text in shown if secret in text] == []

    def test_of_a_file_named_by_signed_urls_the_toc_is_kept(self, place: BucketPlace, archive: bytes) -> None:
        place.overwrite(self.name, archive)
        first, second = signed(place.client, self.name, 600), signed(place.client, self.name, 500)
        assert first != second
        assert [open_archive(url)[0].requests()["get"] for url in (first, second)] == [
            self.gets,
            self.gets - 1,
        ]


class TestVersitygwSigned(SignedContract):
    name = "a bundle+50%.tar.gz"

    @pytest.fixture
    def place(self, versitygw_place: BucketPlace) -> BucketPlace:
        return versitygw_place


class TestAzureSigned(SignedContract):
    gets = 3

    @pytest.fixture
    def place(self, azure_place: BucketPlace) -> BucketPlace:
        return azure_place
