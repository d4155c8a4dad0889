"""Archives that go straight into a bucket: what fails or is cancelled leaves neither an object nor parts of one."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

import pytest

from sapwood.errors import InvalidInputError, NotFoundError, UnavailableError
from sapwood.pack import Choices, pack
from sapwood.progress import Progress
from sapwood.store.objects import open_objects
from tests.support.storeplaces import S3Place
from tests.support.trees import MIB, noise


class Enough(Exception):
    pass


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Contents for several parts."""
    (tmp_path / "tree").mkdir()
    for number in range(24):
        (tmp_path / "tree" / f"large-{number}").write_bytes(noise(4 * MIB, number))
    return tmp_path / "tree"


def unfinished(place: S3Place) -> list[str]:
    """The keys of uploads that have begun and neither ended nor been aborted."""
    request = urllib.request.Request(
        f"{place.server}/{place.bucket}?uploads", headers={"Authorization": "AWS tester:unchecked"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return re.findall(r"<Key>(.*?)</Key>", reply.read().decode())


def until_begun(place: S3Place) -> None:
    """Wait until there is something to abort."""
    while unfinished(place) != ["some/prefix/a.tar.gz"]:
        time.sleep(0.02)


@pytest.mark.parametrize("after", [0, 20 * MIB, 40 * MIB])
def test_a_pack_that_is_cancelled_leaves_no_parts(s3_place: S3Place, tree: Path, after: int) -> None:
    def cancel(progress: Progress) -> None:
        if progress.bytes_done >= after:
            if after == 40 * MIB:
                until_begun(s3_place)
            raise Enough

    with pytest.raises(Enough):
        pack(tree, f"{s3_place.url}/a.tar.gz", Choices(level=12), progress=cancel)
    assert unfinished(s3_place) == []
    assert not open_objects(s3_place.url)[0].exists("a.tar.gz")


def test_a_pack_that_fails_leaves_no_parts(s3_place: S3Place, tree: Path) -> None:
    last = tree / "large-9"

    def change(progress: Progress) -> None:
        # Before it is read, and that waits for parts that are sent before.
        if progress.bytes_done >= 20 * MIB and last.is_file():
            until_begun(s3_place)
            last.unlink()
            last.mkdir()

    with pytest.raises(UnavailableError) as failed:
        pack(tree, f"{s3_place.url}/a.tar.gz", Choices(level=12), progress=change)
    assert failed.value.kind == "file-changing"
    assert unfinished(s3_place) == []
    assert not open_objects(s3_place.url)[0].exists("a.tar.gz")


def test_more_than_an_upload_takes_is_refused_before_the_server_does(
    s3_place: S3Place, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sapwood.sink._MOST", 50 * MIB)
    with pytest.raises(InvalidInputError, match="the most that is uploaded") as refused:
        pack(tree, f"{s3_place.url}/a.tar.gz", Choices(level=1))
    assert refused.value.kind == "object-too-large"
    assert unfinished(s3_place) == []
    assert not open_objects(s3_place.url)[0].exists("a.tar.gz")


def test_a_bucket_that_is_not_there_is_told(s3_place: S3Place, tree: Path) -> None:
    with pytest.raises(NotFoundError):
        pack(tree, "s3://nobody-has-this/a.tar.gz")


def test_the_archive_in_a_bucket_is_that_of_a_file(s3_place: S3Place, tree: Path, tmp_path: Path) -> None:
    pack(tree, f"{s3_place.url}/a.tar.gz", Choices(level=0))
    pack(tree, str(tmp_path / "a.tar.gz"), Choices(level=0))
    assert open_objects(s3_place.url)[0].get("a.tar.gz") == (tmp_path / "a.tar.gz").read_bytes()
    assert unfinished(s3_place) == []
