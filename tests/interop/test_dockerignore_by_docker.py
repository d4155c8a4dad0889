"""Random `.dockerignore` files: what is in a context is what docker's own libraries send of the directory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sapwood.context.ignore import Rules
from sapwood.context.selection import exclusions
from sapwood.errors import InvalidInputError
from sapwood.tree import Index, Tree
from sapwood.tree.options import Options
from tests.interop.conftest import Programs

FILES = [
    "a", "a.md", "b/a.md", "b/c/a", "b/c/d.md", "b/e/f", "b/e/[f]", "c/b/a", "README.md", "x y/z", " lead", "ü.md",
    "d/e/f/g/h", "d/e/x", "!bang", "#hash", "b^c", "q|r", "back\\slash", "foo/a/bar", "foo/bar", "star*", "t]u",
    "dir/file", "-", "d/-x", "profile", "a{2}", "{a,b}",
]  # fmt: skip
PARTS = [
    "a", "b", "c", "d", "e", "f", "foo", "bar", "dir", "file", "*", "**", "?", "*.md", "README.md", "x y", "ü",
    "[a-c]", "[^a]", "[f]", "\\[f\\]", "..", ".", "", "-", "b^c", "q|r", "\\*", "star\\*", "a*", "*a", "**a", "a**",
    "!bang", "#hash", "[[]", "]", "t]u", "[", "[]", "\\", "^", "[a", "[b-a]", "[\\-x]", "**.md", "***", "****", "h",
    "$", "(", "+", "b?", "[!a]", "?a", "pro**", " ", "a{2}", "{a,b}", "b[^x]c", "[a/b]", "^b", "^**", "\\d", "[\\d]",
    "\\ü",
]  # fmt: skip
WHITE = ["", "", "", " ", "\t", "  ", "\r", "\u3000", "\x1f"]
# docs/context.md: what docker takes, or takes as long as it is not asked, and hardly anybody means.
REFUSED = ("a backslash ", "a class ", "a range ", "| beside ", "{ beside ")

patterns = st.tuples(
    st.sampled_from(["", "", "", "/", "./"]), st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("/".join)
).map("".join)
lines = st.tuples(st.sampled_from(WHITE), st.sampled_from(["", "", "!", "! "]), patterns, st.sampled_from(WHITE))
odd = st.sampled_from(["", " ", "#x", " # y", "!", "! ", "!/", "!.", "!..", "!!a", "!//", "/", ".", "..", "! /", "/ /"])
texts = st.tuples(
    st.sampled_from(["", "", "", "\ufeff"]), st.lists(lines.map("".join) | odd, max_size=5).map("\n".join)
).map("".join)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("context")
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "empty").mkdir()
    return root


def sent(root: Path, text: str) -> list[str] | InvalidInputError:
    """Return what a tree of `root` has, or why there is none."""
    try:
        exclude = exclusions(str(root), Rules.parse(text, "rules"))
    except InvalidInputError as error:
        return error
    with tempfile.TemporaryDirectory() as scratch:
        return sorted(names(Index(root, f"{scratch}/index", Options(exclude=exclude)).tree(), ""))


def names(tree: Tree, prefix: str) -> Iterator[str]:
    for name, item in tree.list_immediate():
        yield (path := prefix + os.fsdecode(name))
        if isinstance(item, Tree):
            yield from names(item, f"{path}/")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(several=st.lists(texts, min_size=1, max_size=40))
def test_a_context_has_what_docker_would_send_of_it(programs: Programs, context: Path, several: list[str]) -> None:
    said = programs("ignored", context, stdin="".join(map(json.dumps, several)))
    for text, line in zip(several, said.splitlines(), strict=True):
        theirs, ours = json.loads(line), sent(context, text)
        if isinstance(theirs, str):  # why not
            assert isinstance(ours, InvalidInputError), (text, theirs)
        elif isinstance(ours, InvalidInputError):
            assert str(ours).split(": ", 1)[1].startswith(REFUSED), (text, ours)
        else:
            # Go sorts bytes.
            assert ours == sorted(theirs), text
