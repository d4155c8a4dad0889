"""Plain command lines, parsed without argparse, whose import and set-up take half as long as Python's own start.

Promise: what `parse` returns is what argparse returns. Whatever is not plain (help, mistakes, joined options, `--`,
arguments of a kind that is not in `_SIMPLE`) is left to argparse, which alone explains and complains
(tests/unit/test_cli_plain.py compares the two).
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without the 5 ms that importing typing takes
if TYPE_CHECKING:
    from typing import Any

_SIMPLE = {"store", "store_true", "store_false", "append"}
_WORDS = {"action", "dest", "help", "metavar"}
# argparse.REMAINDER: all that is behind the arguments before, whatever it looks like.
_REST = "..."


class Namespace:
    """What was parsed, as attributes."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


class PlainParser:
    """Takes the declarations that `argparse.ArgumentParser` takes."""

    def __init__(self) -> None:
        self._plain = True
        self._places: list[str] = []
        self._rest: list[str] = []  # names of what takes the rest: at most one
        self._options: dict[str, tuple[str, str]] = {}  # option -> (action, name of the value)
        self._defaults: dict[str, Any] = {}
        self._groups: list[_Group] = []

    def add_argument(self, *names: str, **words: Any) -> None:
        """Declare an argument."""
        action = words.get("action", "store")
        if words.get("nargs") == _REST and not self._rest:
            self._rest.append(names[0])
        elif not words.keys() <= _WORDS or action not in _SIMPLE:
            self._plain = False
        elif not names[0].startswith("-"):
            self._places.append(names[0])
        else:
            long = next((name for name in names if name.startswith("--")), names[0])
            value = words.get("dest") or long.lstrip("-").replace("-", "_")
            self._options.update(dict.fromkeys(names, (action, value)))
            self._defaults[value] = {"store_true": False, "store_false": True}.get(action)

    def add_mutually_exclusive_group(self) -> _Group:
        """Declare that of the options added to the result at most one may be given."""
        self._groups.append(_Group(self))
        return self._groups[-1]

    def __getattr__(self, _: str) -> Any:
        """Take any other declaration (subcommands): it is not plain, nor is what is added to its result."""
        self._plain = False
        return lambda *_, **__: self

    def parse(self, arguments: list[str]) -> Any:
        """Return the values, or None when it takes argparse to say."""
        values, places, given = dict(self._defaults), [], set()
        words = iter(arguments)
        for word in words:
            if not word.startswith("-") or word == "-":
                places.append(word)
                if self._rest and len(places) == len(self._places):
                    values[self._rest[0]] = [*words]
                continue
            name, joined, text = word.partition("=")
            given.add(name)
            action, value = self._options.get(name, ("", ""))
            if action in ("store", "append") and (joined or (text := next(words, "-x")) == "-" or text[:1] != "-"):
                values[value] = text if action == "store" else [*(values[value] or ()), text]
            elif action.startswith("store_") and not joined:
                values[value] = action == "store_true"
            else:
                return None
        if (
            not self._plain
            or len(places) != len(self._places)
            or any(len(group.options & given) > 1 for group in self._groups)
        ):
            return None
        return Namespace(values | dict(zip(self._places, places, strict=True)))


class _Group:
    def __init__(self, parser: PlainParser) -> None:
        self._parser = parser
        self.options: set[str] = set()

    def add_argument(self, *names: str, **words: Any) -> None:
        self.options.update(names)
        self._parser.add_argument(*names, **words)
