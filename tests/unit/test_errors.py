"""Errors: one printable line, a class and a kind that survive, and no kind that no test raises."""

from __future__ import annotations

import ast
import inspect
import pickle
import re
from pathlib import Path

import pytest

import sapwood.errors
from sapwood.errors import CorruptError, InvalidInputError, SapwoodError, UnavailableError

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [value for value in vars(sapwood.errors).values() if inspect.isclass(value)]
OURS = [value for value in CLASSES if issubclass(value, SapwoodError)]


def test_the_tree_is_what_the_house_style_says() -> None:
    assert {value.__name__ for value in OURS} == set(sapwood.errors.__all__)
    assert {value.__name__ for value in OURS if value.__base__ is SapwoodError} | {"SapwoodError"} == {
        "SapwoodError", "NotFoundError", "ConflictError", "CorruptError", "UnavailableError",
        "DeniedError", "InvalidInputError", "FormatError", "StoppedError", "InternalError",
    }  # fmt: skip
    assert issubclass(InvalidInputError, ValueError)


def test_errors_import_nothing_of_ours() -> None:
    tree = ast.parse(inspect.getsource(sapwood.errors))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [module for module in modules if module and module.startswith("sapwood")]


@pytest.mark.parametrize("kind_of_error", OURS)
def test_an_error_survives_pickling_with_all_it_knows(kind_of_error: type[SapwoodError]) -> None:
    error = kind_of_error("pack 12 is gone", kind="pack-missing", hint="sapwood push", pack="12", at=(1, 2))
    error.add_note("seen twice")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind_of_error
    assert str(again) == "pack 12 is gone"
    assert vars(again) == vars(error)
    assert (again.kind, again.hint, again.pack, again.at) == ("pack-missing", "sapwood push", "12", (1, 2))
    assert again.__notes__ == ["seen twice"]


def test_a_wait_survives_pickling() -> None:
    error = UnavailableError("busy", kind="store-unreachable", retry_after_s=7.5)
    assert pickle.loads(pickle.dumps(error)).retry_after_s == 7.5


def test_a_hint_cannot_drive_a_terminal_either() -> None:
    assert CorruptError("x", kind="ref-corrupt", hint="a\x1b[8m\nb").hint == "a\\x1b[8m\\nb"


def test_a_hint_is_none_unless_there_is_one() -> None:
    assert CorruptError("x", kind="ref-corrupt").hint is None


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("two\nlines", r"two\nlines"),
        ("\x1b[2Jcleared", r"\x1b[2Jcleared"),
        ("caf\udce9", r"caf\xe9"),
        ("right\u202eleft", r"right\u202eleft"),
        ("a  b ü 木", "a  b ü 木"),
    ],
)
def test_a_message_is_one_line_that_drives_no_terminal(given: str, shown: str) -> None:
    assert str(SapwoodError(given, kind="x")) == shown


def test_every_kind_that_stores_and_archives_raise_is_raised_by_a_test() -> None:
    sources = [ROOT / "python/sapwood/digests.py", ROOT / "python/sapwood/fetch.py"]
    sources += [
        file
        for room in ("store", "archive", "build", "image", "serve", "worker", "context")
        for file in (ROOT / "python/sapwood" / room).glob("*.py")
    ]
    kinds = set[str]()
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "kind" and isinstance(node.value, ast.Constant):
                kinds.add(node.value.value)
    assert {"ref-moved", "object-missing", "bad-digest", "archive-corrupt", "archive-changed"} <= kinds
    # What the core says of archives.
    core = (ROOT / "crates/binding/src/errors.rs").read_text(encoding="utf-8")
    kinds |= set(re.findall(r'"(archive-[a-z-]+)"', core))
    assert "archive-chunk-too-large" in kinds
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    tests += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/contract").glob("*.py"))
    assert sorted(kind for kind in kinds if f'"{kind}"' not in tests) == []
