"""Which store a command means; what is refused rather than guessed; what is reported when only a part was done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Sapwood

WHOLE = ("gc", "verify", "repair", "refs", "recover", "init")


@pytest.fixture
def run(tmp_path: Path) -> Sapwood:
    """A sapwood whose default store has three refs, and a second store `st` beside it."""
    run = Sapwood(tmp_path)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a")
    for address in ("a", "b", "c", "./st#main"):
        run.good("push", "tree", address)
    return run


def refs(run: Sapwood, *store: str) -> list[str]:
    return [ref["name"] for ref in run.good("refs", "--json", *store).document]


@pytest.mark.parametrize(
    "words", [*((command, "") for command in WHOLE), ("forget", "", "--keep-last", "1"), ("stats", ""), ("cp", "a", "")]
)
def test_an_empty_word_is_not_the_default_store(run: Sapwood, words: tuple[str, ...]) -> None:
    said = run(*words)
    assert (said.code, said.out) == (2, "")
    assert "names no place" in said.err or "names no ref" in said.err


def test_an_empty_pattern_matches_nothing(run: Sapwood) -> None:
    assert run("forget", "--refs", "", "--keep-last", "1").code == 3


@pytest.mark.parametrize("command", WHOLE)
def test_where_a_whole_store_is_wanted_a_ref_is_refused(run: Sapwood, command: str) -> None:
    for address, url in (("st#main", "st"), ("s3://bucket/x#ci/1", "s3://bucket/x"), ("#a", str(run.store))):
        said = run(command, address)
        assert (said.code, said.out) == (2, "")
        assert said.err.endswith(f"hint: sapwood {command} {url}\n")
    assert not (run.home / "st#main").exists()


def test_a_directory_may_have_a_number_sign_in_its_name(run: Sapwood) -> None:
    place = run.home / "c#"
    place.mkdir()
    run.good("init", f"{place}/store")
    run.good("push", "tree", f"{place}/store#main")
    assert refs(run, f"{place}/store") == ["main"]
    place.rename(run.home / "c#x")
    assert refs(run, f"{run.home}/c#x/store") == ["main"]


@pytest.mark.parametrize(
    "words", [("push", "tree", "st"), ("stats", "st"), ("cp", "st", "other"), ("rm", "st"), ("pull", "st", "copy")]
)
def test_a_word_that_is_a_ref_or_a_store_here_is_refused(run: Sapwood, words: tuple[str, ...]) -> None:
    said = run(*words)
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith("\nhint: '#st' is the ref, ./st the store, ./st#REF a ref in it\n")
    assert refs(run) == ["a", "b", "c"]
    run.good("push", "tree", "#st")
    assert refs(run) == ["a", "b", "c", "st"]


def test_what_was_removed_before_an_error_is_reported(run: Sapwood) -> None:
    said = run("rm", "--json", "a", "missing", "b")
    assert [gone["ref"] for gone in said.document] == ["a"]
    assert (said.code, "has no ref missing" in said.err) == (3, True)
    said = run("rm", "b", "missing")
    assert (said.code, said.err.splitlines()[0].partition(",")[0]) == (3, f"removed: {run.store}#b")
    assert refs(run) == ["c"]


def test_what_was_forgotten_before_an_error_is_reported(run: Sapwood) -> None:
    (run.home / "tree" / "a").write_text("newer")
    for ref in "abc":
        run.good("push", "tree", ref)
    second = json.loads((run.store / "refs" / "b.ref").read_bytes())["snapshot"]
    (run.store / "snapshots" / f"{second.removeprefix('sha256:')}.json").unlink()
    said = run("forget", "--json", "--keep-last", "1")
    assert [done["ref"] for done in said.document] == ["a"]
    assert said.code == 3
    assert run("forget", "--keep-last", "1", "--refs", "[ab]").err.startswith("a: 1 snapshot kept, 0 snapshots")


def test_what_was_copied_before_an_error_is_reported(run: Sapwood) -> None:
    run.good("push", "tree", "other#b")
    lock = run.home / "other" / "refs" / "b.ref"
    lock.write_bytes(b"{}")
    said = run("cp", "--json", str(run.store), "other")
    assert said.code == 5
    assert [copied["ref"] for copied in said.document["copied"]] == ["a"]
    assert said.document["requestsTo"]["put"] > 0


def test_a_pattern_that_nothing_matches_is_an_error(run: Sapwood) -> None:
    said = run("forget", "--refs", "zz*", "--keep-last", "1")
    assert (said.code, said.out) == (3, "")
    assert said.err == f"sapwood: {run.store} has no ref that matches zz*\nhint: sapwood refs {run.store}\n"


def test_a_place_that_can_be_no_store_is_said_to_be_that(run: Sapwood) -> None:
    said = run("init", "/proc/x")
    assert (said.code, said.err.splitlines()[-1]) == (7, "hint: ls -ld /proc")
    said = run("verify", "tree")
    assert said.err.endswith(f"hint: name a store; an empty place becomes one by: sapwood init {run.home}/tree\n")
    for command in ("recover", "repair"):
        said = run(command, "tree")
        assert (said.code, said.err) == (
            2,
            f"sapwood: {run.home}/tree: not a store: there is no sapwood.json, and no pack\n"
            "hint: name the store that has lost it\n",
        )
    said = run("repair", "--from", "nowhere")
    assert (said.code, said.err) == (
        2,
        "sapwood: nowhere: neither a store nor a directory nor a tar\n"
        "hint: sapwood repair --from DIR|TAR|STORE_URL STORE_URL\n",
    )
