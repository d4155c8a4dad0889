"""The difference of two trees as text: what other programs make of it, and what it looks like."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings

from sapwood.tree import Leaf, Tree, read_plain, unified_diff, write_plain
from tests.support.models import MODELS, File, Link, Model, model_of, tree_of, walked

TEN = b"".join(b"line %d\n" % number for number in range(1, 11))


def text(a: dict[bytes, object], b: dict[bytes, object]) -> str:
    return b"".join(unified_diff(Tree.of(a), Tree.of(b))).decode()


def without_empty(model: Model) -> Model:
    """What git and patch know of a tree."""
    left = ((name, without_empty(item) if isinstance(item, dict) else item) for name, item in model.items())
    return {name: item for name, item in left if item != {}}


def applied(words: list[str], old: Model, new: Model) -> Model:
    """What a program makes of `old` that is given the difference to `new`."""
    with tempfile.TemporaryDirectory() as home:
        place = Path(home) / "tree"
        write_plain(tree_of(without_empty(old)), place)
        lines = b"".join(unified_diff(tree_of(without_empty(old)), tree_of(without_empty(new))))
        done = subprocess.run(words, cwd=place, input=lines, capture_output=True, check=False)
        assert done.returncode == 0, (done, lines)
        return without_empty(model_of(read_plain(place)))


@settings(max_examples=80, deadline=None)
@given(MODELS, MODELS)
@example({b"a": File(b"one\n")}, {b"a": Link(b"elsewhere")})
@example({b"a": Link(b"here")}, {b"a": Link(b"there")})
@example({b"a": File(b"")}, {b"b": File(b"", True)})
def test_patch_makes_the_one_tree_of_the_other(old: Model, new: Model) -> None:
    assert shutil.which("patch"), "scripts/require.sh test installs it"
    before, after = dict(walked(without_empty(old))), dict(walked(without_empty(new)))
    # Of a directory patch makes no file, and the other way round.
    both = before.keys() & after.keys()
    assume(all(isinstance(before[path], dict) == isinstance(after[path], dict) for path in both))
    assert applied(["patch", "-p1", "--no-backup-if-mismatch"], old, new) == without_empty(new)


@settings(max_examples=30, deadline=None)
@given(MODELS, MODELS)
@example({b"a": File(b"")}, {b"a": {b"b": File(b"", True)}})
@example({b"a": {b"b": File(b"x")}}, {b"a": File(b"x", True)})
@example({b"a": {b"b": File(b"x")}, b"b": File(b"x")}, {b"a": Link(b"b"), b"b": {b"a": Link(b"x")}})
def test_git_apply_makes_the_one_tree_of_the_other(old: Model, new: Model) -> None:
    if without_empty(old) != without_empty(new):  # git takes no empty patch
        assert applied(["git", "apply"], old, new) == without_empty(new)


def test_hunks_are_those_of_diff_u(tmp_path: Path) -> None:
    new = TEN.replace(b"line 2\n", b"").replace(b"line 9\n", b"line nine\nand a half\n")
    assert text({b"a": TEN}, {b"a": new}) == (
        "diff --git a/a b/a\n--- a/a\n+++ b/a\n"
        "@@ -1,10 +1,10 @@\n line 1\n-line 2\n line 3\n line 4\n line 5\n line 6\n line 7\n line 8\n"
        "-line 9\n+line nine\n+and a half\n line 10\n"
    )
    many = b"\n" * 5000
    found = text({b"a": many + b"x\n" + many}, {b"a": many + b"y\n" + many})
    assert found.splitlines()[3:] == ["@@ -4998,7 +4998,7 @@", " ", " ", " ", "-x", "+y", " ", " ", " "]


def test_a_missing_end_of_line_is_said() -> None:
    assert text({b"a": b"one\ntwo"}, {b"a": b"one\ntwo\n"}).splitlines()[3:] == [
        "@@ -1,2 +1,2 @@", " one", "-two", "\\ No newline at end of file", "+two",
    ]  # fmt: skip


def test_what_is_added_or_removed_comes_from_or_goes_to_dev_null() -> None:
    assert text({b"old": b"x\n"}, {b"new": Leaf.file(b"y\n", executable=True), b"empty": b""}) == (
        "diff --git a/empty b/empty\nnew file mode 100644\n"
        "diff --git a/new b/new\nnew file mode 100755\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+y\n"
        "diff --git a/old b/old\ndeleted file mode 100644\n--- a/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    )


def test_modes_and_symlinks_are_shown_as_git_shows_them() -> None:
    assert text({b"a": b"x"}, {b"a": Leaf.file(b"x", executable=True)}) == (
        "diff --git a/a b/a\nold mode 100644\nnew mode 100755\n"
    )
    assert text({b"a": b"x\n"}, {b"a": Leaf.symlink(b"b")}) == (
        "diff --git a/a b/a\ndeleted file mode 100644\n--- a/a\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        "diff --git a/a b/a\nnew file mode 120000\n--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+b\n"
        "\\ No newline at end of file\n"
    )


def test_what_text_cannot_say_is_named() -> None:
    assert text({b"a": b"\0one"}, {b"a": b"\0two", b"b": b"\0"}) == (
        "diff --git a/a b/a\nBinary files a/a and b/a differ\n"
        "diff --git a/b b/b\nnew file mode 100644\nBinary files /dev/null and b/b differ\n"
    )
    assert text({b"d": {b"e": {}}}, {}) == "Only in a/d: e (dir)\n"


def test_no_name_drives_a_terminal_or_breaks_a_line() -> None:
    found = text({}, {b"\x1b[2J\n": b"x\n"})
    assert found.splitlines()[0] == 'diff --git "a/\\033[2J\\n" "b/\\033[2J\\n"'
    assert text({}, {b"a b": b"x\n"}).splitlines()[3] == '+++ "b/a b"'


def test_only_files_that_differ_are_read() -> None:
    class Unreadable:
        path = name = b""
        kind, mode, links, size, target, device = "reg", 0o644, 1, 5, None, None
        digest = "sha256:" + "1" * 64

    same = Leaf(None, Unreadable())  # type: ignore[arg-type]
    assert text({b"a": same, b"b": b"1\n"}, {b"a": same, b"b": b"2\n"}).count("diff --git") == 1


@pytest.mark.parametrize("context", [0, 1, 7])
def test_as_much_context_is_shown_as_asked(context: int) -> None:
    old = {b"a": TEN}
    lines = list(unified_diff(Tree.of(old), Tree.of({b"a": TEN.replace(b" 6\n", b" six\n")}), context=context))
    assert len([line for line in lines[4:] if line.startswith(b" ")]) == min(5, context) + min(4, context)
