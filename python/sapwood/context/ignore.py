"""The rules of a `.dockerignore`: which paths of a context are left out.

Invariant: a path is left out if the last rule that matches it or a directory above it has no `!`; what a rule matches
is as docker has it, whose own table of cases is in tests/unit/test_dockerignore.py, and which is itself asked in
tests/interop/test_dockerignore_by_docker.py. Not here: which rules a context
has, and what becomes of directories (`selection`).
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

from sapwood.errors import InvalidInputError

__all__ = ["Rule", "Rules"]

_SPECIAL = re.compile(r"[*?\[\]\\]")
# What follows { where docker takes it for so many times what is before.
_REPEATS = re.compile(r"[0-9]+(,[0-9]*)?\}")
# What Go takes for white space; Python's own has four characters more.
_WHITE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"


@dataclass(frozen=True)
class Rule:
    """One line: a pattern, cleaned as a path, and whether it brings back what it matches."""

    pattern: str
    brings_back: bool = False
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise what `Rules.parse` raises of a pattern that is none."""
        object.__setattr__(self, "_compiled", re.compile(_expression(self.pattern)))

    def matches(self, path: str) -> bool:
        """Say whether it matches this very path, be it what it may."""
        return self._compiled.fullmatch(path) is not None

    def may_match_below(self, folder: str) -> bool:
        """Say whether it may match something below a directory; False is certain."""
        for ours, theirs in zip(self.pattern.split("/"), folder.split("/"), strict=False):
            if _SPECIAL.search(ours):
                return True
            if ours != theirs:
                return False
        return self.pattern.count("/") > folder.count("/")


@dataclass(frozen=True)
class Rules:
    """All rules of a context, in order."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, text: str, name: str) -> Rules:
        """Read the lines of a file called `name`.

        Raises:
            InvalidInputError: `bad-dockerignore`, with the line.
        """
        found = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            if line.startswith("#") or not (said := line.strip(_WHITE)):
                continue
            try:
                if (rule := _rule(said)) is not None:
                    found.append(rule)
            except InvalidInputError as error:
                raise InvalidInputError(f"{name}, line {number}: {error}", kind="bad-dockerignore") from None
        return cls(tuple(found))

    def bringing_back(self, path: str) -> Rules:
        """Return these and one that brings back `path`, if they leave that out."""
        if not self.leaves_out(path):
            return self
        return Rules((*self.rules, Rule(_SPECIAL.sub(r"\\\g<0>", path), brings_back=True)))

    def leaves_out(self, path: str) -> bool:
        """Say whether a path, relative to the context, is left out itself."""
        parts = path.split("/")
        matched: tuple[bool, ...] = ()
        for end in range(1, len(parts) + 1):
            matched = self.matched("/".join(parts[:end]), matched)
        return self.decided(matched)

    def matched(self, path: str, above: tuple[bool, ...] = ()) -> tuple[bool, ...]:
        """Say of each rule whether it matches `path` or a directory above, of which `above` says it already.

        As docker does it, a rule that would change nothing is not asked: `!dir` says nothing of what is below, unless
        rules before it had left `dir` out.
        """
        found, is_out = [], False
        for was, rule in zip(above or (False,) * len(self.rules), self.rules, strict=True):
            found.append(is_matched := was or (rule.brings_back is is_out and rule.matches(path)))
            if is_matched:
                is_out = not rule.brings_back
        return tuple(found)

    def decided(self, matched: tuple[bool, ...]) -> bool:
        """Say whether that of which `matched` tells is left out."""
        last = next((rule for was, rule in zip(reversed(matched), reversed(self.rules), strict=True) if was), None)
        return last is not None and not last.brings_back

    def may_bring_back_below(self, folder: str, matched: tuple[bool, ...]) -> bool:
        """Say whether anything below a directory that is left out may not be; False is certain."""
        return any(
            rule.brings_back and rule.may_match_below(folder)
            for rule, was in zip(self.rules, matched, strict=True)
            if not was
        )


def _rule(said: str) -> Rule | None:
    """Return what a line without white space around it means; None of one that speaks of nothing in the context."""
    # In two steps, as docker has it: /!a is !a, and !/ is ! alone.
    brings_back = said.startswith("!")
    relative = _cleaned(said[1:].strip(_WHITE) if brings_back else said)
    if len(relative) > 1:
        relative = relative.removeprefix("/")
    whole = _cleaned(("!" * brings_back + relative).strip(_WHITE))
    if not whole:
        return None
    rule = Rule(whole.removeprefix("!"), brings_back=whole.startswith("!"))
    if not rule.pattern:
        raise _bad("! with nothing behind it")
    return None if rule.pattern in ("/", ".", "..") or rule.pattern.startswith("../") else rule


def _cleaned(path: str) -> str:
    """Return a path in its shortest form; nothing stays nothing."""
    return posixpath.normpath("/" + path.lstrip("/") if path.startswith("/") else path) if path else ""


def _expression(pattern: str) -> str:
    """Return what a pattern means, as an expression that shall match the whole path."""
    if not _SPECIAL.search(pattern):
        return re.escape(pattern)
    if pattern.startswith("**") and not _SPECIAL.search(pattern[2:]):
        # However it goes on, it is an ending: **file matches profile, too.
        ending = pattern[2:]
        if ending.startswith("/"):
            return rf"(?s:.*/)?{re.escape(ending[1:])}"
        return rf"(?s:.*){re.escape(ending)}"
    if pattern.endswith("**") and not _SPECIAL.search(pattern[:-2]):
        return rf"{re.escape(pattern[:-2])}(?s:.*)"
    out, at = "", 0
    while at < len(pattern):
        c = pattern[at]
        at += 1
        if c == "*" and pattern[at : at + 1] == "*":
            at += 1
            at += pattern[at : at + 1] == "/"
            out += ".*" if at == len(pattern) else "(?:.*/)?"
        elif c == "*":
            out += "[^/]*"
        elif c == "?":
            out += "[^/]"
        elif c == "\\":
            out += _quoted(pattern[at : at + 1])
            at += 1
        elif c == "[":
            said, at = _class(pattern, at)
            out += said
        elif c == "|" or (c == "{" and _REPEATS.match(pattern, at)):
            # Docker's are an expression's.
            raise _bad(f"{c} beside any of * ? [ ] \\")
        else:
            # And so is this: the beginning.
            out += c if c == "^" else re.escape(c)
    return out


def _quoted(c: str) -> str:
    if not c:
        raise _bad("a backslash at the end")
    if not c.isascii() or c.isalnum():
        # Docker's is an expression's: \d any digit.
        raise _bad(f"a backslash before {c}")
    return re.escape(c)


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Return the expression of what stands in brackets from `at`, and where it ends."""
    is_negated = pattern[at : at + 1] == "^"
    at += is_negated
    said = ""
    while True:
        if said and pattern[at : at + 1] == "]":
            return f"[{'^' if is_negated else ''}{said}]", at + 1
        first, at = _one(pattern, at)
        last = first
        if pattern[at : at + 1] == "-":
            last, at = _one(pattern, at + 1)
        if first > last:
            raise _bad(f"a range from {first} to {last}")
        said += f"{re.escape(first)}-{re.escape(last)}"


def _one(pattern: str, at: int) -> tuple[str, int]:
    """Return a character of a class, and where it ends."""
    if pattern[at : at + 2] == "[:":
        raise _bad("a class with a name")
    if pattern[at : at + 1] == "\\":
        at += 1
        _quoted(pattern[at : at + 1])
    elif pattern[at : at + 1] in ("-", "]"):
        raise _bad(f"a class with {pattern[at]} where a character should be")
    elif pattern[at : at + 1] in ("*", "?"):
        # Docker makes an expression of it before it looks for brackets.
        raise _bad(f"a class with {pattern[at]}")
    if at >= len(pattern):
        raise _bad("a class without an end")
    return pattern[at], at + 1


def _bad(why: str) -> InvalidInputError:
    return InvalidInputError(why, kind="bad-dockerignore")
