"""Archives with a TOC that containerd's library, containers/storage and skopeo wrote are read as the tree they hold."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.conftest import Programs
from tests.support.archives import assert_rules
from tests.support.cli import Sapwood
from tests.support.estargz import told
from tests.support.oci import copied, layer_of, layout
from tests.support.trees import Facts, look

LANDMARKS = (b".prefetch.landmark", b".no.prefetch.landmark")
BY_CONTAINERD: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "in small chunks": ("-chunk-size", "70000"),
    "shared members": ("-min-chunk-size", "100000"),
    "prioritized": ("-prioritize", "./links/a/one,contents/text"),
    "zstd": ("-zstd",),
}


@pytest.fixture(scope="module")
def tar(spelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of the tree of which nothing is lost but second names of what is neither file nor link."""
    out = tmp_path_factory.mktemp("tar") / "tree.tar"
    subprocess.run(["tar", "--format=pax", "--xattrs", "--xattrs-include=*", "-cf", out, "."], cwd=spelled, check=True)
    return out


def _all(facts: Facts) -> Facts:
    return facts


def _rounded(facts: Facts) -> Facts:
    # Half a second and more go up.
    return replace(facts, mtime_ns=(facts.mtime_ns + 500_000_000) // 10**9 * 10**9)


def _without_empty_attributes(facts: Facts) -> Facts:
    return replace(facts, xattrs=tuple((name, value) for name, value in facts.xattrs if value))


def _archived(facts: Facts) -> Facts:
    names = facts.names if stat.S_ISREG(facts.mode) or stat.S_ISLNK(facts.mode) else ()
    return replace(facts, names=names, holes=())


def _but_landmarks(said: str) -> list[str]:
    return [line for line in said.splitlines() if "prefetch.landmark" not in line]


def _assert_same_tree(
    sapwood: Sapwood,
    archive: Path,
    root: Path,
    out: Path,
    keeps: Callable[[Facts], Facts] = _all,
    toc: Sequence[str | Path] = (),
) -> None:
    """Hold what comes out of an archive against the directory it was made of, in all ways to read it."""
    wanted = {path: keeps(_archived(facts)) for path, facts in look(root).items()}
    sapwood.good("pull", *toc, archive, out)
    for name in LANDMARKS:
        (out / name.decode()).unlink(missing_ok=True)
    found = {path: replace(facts, holes=()) for path, facts in look(out).items()}
    # The landmark was unlinked, or is the reason why its directory has another time.
    found[b"."] = replace(found[b"."], mtime_ns=wanted[b"."].mtime_ns)
    assert found == wanted
    said = sapwood("diff", *toc, archive, root)
    assert (said.code in (0, 1), said.err, _but_landmarks(said.out)) == (True, "", [])
    listed = _but_landmarks(sapwood.good("ls", "-R", *toc, archive).out)
    assert listed == sapwood.good("ls", "-R", root).out.splitlines()
    assert sapwood.good("cat", *toc, archive, "contents/text").out == (root / "contents/text").read_text()


@pytest.mark.parametrize("variant", BY_CONTAINERD)
def test_what_the_library_of_containerd_built_is_the_tree_it_was_built_of(
    programs: Programs, sapwood: Sapwood, spelled: Path, tar: Path, tmp_path: Path, variant: str
) -> None:
    archive = tmp_path / ("a.tar.zst" if variant == "zstd" else "a.tar.gz")
    programs("estargz", "build", *BY_CONTAINERD[variant], tar, archive)
    sapwood.good("verify", archive)
    _assert_same_tree(sapwood, archive, spelled, tmp_path / "out", _rounded)


def test_an_archive_of_containerd_whose_toc_lies_elsewhere_is_the_tree_it_was_built_of(
    programs: Programs, sapwood: Sapwood, spelled: Path, tar: Path, tmp_path: Path
) -> None:
    archive, toc = tmp_path / "a.tar.gz", tmp_path / "a.toc"
    programs("estargz", "build", "-toc", toc, tar, archive)
    _assert_same_tree(sapwood, archive, spelled, tmp_path / "out", _rounded, ("--toc", toc))


@pytest.mark.parametrize("variant", ["in small chunks", "shared members"])
def test_an_archive_of_containerd_is_made_one_that_everybody_reads(
    programs: Programs, sapwood: Sapwood, tar: Path, tmp_path: Path, variant: str
) -> None:
    theirs, ours = tmp_path / "theirs.tar.gz", tmp_path / "ours.tar.gz"
    before = programs("estargz", "build", *BY_CONTAINERD[variant], tar, theirs).strip()
    toc = sapwood.good("convert", "--compatible-times", theirs, ours).out.strip()
    assert_rules(ours.read_bytes())
    shared = ["-shared"] if variant == "shared members" else []
    wanted = told(programs("estargz", "read", *shared, theirs, before))
    # Its landmark is not kept.
    assert wanted.pop(".no.prefetch.landmark").content[0] == 1
    assert told(programs("estargz", "read", ours, toc)) == wanted


def test_an_archive_of_containers_storage_is_made_one_that_it_reads(
    programs: Programs, sapwood: Sapwood, tar: Path, tmp_path: Path
) -> None:
    programs("chunked", "build", tar, tmp_path / "theirs.tar.zst")
    ours = tmp_path / "ours.tar.zst"
    said = sapwood.good("convert", "--json", "--zstd", tmp_path / "theirs.tar.zst", ours).document
    (tmp_path / "out").mkdir()
    again = json.loads(programs("chunked", "apply", ours, tmp_path / "out", stdin=json.dumps(said["annotations"])))
    # Of what was pulled.
    assert (again["tar"], again["size"]) == (said["tar"], said["tarSize"])


def test_what_containers_storage_wrote_is_the_tree_it_was_made_of(
    programs: Programs, sapwood: Sapwood, spelled: Path, tar: Path, tmp_path: Path
) -> None:
    programs("chunked", "build", tar, tmp_path / "a.tar.zst")
    sapwood.good("verify", tmp_path / "a.tar.zst")
    _assert_same_tree(sapwood, tmp_path / "a.tar.zst", spelled, tmp_path / "out")


def test_what_skopeo_recompressed_is_the_tree_it_was_made_of(
    sapwood: Sapwood, spelled: Path, tar: Path, tmp_path: Path
) -> None:
    layout(tmp_path / "plain", tar)
    copied(tmp_path / "plain", f"oci:{tmp_path}/chunked:latest", "--dest-compress-format", "zstd:chunked")
    shutil.copy(layer_of(tmp_path / "chunked"), tmp_path / "a.tar.zst")
    _assert_same_tree(sapwood, tmp_path / "a.tar.zst", spelled, tmp_path / "out", _without_empty_attributes)
