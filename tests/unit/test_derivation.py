"""Derivations and graphs: what can never be built is refused by name before anything is."""

import dataclasses
from pathlib import Path

import pytest

from sapwood.build import derivation, output, stored
from sapwood.build.dot import dot
from sapwood.build.graph import Graph
from sapwood.build.load import load, load_graph, split_target
from sapwood.errors import InvalidInputError, NotFoundError


def named(name, **words):
    return derivation(name, "true", **words)


def test_a_derivation_is_frozen_and_is_itself_only():
    one = named("one", env={"B": "2", "A": "1"}, outputs=["./out//x", "a"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "two"
    assert one.env == (("A", "1"), ("B", "2"))
    assert one.outputs == ("a", "out/x")
    assert one.command == ("/bin/sh", "-euc", "true")
    assert one != named("one", env={"B": "2", "A": "1"}, outputs=["./out//x", "a"])
    assert one.base == Path(__file__).parent


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("", {}, "no name"),
        ("a/b", {}, "no name"),
        ("a.ref", {}, "no name"),
        ("a", {"command": ""}, "no command"),
        ("a", {"command": []}, "no command"),
        ("a", {"command": ["x", "a\0b"]}, "no command"),
        ("a", {"sources": "src"}, "one string"),
        ("a", {"sources": {"/x": "src"}}, "no relative path"),
        ("a", {"sources": {"../x": "src"}}, "leaves the place"),
        ("a", {"sources": [""]}, "no path"),
        ("a", {"outputs": ["."]}, "names nothing"),
        ("a", {"outputs": ["x/../../y"]}, "leaves the place"),
        ("a", {"outputs": ["caf\udce9"]}, "not UTF-8"),
        ("a", {"outputs": ["x", "x/y"]}, "lies in output x"),
        ("a", {"outputs": ["x", "x-y", "x/y/z"]}, "x/y/z lies in output x"),
        ("a", {"sources": ["src"], "outputs": ["src"]}, "would hold the input"),
        ("a", {"sources": ["out/src"], "outputs": ["out"]}, "would hold the input"),
        ("a", {"sources": {"x": "src"}, "deps": {"x": "other"}}, "both at x"),
        ("a", {"deps": {"x": 1}}, "no derivation and no output"),
        ("a", {"deps": "other"}, "one thing"),
        ("a", {"env": {"A=": "1"}}, "no name"),
        ("a", {"env": {"A": "\0"}}, "no text"),
        ("a", {"timeout_s": 0}, "limit"),
        ("a", {"memory": -1}, "limit"),
    ],
)
def test_what_can_never_be_built_is_refused(name, words, says):
    with pytest.raises(InvalidInputError) as refused:
        derivation(name, **{"command": "true", **words})
    assert refused.value.kind == "bad-derivation"
    assert says in str(refused.value)


def test_an_output_that_is_not_declared_is_refused_by_reference_and_by_name():
    one = named("one", outputs=["x"])
    with pytest.raises(InvalidInputError) as refused:
        one.output("y")
    assert refused.value.kind == "bad-derivation"
    with pytest.raises(InvalidInputError) as refused:
        Graph([named("two", deps={"in": "one:y"})], [one])
    assert (refused.value.kind, refused.value.hint) == ("bad-derivation", "its outputs: x")


def test_dependencies_come_first_and_each_once():
    a = named("a")
    b = named("b", deps=[a])
    c = named("c", deps={"x": a, "y": b, "z": output("d")})
    d = named("d", deps=[a])
    graph = Graph([c], [d])
    assert [one.name for one in graph] == ["a", "b", "d", "c"]
    assert graph.needs(c) == [a, b, d]


def test_a_circle_is_named_all_the_way_round():
    with pytest.raises(InvalidInputError) as refused:
        Graph([named("a", deps={"x": "b"})], [named("b", deps={"x": "c"}), named("c", deps={"x": "b"})])
    assert refused.value.kind == "derivation-cycle"
    assert "b -> c -> b" in str(refused.value)
    with pytest.raises(InvalidInputError, match="a -> a"):
        Graph([named("a", deps={"x": "a"})])


def test_a_name_that_two_bear_or_nobody_is_refused():
    with pytest.raises(InvalidInputError) as refused:
        Graph([named("b", deps=[named("a")]), named("a")])
    assert refused.value.kind == "duplicate-name"
    with pytest.raises(NotFoundError) as missing:
        Graph([named("b", deps={"x": "lip"})], [named("lib")])
    assert (missing.value.kind, missing.value.hint) == ("target-missing", "there is lib")


def test_a_chain_of_ten_thousand_is_a_graph():
    last = named("d0")
    for number in range(1, 10_000):
        last = named(f"d{number}", deps=[last])
    graph = Graph([last])
    assert [graph.order[0].name, graph.order[-1].name, len(graph)] == ["d0", "d9999", 10_000]


def test_a_build_file_exports_what_its_globals_hold(tmp_path):
    (tmp_path / "parts.py").write_text("FLAGS = {'A': '1'}\n")
    (tmp_path / "BUILD.py").write_text(
        "from parts import FLAGS\n"
        "from sapwood.build import derivation\n"
        "one = derivation('one', 'true', env=FLAGS)\n"
        "more = [derivation(f'n{i}', 'true', deps=[one]) for i in range(2)]\n"
        "again = {'x': one}\n"
    )
    found = load(tmp_path / "BUILD.py")
    assert [each.name for each in found] == ["one", "n0", "n1"]
    assert {each.base for each in found} == {tmp_path}
    assert [each.name for each in load_graph(f"{tmp_path}:n1")] == ["one", "n1"]
    assert split_target(str(tmp_path)) == (tmp_path / "BUILD.py", None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "declares no derivation"),
        ("\n1/0\n", "BUILD.py:2: ZeroDivisionError"),
        ("def f(:\n", "BUILD.py:1: SyntaxError"),
        ("import sys\nsys.exit()\n", "BUILD.py:2: SystemExit"),
    ],
)
def test_a_build_file_that_cannot_be_run_is_named_with_its_line(tmp_path, text, says):
    (tmp_path / "BUILD.py").write_text(text)
    with pytest.raises(InvalidInputError) as refused:
        load(tmp_path / "BUILD.py")
    assert refused.value.kind == "bad-build-file"
    assert says in str(refused.value)


def test_a_missing_build_file_and_a_bad_derivation_in_one_are_named(tmp_path):
    with pytest.raises(NotFoundError) as missing:
        load(tmp_path / "BUILD.py")
    assert missing.value.kind == "build-file-missing"
    (tmp_path / "BUILD.py").write_text("from sapwood.build import derivation\nx = derivation('x', '')\n")
    with pytest.raises(InvalidInputError) as refused:
        load(tmp_path / "BUILD.py")
    assert refused.value.kind == "bad-derivation"
    assert refused.value.__notes__ == [f"{tmp_path / 'BUILD.py'}:2"]


def test_a_graph_is_drawn_with_an_arrow_to_each_need():
    lib = named("lib", outputs=["lib.o"])
    text = dot(Graph([named("app", deps={"in": lib.output("lib.o"), "data": lib})]), {"lib"})
    assert '"app" -> "lib" [label="lib.o", tooltip="in"];' in text
    assert '"lib" [style="rounded,filled", penwidth=1];' in text


def test_a_stored_source_is_an_address():
    assert named("a", sources={"x": stored("main")}).sources == (("x", stored("main")),)
