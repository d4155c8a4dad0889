"""`.dockerignore`: what docker's own table says of patterns, and what becomes of directories."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapwood.context.ignore import Rules
from sapwood.context.selection import exclusions
from sapwood.errors import DeniedError, InvalidInputError
from sapwood.tree import Index, Tree
from sapwood.tree.options import Options

# From the tests of moby's patternmatcher: pattern, path, whether it is matched itself or by way of a directory above.
TABLE = [
    ("**", "file", True), ("**/", "file", True), ("**", "dir/file", True), ("**/**", "dir/file", True),
    ("dir/**", "dir/file", True), ("dir/**", "dir/dir2/file", True), ("**/dir", "dir", True),
    ("**/dir", "dir/file", True), ("**/dir2/*", "dir/dir2/file", True), ("**/dir2/**", "dir/dir2/dir3/file", True),
    ("**file", "file", True), ("**file", "dir/file", True), ("**/file", "dir/file", True),
    ("**file", "dir/dir/file", True), ("**/file*", "dir/dir/file.txt", True), ("**/file*txt", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True), ("**/**/*.txt", "dir/dir/file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False), ("**/*.txt", "file.txt", True), ("**/**/*.txt", "file.txt", True),
    ("a**/*.txt", "a/file.txt", True), ("a**/*.txt", "a/dir/file.txt", True), ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a/*.txt", "a/dir/file.txt", False), ("a/*.txt", "a/file.txt", True), ("a/*.txt**", "a/file.txt", True),
    ("a[b-d]e", "ae", False), ("a[b-d]e", "ace", True), ("a[b-d]e", "aae", False), ("a[^b-d]e", "aze", True),
    (".*", ".foo", True), (".*", "foo", False), ("abc.def", "abcdef", False), ("abc.def", "abc.def", True),
    ("abc.def", "abcZdef", False), ("abc?def", "abcZdef", True), ("abc?def", "abcdef", False),
    ("**/foo/bar", "foo/bar", True), ("**/foo/bar", "dir/foo/bar", True), ("**/foo/bar", "dir/dir2/foo/bar", True),
    ("abc/**", "abc", False), ("abc/**", "abc/def", True), ("abc/**", "abc/def/ghi", True), ("**/.foo", ".foo", True),
    ("**/.foo", "bar.foo", False), ("a(b)c/def", "a(b)c/def", True), ("a(b)c/def", "a(b)c/xyz", False),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", True), ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3.whl", True),
    ("a\\\\", "a\\", True), ("a\\*b", "a*b", True),
    # of filepath.Match
    ("abc", "abc", True), ("*c", "abc", True), ("a*", "a", True), ("a*", "ab/c", True), ("a*/b", "abc/b", True),
    ("a*/b", "a/c/b", False), ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True), ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True), ("a*b?c*x", "abxbbxdbxebxczzy", False), ("ab[c]", "abc", True),
    ("ab[e-g]", "abc", False), ("ab[^e-g]", "abc", True), ("a\\*b", "ab", False), ("a?b", "a☺b", True),
    ("a[^a]b", "a☺b", True), ("a???b", "a☺b", False), ("[a-ζ]*", "β", True), ("*[a-ζ]", "A", False),
    ("a?b", "a/b", False), ("a*b", "a/b", False), ("[\\]a]", "]", True), ("[\\-]", "-", True), ("[x\\-]", "x", True),
    ("[x\\-]", "-", True), ("[x\\-]", "z", False), ("[\\-x]", "x", True), ("[\\-x]", "a", False), ("*x", "xxx", True),
]  # fmt: skip
SEVERAL = [
    (["**", "!util/docker/web"], "util/docker/web/foo", False),
    (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
    (["**", "!dist/*.whl"], "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", False),
    (["!fileutils.go", "*.go"], "fileutils.go", True), (["*.go", "!fileutils.go"], "fileutils.go", False),
    (["docs", "!docs/README.md"], "docs/README.md", False), (["docs/", "!docs/README.md"], "docs/README.md", False),
    (["docs/*", "!docs/README.md"], "docs/README.md", False),
    (["docs", "  !docs/README.md  "], "docs/README.md", False),
    (["# no rule", "", "\t", "/docs", "! docs/a"], "docs/b", True), (["# no", "/docs", "! docs/a"], "docs/a", False),
    ([".", "/", "..", "../x"], "x", False), (["a/./b//c/../d/"], "a/b/d", True), (["\ufeffa"], "a", True),
    (["\u2003a\u3000"], "a", True), (["\x1fa"], "a", False), (["/ a"], "a", True), (["*", "!/ a"], "a", True),
    (["a|b", "a^b"], "a|b", True), (["a/**"], "a/b\nc", True), (["/!a", "a"], "a", True), (["a", "/!a"], "a", False),
    (["/ /", "a"], "a", True), (["^a*"], "ab", True), (["a^*"], "a^b", False), (["^/**"], "^/b", True),
    (["dir/file", "!dir"], "dir/file", True), (["dir", "dir/file", "!dir"], "dir/file", False),
    (["{a,b}*"], "{a,b}", True),
]  # fmt: skip
BAD = ["!", "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "[b-a]", "\\d", "[[:alpha:]]",
    "[*]", "[a?]", "a|?", "!/", "! /", "!//.", "../[", "\\ü", "[\\d]", "a{2}*", "?{1,}"]  # fmt: skip


@pytest.mark.parametrize(("pattern", "path", "is_out"), TABLE)
def test_a_pattern_matches_what_docker_says(pattern: str, path: str, is_out: bool) -> None:
    assert Rules.parse(pattern, "x").leaves_out(path) is is_out


@pytest.mark.parametrize(("lines", "path", "is_out"), SEVERAL)
def test_of_several_the_last_that_matches_decides(lines: list[str], path: str, is_out: bool) -> None:
    assert Rules.parse("\n".join(lines), "x").leaves_out(path) is is_out


@pytest.mark.parametrize("line", BAD)
def test_what_is_no_pattern_is_refused_by_file_and_line(line: str) -> None:
    with pytest.raises(InvalidInputError, match=r"rules, line 2: .") as bad:
        Rules.parse(f"good\n{line}", "rules")
    assert bad.value.kind == "bad-dockerignore"


FILES = ["a", "a.md", "b/a.md", "b/c/a", "b/c/d.md", "b/e/f", "c/b/a", "README.md", "x y/z", "ü.md"]


def left_in(root: Path, rules: Rules) -> set[str]:
    """Return what a tree of `root` has, by way of what the scan is told."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Index(root, f"{scratch}/index", Options(exclude=exclusions(str(root), rules))).tree()
        return set(names(tree, ""))


def names(tree: Tree, prefix: str) -> Iterator[str]:
    for name, item in tree.list_immediate():
        yield (path := prefix + os.fsdecode(name))
        if isinstance(item, Tree):
            yield from names(item, f"{path}/")


def expected(root: Path, rules: Rules) -> set[str]:
    """Return what is left in by the definition: each path asked for itself, and directories above."""
    every = {str(path.relative_to(root)) for path in root.rglob("*")}
    kept = {path for path in every if not rules.leaves_out(path)}
    return kept | {str(above) for path in kept for above in Path(path).parents if str(above) != "."}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("context")
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "empty").mkdir()
    return root


PATTERNS = [
    "*", "**", "a", "b", "b/c", "*.md", "**/*.md", "b/*", "README.md", "b/**", "**/a", "x y", "ü.md", "?", "c/b/a",
    "empty", "b/e/[f]",
]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(lines=st.lists(st.tuples(st.booleans(), st.sampled_from(PATTERNS)), max_size=5))
def test_the_tree_has_what_the_rules_leave_in_and_what_is_above(context: Path, lines: list[tuple[bool, str]]) -> None:
    rules = Rules.parse("\n".join(("!" if back else "") + pattern for back, pattern in lines), "x")
    assert left_in(context, rules) == expected(context, rules)


def test_names_that_no_rule_can_say_are_refused_not_sent(tmp_path: Path) -> None:
    (tmp_path / "\udcff").write_text("secret")
    with pytest.raises(InvalidInputError) as bad:
        exclusions(str(tmp_path), Rules.parse("**\n!a/b", "x"))
    assert bad.value.kind == "bad-dockerignore"


def test_a_directory_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DeniedError) as denied:
        exclusions(str(tmp_path), Rules.parse("**\n!a/b", "x"))
    assert denied.value.kind == "path-denied"
