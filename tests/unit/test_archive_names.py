"""What names an archive: whatever a file is called it is read as what it is, and a ref stays a ref."""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import os
import tarfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from sapwood.errors import InvalidInputError, NotFoundError
from sapwood.open import open_tree
from sapwood.store.naming import begins_as, names_archive
from tests.support import stargz
from tests.support.badserver import replying, send
from tests.support.cli import Sapwood
from tests.support.ranges import serve
from tests.support.storeplaces import HttpPlace
from tests.support.trees import differences


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "a").write_text("hello\n")
    return root


@pytest.fixture
def blob(tree: Path, tmp_path: Path) -> Path:
    """A layer as it lies in an OCI layout: its name is its digest."""
    made = stargz.make(tree, tmp_path / "x.tar.gz")
    path = tmp_path / "blobs" / "sha256" / hashlib.sha256(made.read_bytes()).hexdigest()
    path.parent.mkdir(parents=True)
    return made.rename(path)


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    return Sapwood(tmp_path)


def plain_tar(form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        tar.addfile(tarfile.TarInfo("a"))
    return out.getvalue()


def test_a_layer_that_is_called_by_its_digest_is_an_archive_everywhere(
    run: Sapwood, tree: Path, blob: Path, tmp_path: Path
) -> None:
    inside = f"blobs/sha256/{blob.name}"
    for named in (str(blob), f"./{inside}", inside, f"file://{blob}"):
        assert run.good("cat", named, "a").out == "hello\n"
        assert run.good("diff", tree, named).out == "" == run.good("diff", named, tree).out
    run.good("pull", inside, "pulled")
    assert differences(tree, tmp_path / "pulled") == []
    assert run.good("verify", "--json", blob).document["damages"] == []
    run.good("pack", f"./{inside}", "again.tar.gz")
    assert run.good("cat", "again.tar.gz", "a").out == "hello\n"
    assert run.good("tar", inside, "--json", "-o", "a.tar").document["exact"] is False
    (tmp_path / "mount").mkdir()
    run.good("mount", inside, "mount")
    assert (tmp_path / "mount" / "a").read_text() == "hello\n"
    run.good("umount", "mount")


def test_endings_that_others_use_are_as_good(run: Sapwood, blob: Path, tmp_path: Path) -> None:
    for name in ("x.stargz", "x.esgz", "x.tar.gzip", "noending"):
        os.link(blob, tmp_path / name)
        assert run.good("ls", name).out == "a\n"


def test_a_word_means_a_ref_unless_an_archive_is_called_so(run: Sapwood, tree: Path, blob: Path) -> None:
    (tree / "b").write_text("pushed\n")
    run.good("push", tree, "main")
    for content, expected in [(b"no archive", "a\nb\n"), (b"", "a\nb\n"), (blob.read_bytes(), "a\n")]:
        (tree.parent / "main").write_bytes(content)
        assert run.good("ls", "main").out == expected
    assert run.good("ls", "#main").out == "a\nb\n"
    # What takes refs only is not led astray.
    run.good("push", tree, "main")


@pytest.mark.parametrize("content", [b"", b"text\n", b"{}" * 600, bytes(range(256)) * 4])
@pytest.mark.parametrize("name", ["text", "text.tar.gz"])
def test_a_file_that_is_no_archive_is_said_to_be_none(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=name) as refused:
        open_tree(str(tmp_path / name))
    assert refused.value.kind == "no-archive"


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress])
def test_what_cannot_be_entered_names_the_way_out(run: Sapwood, tmp_path: Path, compress: object) -> None:
    (tmp_path / "x.tar.other").write_bytes(compress(plain_tar()))  # type: ignore[operator]
    with pytest.raises(InvalidInputError) as refused:
        open_tree(str(tmp_path / "x.tar.other"))
    assert refused.value.kind == "archive-not-seekable"
    assert f"sapwood convert {tmp_path / 'x.tar.other'}" in (refused.value.hint or "")
    run.good("convert", "x.tar.other", "x.tar.gz")
    assert run.good("ls", "x.tar.gz").out == "a\n"


def test_every_kind_of_tar_is_told_by_its_first_block(tmp_path: Path) -> None:
    v7 = bytearray(plain_tar(tarfile.USTAR_FORMAT)[:512])
    v7[257:512] = bytes(255)
    v7[148:156] = b"%06o\0 " % (sum(v7[:148]) + 8 * 32 + sum(v7[156:]))
    for first in (plain_tar(), plain_tar(tarfile.GNU_FORMAT), bytes(v7), bytes(1024)):
        assert begins_as(first) == "tar"
    assert begins_as(plain_tar()[:511]) is None
    (tmp_path / "bundle").write_bytes(plain_tar())
    Sapwood(tmp_path).good("index", "bundle")
    assert [path for path, _ in open_tree(str(tmp_path / "bundle")).list()] == [b"a"]


def test_a_directory_a_fifo_and_what_is_missing_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in (".", "fifo", "missing"):
        assert not names_archive(str(tmp_path / name))
    assert not names_archive(f"{tmp_path}#main")


def test_by_url_a_blob_needs_no_ending(run: Sapwood, blob: Path, tmp_path: Path) -> None:
    data = blob.read_bytes()
    path = f"/v2/library/x/blobs/sha256:{blob.name}"

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.partition("?")[0] == path:
            serve(handler, data)
        else:
            send(handler, 404)

    with replying(reply) as url:
        for query in ("", "?token=secret"):
            assert run.good("cat", f"{url}{path}{query}", "a").out == "hello\n"
        assert run.good("verify", "--json", f"{url}{path}").document["packs"] == 1
        (tmp_path / "mount").mkdir()
        run.good("mount", f"{url}{path}", "mount")
        assert (tmp_path / "mount" / "a").read_text() == "hello\n"
        run.good("umount", "mount")


def test_a_url_that_lacks_its_ref_is_said_to(
    run: Sapwood, tree: Path, blob: Path, nginx_place: HttpPlace, tmp_path: Path
) -> None:
    run.good("push", tree, f"{nginx_place.url}/store#main")
    there = f"{nginx_place.read_url}/store"
    for url in (there, f"{nginx_place.read_url}/missing"):
        with pytest.raises(InvalidInputError) as refused:
            open_tree(url)
        assert refused.value.kind == "bad-address"
        assert f"{url}#main" in (refused.value.hint or "")
    with pytest.raises(NotFoundError):
        open_tree(f"{nginx_place.read_url}/missing.tar.gz")
    assert run.good("ls", f"{there}#main").out == "a\n"
    (Path(nginx_place.url) / blob.name).write_bytes(blob.read_bytes())
    assert run.good("ls", f"{nginx_place.read_url}/{blob.name}").out == "a\n"


def test_a_page_is_no_archive_and_what_is_signed_is_not_shown() -> None:
    with (
        replying(lambda handler: serve(handler, b"<html>There is nothing here.</html>\n" * 20)) as url,
        pytest.raises(InvalidInputError) as refused,
    ):
        open_tree(f"{url}/blob?token=secret")
    assert refused.value.kind == "bad-address"
    assert "secret" not in f"{refused.value}{refused.value.hint}"


def test_every_command_that_reads_an_archive_takes_its_index_and_its_toc(run: Sapwood, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(plain_tar())
    run.good("index", "a.tar", "--output", "elsewhere")
    by = ("--seek-index", "elsewhere")
    assert run.good("verify", "--json", *by, "a.tar").document["damages"] == []
    run.good("pack", *by, "a.tar", "b.tar.gz")
    run.good("tar", *by, "a.tar", "-o", "b.tar")
    assert run.good("ls", "b.tar.gz").out == "a\n"
    for words in (("verify",), ("pack", "tree", "c.tar.gz")):
        (tmp_path / "tree").mkdir(exist_ok=True)
        refused = run(*words, *by)
        assert (refused.code, "no archive" in refused.err) == (2, True)
