"""`sapwood cp` and its ways to say from where and to where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Sapwood


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    """A sapwood whose default store has a few refs."""
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    for ref in ("main", "ci/1", "ci/2"):
        (tmp_path / "tree" / "a").write_text(ref)
        run.good("push", "tree", ref)
    return run


def names(run: Sapwood, store: str) -> list[str]:
    return [ref["name"] for ref in run.good("refs", "--json", store).document]


def test_a_ref_keeps_its_name_or_gets_the_one_that_is_given(run: Sapwood) -> None:
    said = run.good("cp", "main", "other")
    assert said.out.startswith(f"{run.home}/other#main@sha256:") or said.out.startswith("other#main@sha256:")
    assert said.err.startswith("main: 1 chunk, ")
    run.good("cp", "main", "other#renamed/twice")
    assert names(run, "other") == ["main", "renamed/twice"]
    assert run.good("cp", "main", "other").err == "main: nothing to copy\n"
    run.good("pull", f"{run.home}/other#main", "copy")
    assert (run.home / "copy" / "a").read_text() == "main"


def test_a_pinned_snapshot_is_copied_whatever_its_ref_says_by_now(run: Sapwood) -> None:
    before = run.good("log", "--json", "main").document[0]["snapshot"]
    (run.home / "tree" / "a").write_text("newer")
    run.good("push", "tree", "main")
    [copied] = run.good("cp", "--json", f"main@{before}", "other#old").document["copied"]
    assert (copied["ref"], copied["from"].partition("#")[2]) == ("old", f"main@{before}")
    run.good("pull", f"{run.home}/other#old", "copy")
    assert (run.home / "copy" / "a").read_text() == "main"


def test_a_whole_store_and_a_pattern_are_many_refs(run: Sapwood) -> None:
    said = run.good("cp", "--json", f"{run.store}#ci/*", "some").document
    assert [copied["ref"] for copied in said["copied"]] == ["ci/1", "ci/2"] == names(run, "some")
    assert said["requestsTo"]["put"] > 0 == said["requestsFrom"]["put"]
    run.good("cp", run.store, "all")
    assert names(run, "all") == ["ci/1", "ci/2", "main"]


@pytest.mark.parametrize(
    ("source", "target", "code", "message"),
    [
        ("STORE", "other#one", 2, "may be many refs"),
        ("STORE#*", "other#one", 2, "may be many refs"),
        ("main", "other#one@sha256:" + "0" * 64, 2, "is pinned to one snapshot"),
        ("main", "other#b//ad", 2, "cannot be a ref's name"),
        ("main", "https://host.invalid/x", 6, "host.invalid"),
        ("none", "other", 3, "has no ref none"),
        ("STORE#x*", "other", 3, "has no ref that matches x*"),
        ("nothing#main", "other", 2, "not a store"),
    ],
)
def test_what_cannot_be_copied_is_said_and_no_store_is_made(
    run: Sapwood, source: str, target: str, code: int, message: str
) -> None:
    said = run("cp", source.replace("STORE", str(run.store)), target)
    assert (said.code, said.out) == (code, "")
    assert message in said.err
    assert "hint:" in said.err or code == 6
    assert not (run.home / "other").exists()


def test_nothing_is_copied_to_where_nothing_can_be_written(run: Sapwood) -> None:
    from tests.support.webserver import serving

    run.good("cp", "main", "served")
    with serving(run.home / "served") as url:
        said = run("cp", "main", f"{url}#other")
        assert (said.code, "can only be read" in said.err) == (2, True)
        run.good("cp", f"{url}#main", "third")
