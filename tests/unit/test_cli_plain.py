"""Plain command lines mean without argparse what they mean with it."""

import argparse
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sapwood.cli.main import modules
from sapwood.cli.plain import PlainParser

COMMANDS: dict[str, Any] = {
    name: import_module(f"sapwood.cli.{module}").COMMANDS[name] for name, module in modules().items()
}
WORDS = ["dir", "", "-", "--", "-x y", "--index", "--index=", "--index=f=g", "--json", "--json=1", "-1", "-h", "--help"]
WORDS += ["--exclude", "--exclude=*.o", "--no-prefetch", "--lazy", "--skip-unreadable", "--jso", "-l", "-lR", "-z"]


def group(words: list[str]) -> list[dict[str, Any] | None]:
    """Parse by a parser with options that exclude each other, plainly and by argparse."""
    plain: Any = PlainParser()
    parsers = [plain, argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)]
    for parser in parsers:
        exclusive = parser.add_mutually_exclusive_group()
        exclusive.add_argument("-z", dest="nul", action="store_true")
        exclusive.add_argument("-j", "--json", action="store_true")
    parsed = plain.parse(words)
    try:
        return [parsed and vars(parsed), vars(parsers[1].parse_args(words))]
    except (argparse.ArgumentError, SystemExit):
        return [parsed and vars(parsed), None]


@pytest.mark.parametrize("words", [["-z"], ["--json"], ["-z", "-z"], [], ["-j"]], ids=" ".join)
def test_options_that_exclude_each_other_are_plain_alone(words: list[str]) -> None:
    plain, usual = group(words)
    assert plain == usual is not None


def test_options_that_exclude_each_other_are_refused_together() -> None:
    assert group(["-z", "--json"]) == [None, None]


def with_argparse(name: str, words: list[str]) -> dict[str, Any] | None:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    COMMANDS[name].configure(parser)
    try:
        return vars(parser.parse_args(words))
    except (argparse.ArgumentError, SystemExit):
        return None


def plainly(name: str, words: list[str]) -> dict[str, Any] | None:
    parser: Any = PlainParser()
    COMMANDS[name].configure(parser)
    parsed = parser.parse(words)
    return None if parsed is None else vars(parsed)


@given(name=st.sampled_from(sorted(COMMANDS)), words=st.lists(st.sampled_from(WORDS), max_size=5))
def test_what_is_parsed_plainly_is_what_argparse_says(name: str, words: list[str]) -> None:
    if (parsed := plainly(name, words)) is not None:
        assert parsed == with_argparse(name, words)


@pytest.mark.parametrize(
    "words",
    [["."], ["--json", "."], [".", "--index", "f"], ["--index=f", "--skip-unreadable", "--json", "d"]],
    ids=" ".join,
)
def test_every_usual_way_to_say_hash_is_plain(words: list[str]) -> None:
    assert plainly("hash", words) == with_argparse("hash", words)
    assert plainly("hash", words) is not None
