"""With `gitignore` a tree has what git would track, and `.sapwoodignore` files mean what `.gitignore` files mean."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sapwood import Index, Options

# fmt: off
NAMES = [
    b"a", b"b", b"ab", b"ba", b"A", b"1", b"a.o", b".a", b"{a,b}", b"a,b", b"[a]", b"*", b"?", b"-", b"!", b"^", b"]",
    b"\\", b"#a", b"!a", b"a ", b" a", b"a b", b"a\t", b"a\nb", b"a\r", "é".encode(), "aé".encode(), b"\xff",
    b"a\xff",
]
# fmt: on
FOLDERS = [b"a", b"b", b"a/a", b"a/b", b"b/a", b"a/a/b"]
RULED = [b"", b"a", b"a/a"]

# fmt: off
PIECES = [
    "a", "b", "ab", "A", "1", ".", "o", "*", "?", "/", "/", "/**/", "[ab]", "[!a]", "[^b]", "[]a]", "[!]a]", "[a-]",
    "[-a]", "[a-c]", "[!a-c]", "[c-a]", "[/]", "[!/a]", "[a/b]", "[\\]]", "[\\\\]", "[^]", "[!]", "[a!^]", "[\\^]",
    "[\\!\\^]", "[\\^!]", "[+--]", "[a-\\b]", "[[:alpha:]]", "[[:digit:]a]", "[![:upper:]]", "[[:space:]]",
    "[[:punct:]]", "[[:none:]]", "[[:a]", "[[:]", "[[::]]", "[é]", "[!é]", "[aé]", "\\a", "\\*", "\\?", "\\[", "\\]",
    "\\\\", "\\{", "\\!", "\\#", "\\ ", "\\/", "{a,b}", "{", "}", ",", "é", " ", "\t", "\r", "#", "!", "-", "]", "^",
    "[", "[a", "\\", "\u3000",
]
# fmt: on

PATTERN = st.builds(
    lambda begin, pieces, end: begin + "".join(pieces) + end,
    st.sampled_from(["", "", "", "!", "!", "/", "!/", "**/", "!**/", "#", " ", "\\!", "\\#", "\ufeff"]),
    st.lists(st.sampled_from(PIECES), max_size=4),
    st.sampled_from(["", "", "", "/", "/", "/**", "/*", " ", "  ", "\\ ", "\\", "\t", "\r", "//", "/ "]),
)
RULES = st.lists(st.lists(PATTERN, max_size=4), min_size=len(RULED), max_size=len(RULED))


@pytest.fixture(scope="module")
def git() -> list[str]:
    return ["git", "-c", "core.excludesFile=/dev/null", "-c", "core.quotePath=false"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, git: list[str]) -> Path:
    root = tmp_path_factory.mktemp("repository")
    subprocess.run([*git, "init", "--quiet", "--template=", root], check=True)
    for folder in FOLDERS:
        os.makedirs(os.path.join(os.fsencode(root), folder))
    for folder in [b"", *FOLDERS]:
        for name in NAMES:
            path = os.path.join(os.fsencode(root), folder, name)
            if not os.path.isdir(path):
                with open(path, "wb") as file:
                    file.write(name)
        os.makedirs(os.path.join(os.fsencode(root), folder, b"d", b"{a,b}", b"[a]"))
        os.symlink(b"a", os.path.join(os.fsencode(root), folder, b"link"))
    return root


def everything(root: Path) -> list[bytes]:
    top = os.fsencode(root)

    def below(folder: bytes) -> Iterator[bytes]:
        for entry in os.scandir(os.path.join(top, folder)):
            if folder or entry.name != b".git":
                path = os.path.join(folder, entry.name)
                yield path
                if entry.is_dir(follow_symlinks=False):
                    yield from below(path)

    return sorted(below(b""))


def ignored_by_git(git: list[str], root: Path) -> set[bytes]:
    asked = b"".join(path + b"\0" for path in everything(root))
    said = subprocess.run(
        [*git, "-C", root, "check-ignore", "-z", "--stdin", "--no-index"],
        input=asked,
        stdout=subprocess.PIPE,
        check=False,
    )
    assert said.returncode in (0, 1)
    return set(said.stdout.split(b"\0")) - {b""}


def left_out(root: Path, index: Path, options: Options) -> set[bytes]:
    tree = Index(root, index, options).tree()
    return set(everything(root)) - {path for path, _ in tree.list()}


@given(RULES)
@example([["[a-]", "!{a,b}", "\\ "], ["/**", "!/a/"], ["*", "!*/", "!b"]])
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_gitignore_leaves_out_what_git_ignores(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, git: list[str], rules: list[list[str]]
) -> None:
    for folder, lines in zip(RULED, rules, strict=True):
        path = os.path.join(os.fsencode(repository), folder, b".gitignore")
        with open(path, "wb") as file:
            file.write("\n".join(lines).encode())
    index = tmp_path_factory.mktemp("index") / "index"
    assert left_out(repository, index, Options(gitignore=True)) == ignored_by_git(git, repository)
