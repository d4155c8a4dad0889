"""Inputs that lie elsewhere: fetched as they are read, or with `lazy=False` all of them before the builder starts."""

import os
import threading
from pathlib import Path

import pytest

from sapwood import open_store
from sapwood.build import derivation
from sapwood.build.defaults import Defaults, read_defaults, write_defaults
from sapwood.errors import CorruptError, InvalidInputError, UnavailableError
from tests.support import webserver
from tests.support.building import Place

SIZE = 20 << 20
BEGAN = "python3 -c 'import urllib.request, sys; urllib.request.urlopen(sys.argv[1])' {url}/sapwood.json?began"


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A build on another machine, whose store is served by a web server: (URL, requests so far, derivation)."""
    place = Place(tmp_path / "far")
    place.sources.mkdir(parents=True)
    with (place.sources / "large").open("wb") as file:
        for _ in range(4):
            file.write(os.urandom(SIZE // 4))
    (place.sources / "small").write_text("small\n")
    lib = derivation(
        "lib", "mkdir out; cp large small out", sources=["large", "small"], outputs=["out"], base=place.sources
    )
    place.build(lib)
    asked: list[str] = []
    serve = webserver._Handler._serve

    def noting(self, *, with_body):
        asked.append(self.path)
        serve(self, with_body=with_body)

    monkeypatch.setattr(webserver._Handler, "_serve", noting)
    monkeypatch.setenv("SAPWOOD_CACHE", str(tmp_path / "cache of another machine"))
    with webserver.serving(place.home / "results") as url:
        yield url, asked, lib


def build(tmp_path, far, command, *, lazy=True, lazy_builder=None, lazy_store=True, timeout_s=None):
    """Build what reads the far output, by a declaration that is `lazy`, by a builder that is, into a store that is."""
    url, _, lib = far
    place = Place(tmp_path / "near")
    place.sources.mkdir(parents=True)
    command = f"{BEGAN.format(url=url)}; {command}"
    one = derivation(
        "one", command, deps={"in": lib}, outputs=["x"], network=True, lazy=lazy, base=place.sources,
        timeout_s=timeout_s,
    )  # fmt: skip
    write_defaults(place.store(), Defaults(lazy=lazy_store))
    built = place.build(one, stores=[place.store(), open_store(url)], lazy=lazy_builder)
    return place.read(built, "one", b"x")


def split(asked: list[str]) -> tuple[list[str], list[str]]:
    """Return what was asked for before the builder began, and what after."""
    at = asked.index("/sapwood.json?began")
    return asked[:at], asked[at + 1 :]


def test_a_large_output_is_read_while_the_builder_runs_and_only_what_it_reads(tmp_path, far):
    assert build(tmp_path, far, "cat in/out/small >x") == b"small\n"
    _, after = split(far[1])
    assert [path for path in after if path.startswith("/packs/")]


def test_a_builder_that_waits_for_an_input_burns_none_of_its_time(tmp_path, far, monkeypatch):
    serve, late = webserver._Handler._serve, set[str]()

    def slow(self, *, with_body):
        if "/sapwood.json?began" in far[1] and self.path.startswith("/packs/") and not late:
            late.add(self.path)
            threading.Event().wait(12)  # longer than it may take, however slow this machine is
        serve(self, with_body=with_body)

    monkeypatch.setattr(webserver._Handler, "_serve", slow)
    assert build(tmp_path, far, "cat in/out/small >x", timeout_s=10) == b"small\n"
    assert late
    with pytest.raises(InvalidInputError, match="it took more than 4 s"):
        build(tmp_path / "again", far, "cat in/out/small; exec sleep 1000", timeout_s=4)


@pytest.mark.parametrize("words", [{"lazy": False}, {"lazy_builder": False}, {"lazy_store": False}])
def test_without_laziness_nothing_is_fetched_after_the_builder_has_begun(tmp_path, far, words):
    """The observer is the server itself: the builder tells it when it begins, then reads all of its inputs."""
    assert build(tmp_path, far, "cat in/out/* | wc -c >x", **words) == f"{SIZE + 6}\n".encode()
    before, after = split(far[1])
    assert [path for path in before if path.startswith("/packs/")]
    assert after == []


def test_what_a_call_says_goes_before_what_the_store_says(tmp_path, far):
    assert build(tmp_path, far, "cat in/out/small >x", lazy_builder=True, lazy_store=False) == b"small\n"
    assert [path for path in split(far[1])[1] if path.startswith("/packs/")]


def test_defaults_that_are_damaged_are_said_to_be(tmp_path):
    store = Place(tmp_path).store()
    (tmp_path / "results" / "builds.json").write_text('{"format":1, "lazy":true}')
    with pytest.raises(CorruptError) as damaged:
        read_defaults(store)
    assert damaged.value.kind == "defaults-corrupt"
    write_defaults(store, Defaults(lazy=False))
    assert read_defaults(store) == Defaults(lazy=False)


def test_a_hit_whose_output_nobody_reads_moves_no_byte_of_it(tmp_path, far):
    url, asked, lib = far
    place = Place(tmp_path / "near")
    place.sources.mkdir(parents=True)
    assert place.build(lib, stores=[place.store(), open_store(url)]).hits == 1
    assert not [path for path in asked if path.startswith("/maps/")]


@pytest.mark.parametrize("then", ["", " || echo made of nothing >x"], ids=["which it says", "which it does not mind"])
def test_a_builder_whose_input_cannot_be_read_has_no_result_and_has_not_failed_by_itself(
    tmp_path, far, monkeypatch, then
):
    serve = webserver._Handler._serve

    def losing(self, *, with_body):
        if self.path.endswith("?began"):
            for pack in (tmp_path / "far" / "results" / "packs").iterdir():
                pack.unlink()
        serve(self, with_body=with_body)

    monkeypatch.setattr(webserver._Handler, "_serve", losing)
    with pytest.raises(UnavailableError) as failed:
        build(tmp_path, far, f"cat in/out/large >x{then}")
    assert failed.value.kind == "inputs-unavailable"
    assert "reads of its inputs failed" in str(failed.value)
    near = Place(tmp_path / "near").store()
    assert list(near.refs()) == []
    assert not list((tmp_path / "near" / "results").glob("actions/*"))
