"""`pack` and `convert`: archives that keep the rules, that others unpack, and that are always the same."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sapwood.errors import CorruptError, InvalidInputError, NotFoundError, UnavailableError
from sapwood.pack import Choices, convert, pack
from sapwood.store.objects import open_objects
from tests.support.archives import assert_rules, digest, open_stargz, zlib_all
from tests.support.cli import Sapwood
from tests.support.nobody import nobodys_directory, sapwood_as_nobody
from tests.support.storeplaces import S3Place
from tests.support.trees import LARGE, look, make_hard, noise


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hard(tmp_path_factory.mktemp("hard") / "tree")


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip of two members": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]) + bytes(512),
    "zstd": zstd,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def a_tar(*entries: tuple[str, bytes | None]) -> bytes:
    """A tar of files with these contents, and of directories."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()


def test_a_packed_tree_keeps_the_rules_and_tar_unpacks_all_of_it(hard: Path, tmp_path: Path) -> None:
    written = pack(hard, str(tmp_path / "a.tar.gz"))
    data = (tmp_path / "a.tar.gz").read_bytes()
    opened = assert_rules(data)
    assert (written.toc, written.tar, written.size) == (digest(opened.toc), digest(zlib_all(data)), len(data))
    assert written.tar_size == len(zlib_all(data))
    (tmp_path / "again").mkdir()
    subprocess.run(
        ["tar", "-xzpf", tmp_path / "a.tar.gz", "--xattrs", "--xattrs-include=*", "--exclude=stargz.index.json"],
        cwd=tmp_path / "again", check=True, capture_output=True,
    )  # fmt: skip
    # A tar that everybody unpacks has no holes.
    before = {path: replace(facts, holes=()) for path, facts in look(hard).items()}
    assert {path: replace(facts, holes=()) for path, facts in look(tmp_path / "again").items()} == before


def test_the_toc_says_where_holes_were(hard: Path, tmp_path: Path) -> None:
    pack(hard, str(tmp_path / "a.tar.gz"))
    entries = {
        entry["name"]: entry
        for entry in open_stargz((tmp_path / "a.tar.gz").read_bytes()).entries
        if entry["type"] != "chunk"
    }
    assert entries["sparse/large-all"]["holes"] == [[0, 5 << 20]]
    assert "holes" not in entries["contents/text"]


def test_a_tree_and_its_tar_give_the_same_files(hard: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["tar", "--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "-cf", tmp_path / "t.tar", "."],
        cwd=hard, check=True, capture_output=True,
    )  # fmt: skip
    pack(hard, str(tmp_path / "packed.tar.gz"))
    convert(str(tmp_path / "t.tar"), str(tmp_path / "converted.tar.gz"))

    def told(name: str) -> dict[str, object]:
        opened = assert_rules((tmp_path / name).read_bytes())
        places = ("offset", "holes", "linkName", "type", "xattrs", "digest", "size", "chunkDigest", "chunkSize")
        first = {entry["linkName"] for entry in opened.entries if entry["type"] == "hardlink"}
        return {
            entry["name"]: {key: value for key, value in entry.items() if key not in places[:1]}
            for entry in opened.entries
            if entry["type"] not in ("chunk", "hardlink") and entry["name"] not in first
        }

    packed, converted = told("packed.tar.gz"), told("converted.tar.gz")
    linked = packed.keys() ^ converted.keys()
    assert all(name.startswith(("links/", "privileged/disk")) for name in linked)
    assert {name: packed[name] for name in packed.keys() - linked} == {
        name: converted[name] for name in converted.keys() - linked
    }


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_every_compression_of_a_tar_gives_the_same_archive(tmp_path: Path, name: str) -> None:
    tar = a_tar(("d", None), ("d/a", b"a\n" * 5000), ("d/b", noise(LARGE + 5)))
    (tmp_path / "plain").write_bytes(tar)
    (tmp_path / "in").write_bytes(COMPRESSIONS[name](tar))
    convert(str(tmp_path / "plain"), str(tmp_path / "expected"))
    convert(str(tmp_path / "in"), str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()
    assert_rules((tmp_path / "out").read_bytes())


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_tar_cut_anywhere_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    whole = COMPRESSIONS[name](a_tar(("a", b"a\n" * 5000), ("b", noise(5000))))
    for cut in (5, len(whole) // 3, len(whole) // 2):
        (tmp_path / "in").write_bytes(whole[:cut])
        with pytest.raises(CorruptError) as refused:
            convert(str(tmp_path / "in"), str(tmp_path / "out"))
        assert refused.value.kind == "archive-corrupt"
        assert os.listdir(tmp_path) == ["in"]


def test_flipped_bytes_of_the_compression_are_refused(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(a_tar(("a", noise(5000)))))
    whole[-6] ^= 1  # of the sum
    (tmp_path / "in").write_bytes(whole)
    with pytest.raises(CorruptError, match="in is damaged"):
        convert(str(tmp_path / "in"), str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ((("../a", b""),), r"\.\./a .*may lead outside"),
        ((("a", b""), ("a/b", b"")), "a/b lies below a, which is no directory"),
    ],
)
def test_what_cannot_be_unpacked_is_refused_by_name(
    tmp_path: Path, entries: tuple[tuple[str, bytes]], said: str
) -> None:
    (tmp_path / "in").write_bytes(a_tar(*entries))
    with pytest.raises(CorruptError, match=said):
        convert(str(tmp_path / "in"), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["in"]


def test_of_a_name_twice_the_last_wins_and_links_keep_what_they_meant(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content, link in (
            ("a", b"old", ""),
            ("forward", b"", "z"),
            ("kept", b"", "a"),
            ("also", b"", "kept"),
            ("a", b"new", ""),
            ("z", b"last", ""),
        ):
            info = tarfile.TarInfo(name)
            info.size, info.linkname = len(content), link
            info.type = tarfile.LNKTYPE if link else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(content))
    (tmp_path / "in").write_bytes(out.getvalue())
    convert(str(tmp_path / "in"), str(tmp_path / "out"))
    opened = assert_rules((tmp_path / "out").read_bytes())
    assert [(entry["name"], entry["type"], entry.get("linkName")) for entry in opened.entries] == [
        ("kept", "reg", None),
        ("also", "hardlink", "kept"),
        ("a", "reg", None),
        ("z", "reg", None),
        ("forward", "hardlink", "z"),
    ]
    with tarfile.open(tmp_path / "out") as tar:
        assert {name: tar.extractfile(name).read() for name in ("kept", "also", "a", "forward")} == {  # type: ignore[union-attr]
            "kept": b"old",
            "also": b"old",
            "a": b"new",
            "forward": b"last",
        }


def test_an_archive_made_of_an_archive_is_that_archive(hard: Path, tmp_path: Path) -> None:
    first = pack(hard / "contents", str(tmp_path / "a.tar.gz"))
    second = convert(str(tmp_path / "a.tar.gz"), str(tmp_path / "b.tar.gz"))
    assert (second.toc, second.tar, second.size) == (first.toc, first.tar, first.size)
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    assert second.left_out == (b"stargz.index.json",)


def test_neither_threads_nor_names_of_places_change_the_bytes(hard: Path, tmp_path: Path) -> None:
    pack(hard / "contents", str(tmp_path / "a"))
    alone = Choices()
    alone.threads = 1
    (tmp_path / "moved").symlink_to(hard / "contents")
    pack(tmp_path / "moved", str(tmp_path / "b"), alone)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def grown(root: Path, order: Callable[[list[str]], list[str]]) -> Path:
    """Make a tree, entry by entry in this order, so that directories list their entries otherwise."""
    root.mkdir()
    files = [f"dir-{number % 3}/{number}" for number in range(200)]
    for name in order(files):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(noise(100 + 40_000 * (len(name) % 2), len(name)))
    first, second = order(["first", "second"])
    (root / first).write_text("two names\n")
    (root / second).hardlink_to(root / first)
    for path in [*sorted(root.rglob("*"), reverse=True), root]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    return root


@pytest.mark.parametrize("options", [("--reproducible",), ("--zstd",), ("--min-chunk-size", "300000")])
def test_the_same_tree_gives_the_same_bytes_whoever_packs_it_wherever(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    with nobodys_directory() as place:
        trees = [grown(place / "one", list), grown(place / "two", lambda names: names[::-1])]
        run = Sapwood(place)
        subprocess.run(run.command("pack", *options, trees[0], "a"), cwd=place, env=run.environment, check=True)
        elsewhere = {
            "TZ": "Pacific/Chatham",
            "LC_ALL": "C",
            "TMPDIR": str(place),
            "HOME": "/",
            "SAPWOOD_CACHE": "/none",
        }
        subprocess.run(
            ["taskset", "-c", "0", *run.command("pack", *options, trees[1], "b")],
            cwd=place, env=run.environment | elsewhere, umask=0o077, check=True,
        )  # fmt: skip
        monkeypatch.setenv("TZ", "America/St_Johns")
        assert sapwood_as_nobody("pack", *options, trees[1], place / "c").code == 0
        assert len({(place / name).read_bytes() for name in "abc"}) == 1


def test_an_archive_in_the_directory_that_is_packed_is_as_one_beside_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    (tree / "folder" / "a").write_bytes(noise(1000))
    os.utime(tree / "folder", ns=(1, 1))
    pack(tree, str(tmp_path / "beside"))
    for _ in range(2):
        pack(tree, str(tree / "folder" / "out"))
        assert (tree / "folder" / "out").read_bytes() == (tmp_path / "beside").read_bytes()
        os.utime(tree / "folder", ns=(1, 1))
    said = subprocess.run(
        ["sh", "-c", '"$@" > out', "sh", *Sapwood(tmp_path).command("pack", ".", "-")],
        cwd=tree, env=Sapwood(tmp_path).environment, capture_output=True, check=True,
    )  # fmt: skip
    assert said.stdout == b""
    with tarfile.open(tree / "out") as tar:
        assert tar.getnames() == [".", "folder", "folder/a", "folder/out", "stargz.index.json"]


def test_another_name_of_an_archive_that_is_replaced_stays_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"before")
    os.link(tmp_path / "out", tmp_path / "z")
    pack(tmp_path, str(tmp_path / "out"))
    with tarfile.open(tmp_path / "out") as tar:
        assert tar.getnames() == [".", "z", "stargz.index.json"]
        assert tar.getmember("z").isreg()


def test_a_name_that_becomes_another_file_is_no_link_to_what_it_was(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(noise(64 << 20))
    (tree / "b").write_bytes(b"old")
    os.link(tree / "b", tree / "c")
    (tmp_path / "new").write_bytes(b"new")
    os.mkfifo(tmp_path / "out")
    with ThreadPoolExecutor() as pool:
        packing = pool.submit(pack, tree, str(tmp_path / "out"), Choices(level=0))
        with open(tmp_path / "out", "rb") as out:
            # The scan is over by now, and before `c` comes more than a pipe and the writer hold.
            assert out.read(1)
            os.rename(tmp_path / "new", tree / "c")
            while out.read(1 << 20):
                pass
        with pytest.raises(UnavailableError) as failed:
            packing.result()
    assert failed.value.kind == "file-changing"


@pytest.mark.parametrize("nameless", [True, False])
def test_an_archive_has_the_permissions_of_the_file_that_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, nameless: bool
) -> None:
    if not nameless:
        monkeypatch.setattr("sapwood.sink.open_nameless", lambda *_: None)
    (tmp_path / "tree").mkdir()
    for mode in (0o600, 0o666, 0o640):
        (tmp_path / "out").write_bytes(b"")
        (tmp_path / "out").chmod(mode)
        pack(tmp_path / "tree", str(tmp_path / "out"))
        assert (tmp_path / "out").stat().st_mode & 0o7777 == mode
        assert (tmp_path / "out").stat().st_size > 0
    assert sorted(os.listdir(tmp_path)) == ["out", "tree"]


def test_as_many_threads_are_used_as_may_run_and_eight_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for running, used in (({5}, 1), (set(range(64)), 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, running=running: running)
        assert Choices().threads == used


def test_what_is_prioritized_comes_first_with_its_directories_and_a_landmark(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d" / "e").mkdir(parents=True)
    for name in ("a", "d/b", "d/e/c"):
        (tree / name).write_text(name)
    (tree / "z").hardlink_to(tree / "a")
    choices = Choices(prioritize=["./d/e/c", "z", "missing"])
    written = pack(tree, str(tmp_path / "a.tar.gz"), choices)
    assert written.absent == (b"missing",)
    opened = assert_rules((tmp_path / "a.tar.gz").read_bytes())
    order = [".", "a", "d", "d/e", "d/e/c", "z", ".prefetch.landmark", "d/b"]
    assert [entry["name"] for entry in opened.entries] == order
    assert opened.members[opened.entries[6]["offset"]].startswith(b"\x0f")
    # Of a tar as of a directory; its own landmark is not kept.
    convert(str(tmp_path / "a.tar.gz"), str(tmp_path / "b.tar.gz"), choices)
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()


def test_min_chunk_size_lets_small_files_share_members(hard: Path, tmp_path: Path) -> None:
    pack(hard / "contents", str(tmp_path / "a"))
    pack(hard / "contents", str(tmp_path / "b"), Choices(min_chunk_size=100_000))
    shared = assert_rules((tmp_path / "b").read_bytes(), inner=True)
    assert any("innerOffset" in entry for entry in shared.entries)
    assert len(shared.members) < len(open_stargz((tmp_path / "a").read_bytes()).members) / 3


def test_compatible_times_are_whole_seconds(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").touch()
    os.utime(tmp_path / "tree" / "a", ns=(0, 1_500_000_000))
    for compatible, said in ((False, "1970-01-01T00:00:01.5Z"), (True, "1970-01-01T00:00:02Z")):
        pack(tmp_path / "tree", str(tmp_path / "out"), Choices(compatible_times=compatible))
        assert open_stargz((tmp_path / "out").read_bytes()).entries[1]["modtime"] == said


def test_zstd_archives_are_the_same_tar(hard: Path, tmp_path: Path) -> None:
    written = pack(hard / "contents", str(tmp_path / "a.tar.zst"), Choices(zstd=True))
    plain = subprocess.run(["zstd", "-dc", tmp_path / "a.tar.zst"], capture_output=True, check=True).stdout
    assert (digest(plain), len(plain)) == (written.tar, written.tar_size)
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert len(tar.getmembers()) == written.entries
    said = dict(written.annotations)
    former = {
        name: said.pop(f"io.containers.zstd-chunked.{name}") for name in ("manifest-checksum", "manifest-position")
    }
    assert said == {f"io.github.containers.zstd-chunked.{name}": value for name, value in former.items()} | {
        "io.github.containers.zstd-chunked.tarsplit-position": said[
            "io.github.containers.zstd-chunked.tarsplit-position"
        ]
    }


@pytest.mark.parametrize(
    "choices",
    [
        Choices(level=13),
        Choices(zstd=True, level=20),
        Choices(chunk_size=4_000_000),
        Choices(chunk_size=1000),
        Choices(zstd=True, min_chunk_size=5),
    ],
)
def test_choices_that_cannot_be_are_refused_and_leave_what_was_there(tmp_path: Path, choices: Choices) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "out").write_text("before")
    with pytest.raises(InvalidInputError) as refused:
        pack(tmp_path / "tree", str(tmp_path / "out"), choices)
    assert refused.value.kind == "invalid"
    assert (tmp_path / "out").read_text() == "before"
    assert sorted(os.listdir(tmp_path)) == ["out", "tree"]


def test_a_number_below_zero_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="level cannot be -1"):
        Choices(level=-1)


def test_places_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for where, kind in (
        ("https://host/a.tar.gz", "bad-destination"),
        ("s3://bucket", "bad-destination"),
        (str(tmp_path), "is-a-directory"),
    ):
        with pytest.raises(InvalidInputError) as refused:
            pack(tmp_path / "tree", where)
        assert refused.value.kind == kind
    with pytest.raises(NotFoundError, match="is missing"):
        pack(tmp_path / "tree", str(tmp_path / "no" / "where"))
    with pytest.raises(InvalidInputError) as refused:
        convert(str(tmp_path), str(tmp_path / "out"))
    assert refused.value.kind == "not-a-file"


def test_an_archive_goes_through_pipes(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "in").write_bytes(lzma.compress(a_tar(("a", noise(300_000)))))
    convert(str(tmp_path / "in"), str(tmp_path / "expected"))
    piped = subprocess.run(
        ["sh", "-c", 'cat in | "$@" | cat', "sh", *run.command("convert", "-", "-")],
        cwd=tmp_path, env=run.environment, capture_output=True, check=True,
    )  # fmt: skip
    assert piped.stdout == (tmp_path / "expected").read_bytes()


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "in").write_bytes(a_tar(("a", noise(3_000_000))))
    said = subprocess.run(
        ["bash", "-c", '"$@" | head -c 5 >&2; echo "${PIPESTATUS[0]}"', "bash", *run.command("convert", "in", "-")],
        cwd=tmp_path, env=run.environment, capture_output=True, check=True,
    )  # fmt: skip
    assert said.stdout == b"141\n"
    assert len(said.stderr) == 5


def test_stdout_takes_one_thing(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    said = run("pack", "--json", "tree", "-")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("sapwood: stdout takes the archive or the report, not both")


def test_every_choice_of_the_command_is_heeded(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(noise(300_000))
    (tmp_path / "tree" / "b").write_bytes(b"b" * 300_000)
    run.good("pack", "tree", "usual")
    usual = (tmp_path / "usual").read_bytes()
    (tmp_path / "list").write_text("b\n\n")
    for words in (
        ("--level", "1"),
        ("--chunk-size", "65536"),
        ("--min-chunk-size", "1000000"),
        ("--zstd",),
        ("--compatible-times",),
        ("--prioritize", "list"),
    ):
        run.good("pack", *words, "tree", "other")
        assert (tmp_path / "other").read_bytes() != usual, words
    run.good("pack", "--reproducible", "tree", "other")
    assert (tmp_path / "other").read_bytes() == usual
    for words, said in (
        (("--level", "13"), "level 13"),
        (("--zstd", "--level", "0"), "level 0"),
        (("--chunk-size", "5"), "the size of chunks"),
        (("--chunk-size", "-5"), "chunk_size cannot be -5"),
        (("--min-chunk-size", "99999999999"), "min_chunk_size cannot be"),
        (("--prioritize", "missing"), "missing is missing"),
    ):
        refused = run("pack", *words, "tree", "refused")
        assert refused.code in (2, 3), refused
        assert said in refused.err
        assert not (tmp_path / "refused").exists()


def test_the_command_prints_the_digest_of_the_toc_and_tells_the_rest(tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "stargz.index.json").write_text("{}")
    (tmp_path / "list").write_text("nothing\n")
    said = run.good("pack", "--prioritize", "list", "tree", "out.tar.gz")
    assert said.out == digest(open_stargz((tmp_path / "out.tar.gz").read_bytes()).toc) + "\n"
    assert "left out, archives have it for themselves: stargz.index.json\n" in said.err
    assert "not there to be first: nothing\n" in said.err
    assert json.loads(run.good("convert", "--json", "out.tar.gz", "b.tar.gz").out)["leftOut"] == ["stargz.index.json"]


def test_what_an_address_names_is_packed_as_its_directory_is(hard: Path, tmp_path: Path) -> None:
    run = Sapwood(tmp_path)
    run.good("push", hard, "main")
    # Times, holes and all.
    for zstd in (False, True):
        packed = pack(hard, str(tmp_path / "a"), Choices(zstd=zstd))
        again = pack(f"{run.store}#main", str(tmp_path / "b"), Choices(zstd=zstd))
        assert (again.tar, again.entries) == (packed.tar, packed.entries)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        assert zstd or b'"holes"' in open_stargz((tmp_path / "b").read_bytes()).toc
    said = run("pack", "missing", "c.tar.gz")
    assert said.code == 3
    assert not list(tmp_path.glob("*.sapwood-partial"))


def test_an_archive_goes_straight_into_a_bucket(s3_place: S3Place, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "large").write_bytes(noise(40 << 20))
    url = s3_place.url
    pack(tmp_path / "tree", f"{url}/a.tar.gz")
    pack(tmp_path / "tree", str(tmp_path / "a.tar.gz"))
    assert open_objects(url)[0].get("a.tar.gz") == (tmp_path / "a.tar.gz").read_bytes()
